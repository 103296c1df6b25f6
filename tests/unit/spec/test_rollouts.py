from __future__ import annotations

from typing import Any

import pytest

import penstock as ps
from penstock.errors import DeclarationError
from penstock.spec import Deployment, declarations_in, fingerprint, from_document, key_of
from penstock.spec import to_document as documented


def sane(predictions: Any, features: Any) -> bool:  # noqa: ANN401 - a user's function
    return len(predictions) == len(features)


def _deployment(**fields: Any) -> Deployment:  # noqa: ANN401 - whatever is declared
    shop = ps.Entity("shop")
    sales = ps.Source(
        "sales", entity=shop, timestamp="at",
        schema={"shop": ps.String, "at": ps.Timestamp, "amount": ps.Float64},
        batch=ps.Files("data/*.csv"),
    )  # fmt: skip
    view = ps.FeatureView("habits", source=sales, features=[ps.last("amount")])
    data = ps.Dataset(
        "more", spine=sales, features=[view],
        label=ps.Label("more", ps.lead("amount", "1h") > ps.col("amount")),
        split=ps.TimeSplit(embargo="1h"),
    )  # fmt: skip
    model = ps.Model(
        "more", dataset=data,
        candidates=[ps.sklearn("sklearn.linear_model:LogisticRegression")],
    )  # fmt: skip
    return ps.Deployment("more", model=model, **fields)


def test_what_is_declared_comes_back_from_storage() -> None:
    checks = ps.Checks(latency="2ms", max_flips=0.1, functions=[ps.function(sane)])
    declared = _deployment(checks=checks, approve=ps.Approval(role="writer", four_eyes=False))
    known: dict[str, Any] = {}
    for one in declarations_in([declared]):
        known[key_of(one)] = from_document(type(one), documented(one), known)

    back = known["deployment/more"]

    assert back == declared
    assert back.checks.functions[0].qualname == "sane"


def test_a_deployment_that_declares_nothing_of_it_means_what_it_meant() -> None:
    plain = _deployment()

    assert not {"checks", "approve"} & set(documented(plain))
    assert fingerprint(plain) != fingerprint(_deployment(checks=ps.Checks(max_flips=0.1)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ps.Checks(latency="fast"), "'fast' is no duration"),
        (lambda: ps.Checks(latency_64="0s"), "latency_64 is zero"),
        (lambda: ps.Checks(memory_mb=-1.0), "memory_mb=-1.0 is negative"),
        (lambda: ps.Checks(max_flips=1.5), "is no share"),
        (lambda: ps.Checks(low=1.0, high=0.0), "is above high"),
        (lambda: ps.Checks(replay=-1), "give 0 to replay nothing"),
        (lambda: ps.Checks(functions=[sane]), "give ps.function"),  # type: ignore[list-item]
        (lambda: ps.Checks(functions=[ps.function(sane, "a")]), "names columns"),
        (lambda: ps.Checks(functions=[ps.function(sane)] * 2), "declared 2 times"),
        (lambda: ps.Approval(role="reader"), "give 'writer' or 'admin'"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_work_is_said(make: Any, said: str) -> None:  # noqa: ANN401 - a lambda
    with pytest.raises(DeclarationError, match=said):
        make()
