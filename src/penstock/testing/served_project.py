"""A small project with trained versions: where tests and benchmarks of serving begin.

Everything in it is real and small: ingested candles, an online store, a dataset, and two
registered and packaged versions (a scaled logistic regression, then a gradient boosting). Nothing
is deployed.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import penstock as ps
from penstock.algebra import reference_bins
from penstock.datasets import build, load
from penstock.deployment import package
from penstock.features import refresh
from penstock.ingest import ingest_files
from penstock.plan import apply
from penstock.records import ModelVersion
from penstock.registry import NATIVE_FILES, Registration, nominate, register, save_native
from penstock.runtime import init_project, open_services

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import DatasetSnapshot
    from penstock.spec import Model

__all__ = ["HOURS", "START", "SYMBOLS", "ServedProject", "make_served_project"]

SYMBOLS = ("ADA", "BTC", "ETH")
START = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = 240


class ServedProject(msgspec.Struct, frozen=True):
    """Where the project is.

    Attributes:
        home: The project folder; it may be copied elsewhere.
        token: The administrator's token.
        features: Names of the model's features, in order.
        registered: The versions as they were before they were packaged.
    """

    home: Path
    token: str
    features: tuple[str, ...]
    registered: tuple[ModelVersion, ...]


def make_served_project(home: Path) -> ServedProject:
    """Make the project in a folder.

    Its deployments are ``btc`` (champion, falls back to the previous version) and ``split``
    (champion, challenger with a share of 0.4, a shadow on the candidate), both of the model
    ``direction``, whose versions 1 and 2 are ready, learned from the service ``scoring``.

    Args:
        home: The folder; made when it is not there.
    """
    token = init_project(home).read_text(encoding="utf-8").strip()
    declared = _declare()
    model = declared[0].model
    with open_services(home) as services:
        project = ps.Project("served", declarations=declared)
        apply(services.metadata, project, actor="tester", now=services.clock.now())
        _ingest(services, model)
        snapshot = build(services, model.dataset)
        linear = Pipeline(
            [
                ("impute", SimpleImputer(strategy="median")),
                ("scale", StandardScaler()),
                ("model", LogisticRegression()),
            ]
        )
        boosted = HistGradientBoostingClassifier(max_iter=15, max_depth=3, random_state=1)
        registered = (
            *_register(services, model, snapshot, linear, "scale"),
            *_register(services, model, snapshot, boosted, "none"),
        )
        for version in registered:
            nominate(services, package(services, version))
    return ServedProject(home, token, model.dataset.feature_names, registered)


def candles(symbols: tuple[str, ...], start: datetime, hours: int, seed: int) -> pl.DataFrame:
    """Hourly candles that wander.

    Args:
        symbols: Whose.
        start: Opening of the first.
        hours: How many each.
        seed: Of the walk.
    """
    rng = np.random.default_rng(seed)
    frames: list[pl.DataFrame] = []
    for symbol in symbols:
        steps = rng.normal(0, 0.01, hours)
        close = 100 * np.exp(np.cumsum(steps))
        frames.append(
            pl.DataFrame(
                {
                    "symbol": [symbol] * hours,
                    "ts": [start + timedelta(hours=hour) for hour in range(hours)],
                    "open": close / np.exp(steps),
                    "close": close,
                    "volume": rng.integers(1, 1_000, hours).astype(float),
                }
            )
        )
    return pl.concat(frames).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))


def _declare() -> tuple[ps.Deployment, ps.Deployment]:
    source = ps.Source(
        "candles",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={
            "symbol": ps.String,
            "ts": ps.Timestamp,
            "open": ps.Float64,
            "close": ps.Float64,
            "volume": ps.Float64,
        },
        expect=[ps.positive("close"), ps.unique("symbol", "ts")],
        known_after="1h",
    )
    momentum = ps.FeatureView(
        "momentum",
        source=source,
        derive={"ret": (ps.col("close") / ps.col("open")) - 1},
        features=[
            ps.last("close"),
            ps.mean("ret", over="6h"),
            ps.std("ret", over="1d"),
            ps.max("close", over="2d"),
            ps.count(over="1d"),
        ],
    )
    dataset = ps.Dataset(
        "hourly",
        spine=source,
        features=ps.FeatureService("scoring", features=[momentum]),
        label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")),
        split=ps.TimeSplit(embargo="1h"),
    )
    model = ps.Model(
        "direction",
        dataset=dataset,
        candidates=[ps.sklearn(LogisticRegression), ps.sklearn(HistGradientBoostingClassifier)],
    )
    plain = ps.Deployment("btc", model=model, fallback=ps.Fallback(deadline="250ms", to="previous"))
    split = ps.Deployment(
        "split",
        model=model,
        routes=[ps.champion(), ps.challenger(share=0.4), ps.shadow("candidate")],
    )
    return plain, split


def _ingest(services: Services, model: Model) -> None:
    source = model.dataset.spine
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "candles.parquet"
        candles(SYMBOLS, START, HOURS, 1).write_parquet(path)
        ingest_files(services, source, paths=[path])
    for view in model.dataset.base_views:
        refresh(services.tables, services.online, services.leases, view)


def _register(
    services: Services,
    model: Model,
    snapshot: DatasetSnapshot,
    estimator: Any,  # noqa: ANN401 - a library without types
    prepare: Any,  # noqa: ANN401 - one of three texts
) -> list[ModelVersion]:
    names = list(snapshot.feature_names)
    label = model.dataset.label.name if model.dataset.label else ""
    train, test = (_part(services, snapshot, part) for part in ("train", "test"))
    estimator.fit(_values(train, names), train[label].to_numpy())
    predicted = estimator.predict_proba(_values(test, names))[:, 1]
    final = getattr(estimator, "steps", [("", estimator)])[-1][1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NATIVE_FILES["skops"]
        save_native(estimator, path, "skops")
        registration = Registration(
            candidate=type(final).__name__,
            estimator=f"{type(final).__module__}:{type(final).__name__}",
            prepare=prepare,
            params={},
            native="skops",
            model_file=path,
            metrics={"test.roc_auc": 0.5},
            sample=test.select(*names, label).with_columns(
                pl.col(names).cast(pl.Float64), pl.Series("prediction", predicted)
            ),
            selected=True,
            ready=True,
        )
        bins = {name: reference_bins(_values(train, [name])[:, 0]) for name in names}
        run_id = f"run-{type(final).__name__}"
        return register(services, model, snapshot, [registration], run_id=run_id, bins=bins)


def _part(services: Services, snapshot: DatasetSnapshot, part: Any) -> pl.DataFrame:  # noqa: ANN401 - one of three texts
    return load(services, snapshot, part)


def _values(frame: pl.DataFrame, names: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    wanted = frame.select(pl.col(name).cast(pl.Float64) for name in names)
    return wanted.fill_null(float("nan")).to_numpy()
