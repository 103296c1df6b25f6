from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import penstock as ps
from penstock.errors import DeclarationError
from penstock.records import RouteChanges
from penstock.spec import (
    Deployment,
    Trainer,
    declarations_in,
    fingerprint,
    from_document,
    key_of,
    to_document,
)

if TYPE_CHECKING:
    from penstock.spec import Declared


def _deployment(**fields: Any) -> Deployment:  # noqa: ANN401 - whatever is declared
    source = ps.Source(
        "sales", entity=ps.Entity("shop"), timestamp="at",
        schema={"shop": ps.String, "at": ps.Timestamp, "amount": ps.Float64},
    )  # fmt: skip
    view = ps.FeatureView("habits", source=source, features=[ps.last("amount")])
    label = ps.Label("more", ps.lead("amount", "1h") > ps.col("amount"))
    split = ps.TimeSplit(embargo="1h")
    data = ps.Dataset("more", spine=source, features=[view], label=label, split=split)
    trainer = Trainer(kind="sklearn", estimator="a:B")
    return ps.Deployment(
        "more", model=ps.Model("more", dataset=data, candidates=[trainer]), **fields
    )


def test_an_experiment_comes_back_from_storage() -> None:
    rails = [ps.Guardrail(metric="latency_ms", worse=2.0)]
    plan = ps.Experiment("new", version=3, share=0.2, on_win="promote", guardrails=rails)
    declared = _deployment(experiment=plan)
    known: dict[str, Declared] = {}
    for one in declarations_in([declared]):
        known[key_of(one)] = from_document(type(one), to_document(one), known)

    again = known["deployment/more"]

    assert again == declared
    assert plan.target == "@3"
    assert plan.metric_of("classification") == "log_loss"
    assert ps.Experiment("new").target == "candidate"


def test_a_deployment_without_one_means_what_it_meant() -> None:
    assert "experiment" not in to_document(_deployment())
    assert fingerprint(_deployment()) != fingerprint(_deployment(experiment=ps.Experiment("new")))


def test_all_faults_of_an_experiment_are_told_at_once() -> None:
    with pytest.raises(DeclarationError) as caught:
        ps.Experiment(
            "New one", alias="champion", version=3, share=1.0, alpha=0.7, min_scores=0, max_days=0,
            every="soon", better="more", on_win="keep", on_loss="keep",  # type: ignore[arg-type]  # what is wrong
            guardrails=[ps.Guardrail(metric="brier"), ps.Guardrail(metric="brier")],
        )  # fmt: skip

    for words in (
        "name 'New one'", "an alias and a version", "the champion is the other arm", "share=1.0",
        "alpha=0.7", "min_scores=0", "max_days=0", "every: 'soon'", "better='more'",
        "on_win='keep'", "on_loss='keep'", "guardrail 'brier' is declared 2 times",
    ):  # fmt: skip
        assert words in str(caught.value), words
    with pytest.raises(DeclarationError, match="worse=-1"):
        ps.Guardrail(metric="brier", worse=-1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"experiment": ps.Experiment("new", metric="squared_error")}, "'squared_error' cannot be"),
        ({"experiment": ps.Experiment("new", metric="log_los")}, "Did you mean 'log_loss'"),
        (
            {"experiment": ps.Experiment("new", guardrails=[ps.Guardrail(metric="latency")])},
            "Did you mean 'latency_ms'",
        ),
        (
            {"experiment": ps.Experiment("new", share=0.5),
             "routes": [ps.champion(), ps.challenger(share=0.5)]},
            "leave nothing to the champion",
        ),
        (
            {"experiment": ps.Experiment("new", on_win="promote"), "approve": ps.Approval()},
            "pass by the approval",
        ),
        (
            {"experiment": ps.Experiment("new", on_win="promote"), "canary": ps.Canary()},
            "pass by the canary that a version has to go by",
        ),
    ],
)  # fmt: skip
def test_an_experiment_has_to_go_with_its_deployment(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        _deployment(**fields)


def test_routes_that_were_changed_before_there_were_salts_are_read() -> None:
    old = b'{"deployment":"d","changed_at":"2026-01-01T00:00:00Z","changed_by":"a",'
    old += b'"shares":{"@3":0.1}}'

    read = msgspec.json.decode(old, type=RouteChanges)

    assert (dict(read.shares), dict(read.salts)) == ({"@3": 0.1}, {})


def test_a_bandit_comes_back_from_storage_and_says_its_targets() -> None:
    plan = ps.Bandit("promo", arms=["challenger", 7], floor=0.1)
    declared = _deployment(bandit=plan)
    known: dict[str, Declared] = {}
    for one in declarations_in([declared]):
        known[key_of(one)] = from_document(type(one), to_document(one), known)

    assert known["deployment/more"] == declared
    assert plan.targets == ("challenger", "@7")
    assert "bandit" not in to_document(_deployment())


def test_what_was_observed_beside_the_outcome_has_a_name_that_can_be_told() -> None:
    plan = ps.Experiment("new", metric="measures.revenue", better="smaller")
    assert _deployment(experiment=plan).experiment == plan

    for wrong in ("measures.", "measures.Revenue", "measure.revenue", "measures.a-b"):
        with pytest.raises(DeclarationError, match="cannot be measured of a score"):
            _deployment(experiment=ps.Experiment("new", metric=wrong))
        with pytest.raises(DeclarationError, match="cannot be measured of a score"):
            _deployment(bandit=ps.Bandit("promo", arms=[2], metric=wrong))


def test_all_faults_of_a_bandit_are_told_at_once() -> None:
    with pytest.raises(DeclarationError) as caught:
        ps.Bandit(
            "Promo", arms=["champion", "challenger", "challenger", "chalenger", 0], floor=0.4,
            every="0s", min_scores=0,
        )  # fmt: skip

    for words in (
        "name 'Promo'", "the champion is an arm already", "arm 'challenger' is declared 2 times",
        "Did you mean 'challenger'", "0 is no version", "floor=0.4", "every is zero",
        "min_scores=0",
    ):  # fmt: skip
        assert words in str(caught.value), words
    with pytest.raises(DeclarationError, match="no arm beside the champion"):
        ps.Bandit("promo", arms=[])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bandit": ps.Bandit("promo", arms=[2], metric="mae")}, "'mae' cannot be measured"),
        (
            {"bandit": ps.Bandit("promo", arms=[2]), "canary": ps.Canary()},
            "a bandit and a canary",
        ),
        (
            {"bandit": ps.Bandit("promo", arms=[2]), "experiment": ps.Experiment("new")},
            "move each other's shares",
        ),
        (
            {"bandit": ps.Bandit("promo", arms=[2]),
             "routes": [ps.champion(), ps.challenger(share=0.1)]},
            "make them arms of the bandit",
        ),
    ],
)  # fmt: skip
def test_a_bandit_has_to_go_with_its_deployment(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        _deployment(**fields)
