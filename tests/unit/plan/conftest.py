"""A whole small project, built anew with changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest

import penstock as ps
from penstock.adapters.sqlite import SqliteMetadata
from penstock.adapters.system import SystemClock
from penstock.spec import Declaration, Trainer
from penstock.spec.described import Shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from penstock.ports import Metadata
    from penstock.spec import Project

ProjectOf: TypeAlias = Callable[..., "Project"]


@pytest.fixture
def metadata(tmp_path: Path) -> Iterator[Metadata]:
    store = SqliteMetadata(tmp_path / "metadata.db", SystemClock())
    yield store
    store.close()


@pytest.fixture
def project_of() -> ProjectOf:
    """Builds the project; what is passed in differs from the usual."""

    def build(
        *,
        over: str = "6h",
        expect_positive: bool = True,
        description: str = "",
        deadline: str = "20ms",
        close: ps.DType = ps.Float64,
        without_deployment: bool = False,
        view_name: str = "momentum",
        name: str = "trading",
        said: Shown | None = None,
        view_deprecated: str = "",
        more: Sequence[Declaration] = (),
    ) -> Project:
        candles = ps.Source(
            "candles",
            entity=ps.Entity("symbol"),
            timestamp="ts",
            schema={"symbol": ps.String, "ts": ps.Timestamp, "close": close},
            expect=[ps.positive("close")] if expect_positive else [],
        )
        view = ps.FeatureView(
            view_name,
            source=candles,
            description=description,
            features=[
                ps.mean("close", over=over, name="m", **(said or Shown())),
                ps.last("close", name="l"),
            ],
            deprecated=view_deprecated,
        )
        dataset = ps.Dataset(
            "direction",
            spine=candles,
            features=[view],
            label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")),
            split=ps.TimeSplit(embargo="1h"),
        )
        trainer = Trainer(kind="sklearn", estimator="sklearn.linear_model:LogisticRegression")
        model = ps.Model("model", dataset=dataset, candidates=[trainer])
        endpoint = ps.Deployment("btc", model=model, fallback=ps.Fallback(deadline=deadline))
        last: Declaration = model if without_deployment else endpoint
        return ps.Project(name, declarations=[last, *more])

    return build
