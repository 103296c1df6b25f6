"""Every engine that serves answers like the native model, whatever the model and the rows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier, XGBRegressor

from penstock.deployment import (
    OnnxEngine,
    TreesEngine,
    forest_to_onnx,
    legal_rows,
    pack_forest,
    probes,
    prove,
    read_forest,
    to_onnx,
    unpack_forest,
)
from penstock.deployment.compiled import compile_kernels
from penstock.errors import NotSupportedError, StateError
from penstock.registry import open_native, save_native

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.deployment import Engine
    from penstock.records import Manifest, NativeFormat
    from penstock.registry import NativeModel

    MakeManifest = Callable[..., Manifest]
    Floats = NDArray[np.float64]

WIDTH = 6
SCALES = [(1.0, 0.0), (1e4, 1.7e9), (1e3, 1e12), (1e-3, 0.0)]


def scaled(final: object) -> Pipeline:
    steps = [("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())]
    return Pipeline([*steps, ("model", final)])


FAMILIES: dict[str, tuple[Callable[[int], Any], NativeFormat, bool]] = {
    "hist": (lambda s: HistGradientBoostingClassifier(max_iter=12, random_state=s), "skops", True),
    "hist values": (
        lambda s: HistGradientBoostingRegressor(
            max_iter=12, loss="gamma", max_leaf_nodes=90, min_samples_leaf=2, random_state=s
        ),
        "skops",
        False,
    ),
    "gradient": (
        lambda s: scaled(GradientBoostingClassifier(n_estimators=12, random_state=s)),
        "skops",
        True,
    ),
    "gradient values": (
        lambda s: scaled(GradientBoostingRegressor(n_estimators=12, random_state=s)),
        "skops",
        False,
    ),
    "forest": (lambda s: RandomForestClassifier(11, random_state=s), "skops", True),
    "forest values": (
        lambda s: RandomForestRegressor(5, max_depth=5, random_state=s),
        "skops",
        False,
    ),
    "extra": (
        lambda s: scaled(ExtraTreesClassifier(9, max_depth=6, random_state=s)),
        "skops",
        True,
    ),
    "xgboost": (lambda s: XGBClassifier(n_estimators=9, n_jobs=1, random_state=s), "ubj", True),
    "xgboost values": (
        lambda s: XGBRegressor(n_estimators=9, max_depth=9, n_jobs=1, random_state=s),
        "ubj",
        False,
    ),
    "lightgbm": (
        lambda s: LGBMClassifier(n_estimators=9, n_jobs=1, verbose=-1, random_state=s),
        "lgb",
        True,
    ),
    "lightgbm values": (
        lambda s: LGBMRegressor(
            n_estimators=9,
            num_leaves=100,
            min_child_samples=2,
            n_jobs=1,
            verbose=-1,
            random_state=s,
        ),
        "lgb",
        False,
    ),
}


def learned(
    family: str, seed: int, scale: tuple[float, float], folder: Path, *, nulls: bool
) -> tuple[NativeModel, Floats]:
    """A model of the family, as it is read back from its file, and rows like those it saw."""
    make, native, classifies = FAMILIES[family]
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(400, WIDTH))
    unit[:, 4] = rng.integers(0, 5, 400)  # codes
    x = unit * scale[0] + scale[1]
    x[:, 4] = unit[:, 4]
    x[:, 5] = np.round(x[:, 5])
    y = unit[:, 0] + unit[:, 1] * unit[:, 2] + (unit[:, 4] == 2) + rng.normal(size=400) / 2
    if nulls:
        x[rng.random(x.shape) < 0.1] = np.nan
    estimator = make(seed).fit(x, (y > 0).astype(int) if classifies else np.exp(y))
    save_native(estimator, folder / "model", native)
    return open_native(folder / "model", native, classifies=classifies), x


def manifest_of(manifest: MakeManifest, family: str) -> Manifest:
    make, native, classifies = FAMILIES[family]
    final = getattr(make(0), "steps", [("", make(0))])[-1][1]
    path = f"{type(final).__module__}:{type(final).__name__}"
    return manifest(estimator=path, native=native, classifies=classifies)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from(SCALES), nulls=st.booleans())
def test_trees_in_float64_answer_like_the_native_model_at_every_magnitude(
    manifest: MakeManifest,
    tmp_path: Path,
    family: str,
    seed: int,
    scale: tuple[float, float],
    *,
    nulls: bool,
) -> None:
    native, x = learned(family, seed, scale, tmp_path, nulls=nulls)
    found = manifest_of(manifest, family)
    forest = read_forest(native.estimator, found)
    at_thresholds = np.tile(x[:1], (len(forest.threshold), 1))
    # LightGBM takes numbers within 1e-35 of nought for nought, and splits just there.
    split = np.flatnonzero(np.isfinite(forest.threshold) & (np.abs(forest.threshold) > 1e-30))
    if not forest.prepares:
        features = (forest.feature & (2**31 - 1))[split]
        at_thresholds[np.arange(len(split)), features] = forest.threshold[split]
    rows = legal_rows(native, [x, at_thresholds, *probes(x, [5])])
    engines: list[Engine] = [
        TreesEngine(unpack_forest(pack_forest(forest))),
        OnnxEngine(forest_to_onnx(forest)),
    ]

    for engine in engines:
        proof = prove(native, engine, rows, classification=FAMILIES[family][2])
        assert proof.holds, (engine.name, proof.text)
    right = native.predict(rows)
    trees = engines[0]
    for size in (1, 2, 7, 8, 9, 64):
        some = np.random.default_rng(seed).integers(0, len(rows), size)
        tolerance = 1e-6 if found.native == "ubj" else 1e-12
        np.testing.assert_allclose(trees.predict(rows[some]), right[some], rtol=tolerance)
    assert trees.predict(rows[:0]).shape == (0,)


@pytest.mark.parametrize(
    "estimator", [LogisticRegression(), Ridge(), scaled(LogisticRegression())], ids=str
)
def test_models_without_trees_have_no_forest(manifest: MakeManifest, estimator: Any) -> None:  # noqa: ANN401 - a library without types
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, WIDTH))
    estimator.fit(x, rng.random(50) > 0.5)

    with pytest.raises(NotSupportedError, match="no model of trees"):
        read_forest(estimator, manifest(estimator="sklearn:One"))


def test_a_forest_too_large_is_not_read(
    manifest: MakeManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native, _ = learned("forest", 1, SCALES[0], tmp_path, nulls=False)
    monkeypatch.setattr("penstock.deployment.forest.MOST_NODES", 100)

    with pytest.raises(NotSupportedError, match="nodes, and no more than 100 are read"):
        read_forest(native.estimator, manifest_of(manifest, "forest"))


def test_trees_that_split_by_sets_are_not_read(manifest: MakeManifest) -> None:
    rng = np.random.default_rng(1)
    x = np.column_stack([rng.integers(0, 9, 400), *rng.normal(size=(5, 400))]).astype(float)
    estimator: Any = HistGradientBoostingClassifier(max_iter=5)
    estimator.set_params(categorical_features=[0])
    estimator.fit(x, np.isin(x[:, 0], (1, 4, 7)))

    with pytest.raises(NotSupportedError, match="sets of categories"):
        read_forest(estimator, manifest(estimator="sklearn.ensemble:HistGradientBoosting"))


def test_without_llvmlite_the_reason_names_the_extra(
    manifest: MakeManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native, _ = learned("hist", 1, SCALES[0], tmp_path, nulls=False)
    forest = read_forest(native.estimator, manifest_of(manifest, "hist"))
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    compile_kernels.cache_clear()

    with pytest.raises(NotSupportedError, match=r"pip install 'penstock\[trees\]'"):
        TreesEngine(forest)


def test_thousands_of_forests_share_what_was_compiled_once() -> None:
    assert compile_kernels() is compile_kernels()


@pytest.mark.parametrize(
    ("field", "place", "value"),
    [("left", 0, 0), ("left", 0, 10**6), ("feature", 0, WIDTH), ("roots", 1, -1), ("left", 3, 2)],
)
def test_a_file_whose_trees_lead_astray_is_refused(
    manifest: MakeManifest, tmp_path: Path, field: str, place: int, value: int
) -> None:
    native, _ = learned("hist", 1, SCALES[0], tmp_path, nulls=False)
    forest = read_forest(native.estimator, manifest_of(manifest, "hist"))
    getattr(forest, field)[place] = value

    with pytest.raises(StateError, match="not there"):
        unpack_forest(pack_forest(forest))


def test_a_file_that_holds_no_trees_is_refused() -> None:
    with pytest.raises(StateError, match="cannot be read"):
        unpack_forest(b"no trees at all")


def test_rows_of_another_width_are_refused(manifest: MakeManifest, tmp_path: Path) -> None:
    native, _ = learned("hist", 1, SCALES[0], tmp_path, nulls=False)
    engine = TreesEngine(read_forest(native.estimator, manifest_of(manifest, "hist")))

    with pytest.raises(ValueError, match="5 features for trees that take 6"):
        engine.predict(np.zeros((2, 5)))


def test_float32_is_refused_where_ids_are_large_and_float64_is_not(
    manifest: MakeManifest, tmp_path: Path
) -> None:
    native, x = learned("hist", 1, (1e3, 1e12), tmp_path, nulls=False)
    found = manifest_of(manifest, "hist")
    rows = legal_rows(native, [x, *probes(x)])

    short = OnnxEngine(to_onnx(native.estimator, found).model)
    long = OnnxEngine(forest_to_onnx(read_forest(native.estimator, found)))

    assert (short.dtype, long.dtype) == ("float32", "float64")
    proof = prove(native, short, rows, classification=True, real=len(x))
    assert not proof.holds
    assert 0 < proof.real <= len(x)
    assert prove(native, long, rows, classification=True).holds
