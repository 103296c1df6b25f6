"""Engines in process: 1 and 64 rows of each family through each engine, beside bare libraries.

Twenty features, a hundred trees, one thread; all engines of a family in turn, other rows each call.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from lightgbm import LGBMClassifier
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

import penstock as ps
from penstock.algebra import GraphProgram
from penstock.algebra import Predictor as Part
from penstock.deployment import NativeEngine, prove, time_engines
from penstock.deployment.candidates import candidates
from penstock.records import Manifest
from penstock.registry import as_native, open_native, save_native

from .figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from penstock.deployment import Engine
    from penstock.deployment.proof import Predictor
    from penstock.records import NativeFormat

WIDTH = 20
TREES = 100
TRAINED_ROWS = 20_000
ROUNDS = 5
SIZES = (1, 64)
ONE_ROW = 1 / 9
"""Bound on one row through the fastest engine, as a share of the library's own time."""
GRAPHED = ("logistic regression", "HistGradientBoosting")
TREES_US = {"HistGradientBoosting": 0.6 * 64, "LightGBM": 0.6 * 64}
"""Bound on 64 rows through compiled trees, in microseconds."""

FAMILIES: dict[str, tuple[Any, NativeFormat]] = {
    "logistic regression": (LogisticRegression(), "skops"),
    "HistGradientBoosting": (HistGradientBoostingClassifier(max_iter=TREES), "skops"),
    "GradientBoosting": (GradientBoostingClassifier(n_estimators=TREES), "skops"),
    "random forest, depth 12": (RandomForestClassifier(TREES, max_depth=12), "skops"),
    "XGBoost, depth 6": (XGBClassifier(n_estimators=TREES, max_depth=6, n_jobs=1), "ubj"),
    "LightGBM": (LGBMClassifier(n_estimators=TREES, n_jobs=1, verbose=-1), "lgb"),
}  # fmt: skip


class _BareOnnx:
    """onnxruntime as its users call it."""

    def __init__(self, model: bytes) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        taken = self._session.get_inputs()[0]
        self._dtype = np.float32 if taken.type == "tensor(float)" else np.float64

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self._session.run(None, {"x": x.astype(self._dtype)})[0]
        return found


class _BareLibrary:
    """The estimator as its users call it."""

    def __init__(self, estimator: Any) -> None:  # noqa: ANN401 - libraries without types
        self.predict = estimator.predict_proba


def measure(*, quick: bool) -> list[Figure]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(TRAINED_ROWS, WIDTH))
    y = (x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=len(x)) / 2 > 0).astype(int)
    rows = 5_000 if quick else TRAINED_ROWS
    figures: list[Figure] = []
    for family in FAMILIES:
        figures += _family(family, x[:rows], y[:rows], rounds=2 if quick else ROUNDS)
    return figures + _graphs(x[:rows], y[:rows], rounds=2 if quick else ROUNDS)


class _Called:
    """What a function predicts."""

    def __init__(self, called: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> None:
        self._called = called

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._called(x)


def _graphs(x: NDArray[np.float64], y: NDArray[np.int64], *, rounds: int) -> list[Figure]:
    """The mean of two models as a graph, beside the same written by hand and one of them alone."""
    one, two = (_fastest(family, x, y) for family in GRAPHED)
    program = _mean_of(one, two)
    engines: dict[str, Predictor] = {
        "one of them alone": one,
        "by hand": _Called(lambda rows: (one.predict(rows) + two.predict(rows)) / 2),
        "the graph": _Called(lambda rows: program.run(rows).predictions),
    }
    figures: list[Figure] = []
    for size in SIZES:
        taken = [time_engines(list(engines.values()), x, size) for _ in range(rounds)]
        times = dict(zip(engines, np.median(taken, axis=0).tolist(), strict=True))
        what = f"mean of {' and '.join(GRAPHED)}, {size} row{'s' if size > 1 else ''}: the graph"
        figures += [
            Figure(
                what=what,
                ours=times["the graph"],
                unit="us",
                baseline=times[name],
                baseline_name=name,
                note="the linear model in ONNX" if name == "one of them alone" else "",
            )
            for name in ("by hand", "one of them alone")
        ]
    return figures


def _fastest(family: str, x: NDArray[np.float64], y: NDArray[np.int64]) -> Engine:
    """The engine of a family that answers a row first."""
    estimator, native = FAMILIES[family]
    estimator.fit(x, y)
    loaded = as_native(estimator, classifies=True)
    made = [one.engine for one in candidates(loaded, _manifest(estimator, native)) if one.engine]
    times = time_engines(made, x, 1)
    return made[times.index(min(times))]


def _mean_of(one: Engine, two: Engine) -> GraphProgram:
    columns = {f"f{place}": ps.Float64 for place in range(WIDTH)}
    source = ps.Source(
        "rows",
        entity=ps.Entity("key"),
        timestamp="ts",
        schema={"key": ps.String, "ts": ps.Timestamp, **columns},
    )
    view = ps.FeatureView("v", source=source, features=[ps.last(name) for name in columns])
    dataset = ps.Dataset(
        "rows",
        spine=source,
        features=[view],
        label=ps.Label("up", ps.col("f0") > 0),
        split=ps.TimeSplit(),
    )
    models = [
        ps.Model(name, dataset=dataset, candidates=[ps.sklearn(LogisticRegression)])
        for name in ("one", "two")
    ]
    graph = ps.Graph(
        "mean",
        dataset=dataset,
        steps={
            **{model.name: ps.Predict(model) for model in models},
            "answer": ps.Average(["one", "two"]),
        },
    )
    predictors = {
        name: Part(view.names, engine.predict) for name, engine in (("one", one), ("two", two))
    }
    return GraphProgram(graph, view.names, predictors, clock=time.perf_counter_ns)


def _family(
    family: str, x: NDArray[np.float64], y: NDArray[np.int64], *, rounds: int
) -> list[Figure]:
    estimator, native = FAMILIES[family]
    estimator.fit(x, y)
    with tempfile.TemporaryDirectory() as folder:
        save_native(estimator, Path(folder) / "model", native)
        loaded = open_native(Path(folder) / "model", native, classifies=True)
    manifest = _manifest(estimator, native)
    engines: dict[str, Predictor] = {
        "the bare library": _BareLibrary(estimator),
        "native": NativeEngine(loaded),
    }
    bare: dict[str, str] = {"native": "the bare library"}
    for one in candidates(loaded, manifest):
        assert one.engine is not None, one.reason
        assert prove(loaded, one.engine, x[:1000], classification=True).holds
        name = f"{one.name} {one.dtype}"
        engines[name] = one.engine
        if one.name == "onnx":
            engines[f"bare onnxruntime {one.dtype}"] = _BareOnnx(one.content)
            bare[name] = f"bare onnxruntime {one.dtype}"
    return [figure for size in SIZES for figure in _sizes(family, engines, bare, x, size, rounds)]


def _sizes(  # noqa: PLR0913, PLR0917 - what is measured, beside what, how
    family: str,
    engines: dict[str, Predictor],
    bare: dict[str, str],
    x: NDArray[np.float64],
    size: int,
    rounds: int,
) -> list[Figure]:
    taken = [time_engines(list(engines.values()), x, size) for _ in range(rounds)]
    times = dict(zip(engines, np.median(taken, axis=0).tolist(), strict=True))
    spread = dict(zip(engines, zip(np.min(taken, 0), np.max(taken, 0), strict=True), strict=True))
    library = times["the bare library"]
    what = f"{family}, {size} row{'s' if size > 1 else ''}"
    figures = [
        Figure(
            what=f"{what}: {name}",
            ours=times[name],
            unit="us",
            baseline=times[bare.get(name, "the bare library")],
            baseline_name=bare.get(name, "the bare library"),
            budget=TREES_US.get(family) if name == "trees float64" and size > 1 else None,
            absolute=True,
            spread=(float(spread[name][0]), float(spread[name][1])),
        )
        for name in engines
        if "bare" not in name
    ]
    best = min((name for name in engines if "bare" not in name), key=times.__getitem__)
    figures.append(
        Figure(
            what=f"{what}: the fastest, {best}",
            ours=times[best],
            unit="us",
            baseline=library,
            baseline_name="the bare library",
            budget=ONE_ROW if size == 1 else 1.0,
        )
    )
    return figures


def _manifest(estimator: object, native: NativeFormat) -> Manifest:
    names = tuple(f"v.f{place}" for place in range(WIDTH))
    return Manifest(
        model="m", version=1, task="classification", candidate="one",
        estimator=f"{type(estimator).__module__}:{type(estimator).__name__}", prepare="none",
        params={}, native=native, entity="e", entity_dtype="string", features=names,
        dtypes=dict.fromkeys(names, "float64"), views={}, label="up", dataset_id="d", tables={},
        definitions={}, functions={}, dependencies={}, commit="", diff="", metrics={}, files={},
        bins={}, created_at=datetime.now(tz=UTC),
    )  # fmt: skip
