"""A project folder, a small model, and trained candidates of it to register."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

import penstock as ps
from penstock.records import DatasetSnapshot, GateVerdict
from penstock.registry import Registration, save_native
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.runtime import LocalServices
    from penstock.spec import Model

Candidate = Callable[..., Registration]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[LocalServices]:
    home = tmp_path / "home"
    (home / ".penstock").mkdir(parents=True)
    with open_services(home, actor="tester") as opened:
        yield opened


@pytest.fixture
def model() -> Model:
    prices = ps.Source(
        "prices",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
    )
    view = ps.FeatureView("recent", source=prices, features=[ps.last("close"), ps.count()])
    dataset = ps.Dataset(
        "direction",
        spine=prices,
        features=[view],
        label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")),
        split=ps.TimeSplit(embargo="1h"),
    )
    candidates = [ps.sklearn(LogisticRegression)]
    return ps.Model("btc", dataset=dataset, candidates=candidates, owner="ann", tags=["money"])


@pytest.fixture
def snapshot(model: Model, services: LocalServices) -> DatasetSnapshot:
    return DatasetSnapshot(
        dataset_id="d1",
        dataset="direction",
        fingerprint="f",
        tables={"raw/prices": 3},
        batches={"prices": 2},
        rows=100,
        unlabelled=1,
        parts={"train": 70, "validation": 15, "test": 15, "embargo": 0},
        label_balance={},
        feature_names=model.dataset.feature_names,
        task="classification",
        artifact="0" * 64,
        created_at=services.clock.now(),
    )


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    """Make a trained candidate; ``ready`` by default."""

    def make(name: str = "LogisticRegression", *, ready: bool = True) -> Registration:
        x = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [3.0, 4.0]])
        estimator = LogisticRegression().fit(x, [0, 0, 1, 1])
        path = tmp_path / f"{name}.skops"
        save_native(estimator, path, "skops")
        sample = {"recent.last_close": x[:, 0], "recent.count": x[:, 1], "up": [0.0, 0.0, 1.0, 1.0]}
        predicted = estimator.predict_proba(x)[:, 1]
        reason = "roc_auc is 0.4, not at least 0.5"
        verdict = GateVerdict(gate="g", passed=ready, value=0.4, bound=0.5, reason=reason)
        return Registration(
            candidate=name,
            estimator="sklearn.linear_model:LogisticRegression",
            prepare="none",
            params={"C": 1.0},
            native="skops",
            model_file=path,
            metrics={"test.roc_auc": 0.4},
            sample=pl.DataFrame(sample).with_columns(prediction=predicted),
            verdicts=(verdict,),
            selected=True,
            ready=ready,
        )

    return make
