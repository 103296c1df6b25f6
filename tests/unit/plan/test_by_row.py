"""A function that looks at other rows is refused before anything is stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.errors import DeclarationError
from penstock.plan import apply, preview
from penstock.spec import Trainer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.algebra import FloatArray
    from penstock.ports import Metadata
    from penstock.spec import Expression, Project

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLOSE, COUNT = ps.col("close"), ps.col("momentum.n")


def centred(values: FloatArray) -> FloatArray:
    found: FloatArray = values - values.mean()
    return found


def halved(values: FloatArray) -> FloatArray:
    return values / 2


def particular(values: FloatArray) -> FloatArray:
    if (values > 1).any():
        raise ValueError("a share is between 0 and 1")
    return centred(values)


def project(
    derive: Mapping[str, Expression] = {},  # never written
    *,
    where: Expression | None = None,
    label: Expression = CLOSE,
    demand: Expression = COUNT,
) -> Project:
    source = ps.Source(
        "candles",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
    )
    features = [ps.count(over="1h", where=where, name="n"), *(ps.last(name) for name in derive)]
    view = ps.FeatureView("momentum", source=source, derive=derive, features=features)
    edge = ps.OnDemandView("edge", views=[view], features={"e": demand})
    ahead = ps.lead("close", "1h") > label
    dataset = ps.Dataset(
        "direction",
        spine=source,
        features=[edge],
        label=ps.Label("up", ahead),
        split=ps.TimeSplit(embargo="1h"),
    )
    return ps.Project("p", declarations=[dataset])


@pytest.mark.parametrize(
    ("declared", "place"),
    [
        (project({"c": ps.function(centred, "close")}), "feature_view/momentum: derive.c"),
        (project({"c": 1 + ps.function(centred, "close")}), "feature_view/momentum: derive.c"),
        (project(where=ps.function(centred, "close") > 0), r"feature_view/momentum: n.where"),
        (project(label=ps.function(centred, "close") + 0), "dataset/direction: label"),
        (
            project(demand=ps.function(centred, "momentum.n") + 0),
            "on_demand_view/edge: features.e",
        ),
    ],
)  # fmt: skip
def test_a_function_that_looks_at_other_rows_is_refused(
    metadata: Metadata, declared: Project, place: str
) -> None:
    message = rf"{place}: The function '\S*centred' does not compute row by row: for \S+=1.5 it"
    with pytest.raises(DeclarationError, match=message):
        preview(metadata, declared, now=NOW)
    with pytest.raises(DeclarationError, match=message):
        apply(metadata, declared, actor="tester", now=NOW)


def test_what_says_nothing_of_our_numbers_is_left_to_real_rows(metadata: Metadata) -> None:
    derive = {
        "half": ps.function(halved, "close"),
        "share": ps.function(particular, "close"),
    }
    assert not apply(metadata, project(derive), actor="tester", now=NOW).is_empty


def test_checks_of_a_deployment_are_no_features(metadata: Metadata) -> None:
    """They are called with whole predictions, and may look at all of them."""
    trainer = Trainer(kind="sklearn", estimator="sklearn.linear_model:LogisticRegression")
    (dataset,) = project().declarations
    assert isinstance(dataset, ps.Dataset)
    model = ps.Model("m", dataset=dataset, candidates=[trainer])
    checks = ps.Checks(functions=[ps.function(centred)])
    endpoint = ps.Deployment("d", model=model, checks=checks)
    assert not preview(metadata, ps.Project("p", declarations=[endpoint]), now=NOW).is_empty
