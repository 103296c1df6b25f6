from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

import penstock as ps
from penstock.errors import NotFoundError, StateError
from penstock.plan import Catalogue
from penstock.records import AppliedDeclaration
from penstock.spec import (
    Deployment,
    Model,
    Source,
    Trainer,
    declarations_in,
    fingerprint,
    key_of,
    kind_of,
    to_document,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CANDLES = ps.Source(
    "candles",
    entity=ps.Entity("symbol"),
    timestamp="ts",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
)
VIEW = ps.FeatureView("momentum", source=CANDLES, features=[ps.last("close")])
DATA = ps.Dataset(
    "hourly",
    spine=CANDLES,
    features=[VIEW],
    label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")),
    split=ps.TimeSplit(embargo="1h"),
)
TRAINER = Trainer(kind="sklearn", estimator="sklearn.linear_model:LogisticRegression")
MODELS = [ps.Model(name, dataset=DATA, candidates=[TRAINER]) for name in ("one", "two")]
GRAPH = ps.Graph("both", dataset=DATA, steps={"a": ps.Predict(MODELS[0])})
DECLARED = declarations_in(
    [
        ps.Deployment("first", model=MODELS[0]),
        ps.Deployment("second", model=MODELS[1]),
        ps.Deployment("again", model=MODELS[0]),
        ps.Deployment("graph", model=GRAPH),
    ]
)


def records() -> list[AppliedDeclaration]:
    return [
        AppliedDeclaration(
            declared_kind=kind_of(value), name=value.name, document=to_document(value),
            fingerprint=fingerprint(value), version=1, position=position, applied_at=NOW,
            applied_by="tester",
        )
        for position, value in enumerate(DECLARED)
    ]  # fmt: skip


def without(key: str) -> list[AppliedDeclaration]:
    """The records, that of one key damaged."""
    return [
        msgspec.structs.replace(one, document={"name": one.name, "broken": 1})
        if one.key == key
        else one
        for one in records()
    ]


def test_what_was_stored_is_what_was_declared_in_order() -> None:
    catalogue = Catalogue.of(reversed(records()))
    assert list(catalogue.declarations) == [key_of(value) for value in DECLARED]
    assert tuple(catalogue.declarations.values()) == DECLARED
    assert catalogue.fingerprint(VIEW) == fingerprint(VIEW)
    assert catalogue.all(Model) == (*MODELS, GRAPH)
    assert catalogue.model("both") == GRAPH
    assert catalogue.deployment("first").model is catalogue.model("one")


def test_nothing_is_built_that_nobody_asks_for() -> None:
    catalogue = Catalogue.of(without("model/two"))
    assert catalogue.model("one") == MODELS[0]
    assert catalogue.all(Source) == (CANDLES,)
    assert [one.name for one in catalogue.deployments_of("one")] == ["first", "again"]
    assert [one.name for one in catalogue.deployments_of("both")] == ["graph"]
    assert catalogue.deployments_of("three") == ()
    with pytest.raises(StateError, match="stored model 'two' cannot be read"):
        catalogue.all(Deployment)
    with pytest.raises(NotFoundError, match="no model 'thwo'"):
        catalogue.model("thwo")


def test_a_catalogue_of_values_says_the_same() -> None:
    plain = Catalogue({key_of(value): value for value in DECLARED}, {})
    assert [one.name for one in plain.deployments_of("one")] == ["first", "again"]
    assert plain.model("two") == MODELS[1]
