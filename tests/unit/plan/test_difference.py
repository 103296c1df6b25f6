from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import pytest

import penstock as ps
from penstock.errors import DeclarationError
from penstock.plan import Change, Create, FieldChange, Plan, Remove, Stale, apply, difference
from penstock.records import AppliedDeclaration

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.ports import Metadata
    from penstock.spec import Expression, Project

    ProjectOf: TypeAlias = Callable[..., Project]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = [
    "entity/symbol",
    "source/candles",
    "feature_view/momentum",
    "dataset/direction",
    "model/model",
    "deployment/btc",
]


@pytest.fixture
def applied(metadata: Metadata, project_of: ProjectOf) -> list[AppliedDeclaration]:
    apply(metadata, project_of(), actor="ann", now=NOW)
    return metadata.find(AppliedDeclaration)


def test_everything_is_created_each_after_what_it_refers_to(project_of: ProjectOf) -> None:
    plan = difference(project_of(), [])
    assert plan == Plan(project="trading", steps=tuple(Create(key=key) for key in KEYS))


def test_the_same_project_differs_in_nothing(
    project_of: ProjectOf, applied: list[AppliedDeclaration]
) -> None:
    assert difference(project_of(), applied).is_empty


def test_a_changed_feature_makes_stale_what_was_made_from_it(
    project_of: ProjectOf, applied: list[AppliedDeclaration]
) -> None:
    change, *stale = difference(project_of(over="12h"), applied).steps
    assert isinstance(change, Change)
    assert change.meaning
    assert change.detail == "features.m.over: 6h -> 12h"
    because = ("feature_view/momentum",)
    assert stale == [
        Stale(key="feature_view/momentum", action="backfill", because=because),
        Stale(key="dataset/direction", action="rebuild", because=because),
        Stale(key="model/model", action="retrain", because=because),
        Stale(key="deployment/btc", action="keep", because=because),
    ]


def test_what_is_only_shown_makes_nothing_stale(
    project_of: ProjectOf, applied: list[AppliedDeclaration]
) -> None:
    (change,) = difference(project_of(description="new"), applied).steps
    assert isinstance(change, Change)
    assert not change.meaning


def test_what_is_said_of_a_feature_makes_nothing_stale(
    project_of: ProjectOf, applied: list[AppliedDeclaration]
) -> None:
    said = {"unit": "USD", "tags": ["pii"], "deprecated": "2027-01-01", "instead": "l"}
    (change,) = difference(project_of(said=said), applied).steps
    assert isinstance(change, Change)
    assert not change.meaning
    assert change.detail == (
        "features.m.unit: nothing -> USD\nfeatures.m.tags: nothing -> pii\n"
        "features.m.deprecated: nothing -> 2027-01-01\nfeatures.m.instead: nothing -> l"
    )


def test_a_changed_feature_that_is_said_more_of_is_stale_all_the_same(
    project_of: ProjectOf, applied: list[AppliedDeclaration]
) -> None:
    change, *stale = difference(project_of(over="12h", said={"unit": "USD"}), applied).steps
    assert isinstance(change, Change)
    assert change.meaning
    assert len(stale) == 4


def test_a_field_is_told_in_words() -> None:
    slow = {"op": "mean", "column": "close", "over": "2d", "where": None, "name": "slow", "k": 0}
    assert FieldChange(path="features.slow", before=None, after=slow).text == (
        "features.slow: nothing -> op mean, column close, over 2d"
    )
    rules = [{"rule": "positive", "columns": ["close"]}, {"rule": "unique", "columns": ["a", "b"]}]
    assert FieldChange(path="expect", before=rules, after=[]).text == (
        "expect: (rule positive, columns close), (rule unique, columns a, b) -> nothing"
    )
    assert FieldChange(path="as_known", before=False, after=True).text == "as_known: false -> true"
    assert FieldChange(path="seed", before=0, after=7.5).text == "seed: 0 -> 7.5"


def test_a_deployments_own_change_makes_nothing_stale(
    project_of: ProjectOf, applied: list[AppliedDeclaration]
) -> None:
    (change,) = difference(project_of(deadline="30ms"), applied).steps
    assert isinstance(change, Change)
    assert change.detail == "fallback.deadline: 20ms -> 30ms"


def test_a_renamed_view_is_one_removed_and_one_created(
    project_of: ProjectOf, applied: list[AppliedDeclaration]
) -> None:
    plan = difference(project_of(view_name="other"), applied)
    assert Create(key="feature_view/other") in plan.steps
    assert Remove(key="feature_view/momentum") in plan.steps
    assert {(s.key, s.because) for s in plan.stale} == {
        ("dataset/direction", ("feature_view/other", "dataset/direction")),
        ("model/model", ("feature_view/other", "dataset/direction")),
        ("deployment/btc", ("feature_view/other", "dataset/direction")),
    }


def test_every_fault_is_reported_at_once(
    project_of: ProjectOf, applied: list[AppliedDeclaration]
) -> None:
    changed = project_of(view_name="other", close=ps.Int64)
    with pytest.raises(DeclarationError) as caught:
        difference(
            changed,
            applied,
            ingested=["candles"],
            needed={"feature_view/momentum": ["model@3"]},
        )
    removal, schema = caught.value.faults
    assert "model@3 reads it and is live" in removal
    assert "schema.close changes from float64 to int64" in schema
    assert not difference(changed, applied).is_empty


def test_a_view_the_engine_refuses_cannot_be_applied() -> None:
    word = ps.Entity("word")
    source = ps.Source(
        "words", entity=word, timestamp="ts", schema={"word": ps.String, "ts": ps.Timestamp}
    )
    view = ps.FeatureView(
        "v", source=source, derive={"d": ps.col("word") + 1}, features=[ps.mean("d")]
    )
    asked = ps.OnDemandView("o", request={"w": ps.String}, features={"f": ps.col("w") * 2})
    with pytest.raises(DeclarationError) as caught:
        difference(ps.Project("p", declarations=[view, asked]), [])
    derived, computed = caught.value.faults
    assert derived.startswith("feature_view/v: derive 'd'")
    assert computed.startswith("on_demand_view/o: feature 'f'")


def test_a_label_of_types_that_do_not_go_together_cannot_be_applied() -> None:
    word = ps.Entity("word")
    source = ps.Source(
        "words",
        entity=word,
        timestamp="ts",
        schema={"word": ps.String, "ts": ps.Timestamp, "kind": ps.String, "odd": ps.Boolean},
    )
    view = ps.FeatureView("v", source=source, features=[ps.count(over="1d")])
    labels: dict[str, Expression] = {
        "wrong": ps.col("kind") > 3,
        "text": ps.col("kind"),
        "late": ps.lead("ts", "1h"),
        "odd": ps.col("odd"),
        "same": ps.col("kind").eq("x"),
    }
    split = ps.TimeSplit(embargo="1h")
    datasets = [
        ps.Dataset(name, spine=source, features=[view], label=ps.Label(name, value), split=split)
        for name, value in labels.items()
    ]
    with pytest.raises(DeclarationError) as caught:
        difference(ps.Project("p", declarations=[view, *datasets]), [])
    wrong, text, late = caught.value.faults
    assert wrong.startswith("dataset/wrong: label 'wrong': ")
    assert "given float64" in wrong
    assert "label 'text' gives string" in text
    assert "label 'late' gives timestamp" in late


def test_other_changes_of_a_source_with_data_are_allowed(
    project_of: ProjectOf, applied: list[AppliedDeclaration]
) -> None:
    change, *stale = difference(
        project_of(expect_positive=False), applied, ingested=["candles"]
    ).steps
    assert isinstance(change, Change)
    assert change.detail.startswith("expect: ")
    assert change.detail.endswith(" -> nothing")
    assert len(stale) == 4


def test_a_new_declaration_has_nothing_more_to_say(project_of: ProjectOf) -> None:
    assert {row["detail"] for row in difference(project_of(), []).as_rows()} == {""}


def test_rows_and_documents_say_the_same(
    project_of: ProjectOf, applied: list[AppliedDeclaration]
) -> None:
    plan = difference(project_of(over="12h", without_deployment=True), applied)
    assert [(row["step"], row["kind"], row["name"]) for row in plan.as_rows()] == [
        ("change", "feature_view", "momentum"),
        ("remove", "deployment", "btc"),
        ("stale", "feature_view", "momentum"),
        ("stale", "dataset", "direction"),
        ("stale", "model", "model"),
    ]
    document = msgspec.json.encode(plan.as_document())
    steps = msgspec.json.decode(document, type=dict[str, msgspec.Raw])["steps"]
    again = msgspec.json.decode(steps, type=tuple[Change | Remove | Stale, ...])
    assert again == plan.steps
