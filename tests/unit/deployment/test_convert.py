from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from penstock.deployment import OnnxEngine, prove, to_onnx
from penstock.errors import NotSupportedError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from penstock.records import Manifest

    MakeManifest = Callable[..., Manifest]

WIDTH = 6
ROWS = 800


class _Native:
    """The estimator as the one that is right."""

    def __init__(self, estimator: Any, *, classifies: bool) -> None:  # noqa: ANN401 - untyped
        self._estimator = estimator
        self._classifies = classifies

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._classifies:
            return np.asarray(self._estimator.predict_proba(x)[:, 1])
        return np.asarray(self._estimator.predict(x), dtype=float)


def _rows(*, nulls: bool, scale: float = 1.0, offset: float = 0.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(ROWS, WIDTH)) * scale + offset
    if nulls:
        x[rng.random(x.shape) < 0.1] = np.nan
    return x


def _label(x: NDArray[np.float64]) -> NDArray[np.bool_]:
    first = np.nan_to_num(x[:, 0] - np.nanmean(x[:, 0])) / np.nanstd(x[:, 0])
    second = np.nan_to_num(x[:, 1] - np.nanmean(x[:, 1])) / np.nanstd(x[:, 1])
    return np.asarray(first + second > np.random.default_rng(4).normal(size=len(x)))


def _scaled(final: object) -> Pipeline:
    steps = [("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())]
    return Pipeline([*steps, ("model", final)])


def _path(estimator: object) -> str:
    final = getattr(estimator, "steps", [("", estimator)])[-1][1]
    return f"{type(final).__module__}:{type(final).__name__}"


@pytest.mark.parametrize(
    ("estimator", "dtype", "classifies"),
    [
        (_scaled(LogisticRegression()), "float64", True),
        (_scaled(Ridge()), "float64", False),
        (_scaled(RandomForestClassifier(9, max_depth=4, random_state=1)), "float64", True),
        (HistGradientBoostingClassifier(max_iter=10), "float32", True),
        (HistGradientBoostingRegressor(max_iter=10), "float32", False),
    ],
    ids=["linear", "ridge", "forest", "boosting", "boosted values"],
)
def test_what_is_converted_answers_like_the_native_model(
    manifest: MakeManifest,
    estimator: Any,  # noqa: ANN401 - a library without types
    dtype: str,
    *,
    classifies: bool,
) -> None:
    x = _rows(nulls=True, scale=100.0)
    estimator.fit(x, _label(x) if classifies else np.nan_to_num(x[:, 2]))

    made = to_onnx(estimator, manifest(estimator=_path(estimator), classifies=classifies))

    assert made.dtype == dtype
    engine = OnnxEngine(made.model)
    proof = prove(_Native(estimator, classifies=classifies), engine, x, classification=classifies)
    assert proof.holds, proof.text
    assert engine.predict(x[:1]).shape == (1,)


def test_a_booster_of_xgboost_is_converted(manifest: MakeManifest) -> None:
    xgboost = pytest.importorskip("xgboost")
    x = _rows(nulls=True)
    matrix = xgboost.DMatrix(x, _label(x), feature_names=[f"momentum.f{n}" for n in range(WIDTH)])
    booster = xgboost.train({"objective": "binary:logistic"}, matrix, 10)

    made = to_onnx(booster, manifest(estimator="xgboost:XGBClassifier", native="ubj"))

    engine = OnnxEngine(made.model)
    assert made.dtype == "float32"
    np.testing.assert_allclose(engine.predict(x), booster.inplace_predict(x), atol=1e-6)
    assert booster.feature_names is not None


def test_the_proof_refuses_trees_that_float32_breaks(manifest: MakeManifest) -> None:
    x = _rows(nulls=False, scale=100.0, offset=1e12)
    estimator = HistGradientBoostingClassifier(max_iter=20).fit(x, _label(x))

    made = to_onnx(estimator, manifest(estimator=_path(estimator)))
    engine = OnnxEngine(made.model)
    proof = prove(_Native(estimator, classifies=True), engine, x, classification=True)

    assert not proof.holds
    assert proof.off > 0
    assert "differ by more than" in proof.text


def test_large_inputs_do_not_break_linear_models(manifest: MakeManifest) -> None:
    x = _rows(nulls=True, scale=100.0, offset=1e12)
    estimator = _scaled(LogisticRegression()).fit(x, _label(x))

    made = to_onnx(estimator, manifest(estimator=_path(estimator)))
    engine = OnnxEngine(made.model)
    proof = prove(_Native(estimator, classifies=True), engine, x, classification=True)

    assert proof.holds, proof.text


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (FunctionTransformer(np.abs), "FunctionTransformer"),
        (SimpleImputer(add_indicator=True), "adds or drops columns"),
    ],
    ids=["function", "indicator"],
)
def test_a_step_without_onnx_form_is_named(
    manifest: MakeManifest, step: object, reason: str
) -> None:
    x = _rows(nulls=True)
    pipeline = Pipeline(
        [("fill", SimpleImputer()), ("step", step), ("model", LogisticRegression())]
    )
    pipeline.fit(x, _label(x))

    with pytest.raises(NotSupportedError, match=reason):
        to_onnx(pipeline, manifest(estimator=_path(pipeline)))


def test_an_estimator_the_converter_does_not_know_is_named(manifest: MakeManifest) -> None:
    with pytest.raises(NotSupportedError, match="somewhere:Else has no ONNX form"):
        to_onnx(object(), manifest(estimator="somewhere:Else"))


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(StateError, match="Package the version again"):
        OnnxEngine(b"no model")
