"""Native models are read back as they were written, and never from what is not trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from xgboost import XGBClassifier, XGBRegressor

from penstock.errors import NotSupportedError, StateError
from penstock.registry import MANIFEST_FILE, open_native, read_manifest, save_native

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(80, 3))
Y = X[:, 0] + RANDOM.normal(size=80)


def danger() -> None:
    """What a file must never make run."""
    raise AssertionError("it ran")


def piped(estimator: object) -> Pipeline:
    return Pipeline(
        [("impute", SimpleImputer()), ("scale", StandardScaler()), ("model", estimator)]
    )


@pytest.mark.parametrize(
    ("estimator", "native"),
    [
        (piped(LogisticRegression()), "skops"),
        (HistGradientBoostingClassifier(max_iter=5), "skops"),
        (RandomForestClassifier(3), "skops"),
        (GradientBoostingClassifier(n_estimators=3), "skops"),
        (piped(KNeighborsClassifier()), "skops"),
        (XGBClassifier(n_estimators=3, n_jobs=1), "ubj"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_classifier_answers_the_probability_of_true(
    estimator: LogisticRegression, native: Literal["skops", "ubj"], tmp_path: Path
) -> None:
    estimator.fit(X, (Y > 0).astype(int))
    save_native(estimator, tmp_path / "model", native)
    model = open_native(tmp_path / "model", native, classifies=True)
    expected = estimator.predict_proba(X)[:, 1]
    assert model.predict(X) == pytest.approx(expected, abs=1e-7)
    assert model.predict(X[:1]) == pytest.approx(expected[:1], abs=1e-7)
    assert model.predict(X).dtype == np.float64


@pytest.mark.parametrize(
    ("estimator", "native"),
    [
        (Ridge(), "skops"),
        (HistGradientBoostingRegressor(max_iter=5), "skops"),
        (XGBRegressor(n_estimators=3, n_jobs=1), "ubj"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_regressor_answers_the_value(
    estimator: Ridge, native: Literal["skops", "ubj"], tmp_path: Path
) -> None:
    estimator.fit(X, Y)
    save_native(estimator, tmp_path / "model", native)
    found = open_native(tmp_path / "model", native, classifies=False).predict(X)
    assert found == pytest.approx(estimator.predict(X), abs=1e-6)
    assert found.dtype == np.float64


@pytest.mark.parametrize("native", ["skops", "ubj"])
def test_nan_stands_for_none(native: Literal["skops", "ubj"], tmp_path: Path) -> None:
    holes = np.where(RANDOM.random(X.shape) < 0.2, np.nan, X)
    made = (
        XGBClassifier(n_estimators=3, n_jobs=1) if native == "ubj" else piped(LogisticRegression())
    )
    made.fit(holes, (Y > 0).astype(int))
    save_native(made, tmp_path / "model", native)
    found = open_native(tmp_path / "model", native, classifies=True).predict(holes)
    assert np.isfinite(found).all()


def test_a_model_with_a_type_of_its_own_is_not_written(tmp_path: Path) -> None:
    odd = piped(LogisticRegression()).set_params(scale=FunctionTransformer(danger))
    with pytest.raises(NotSupportedError, match="not on the list of types"):
        save_native(odd, tmp_path / "model", "skops")


def test_a_file_that_names_other_types_is_not_loaded(tmp_path: Path) -> None:
    """The file says what it holds; the list of what is trusted is ours alone."""
    skops.io.dump(FunctionTransformer(danger), tmp_path / "model")
    with pytest.raises(NotSupportedError, match="danger"):
        open_native(tmp_path / "model", "skops", classifies=True)


@pytest.mark.parametrize("native", ["skops", "ubj"])
def test_a_file_that_is_no_model_is_refused(
    native: Literal["skops", "ubj"], tmp_path: Path
) -> None:
    (tmp_path / "model").write_bytes(b"no model at all")
    with pytest.raises(StateError, match="cannot be read as"):
        open_native(tmp_path / "model", native, classifies=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no readable manifest"),
        (b"{", "no readable manifest"),
        (b"{}", "no readable manifest"),
        (b'{"schema": 99}', "has schema 99"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_said(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(StateError, match=message):
        read_manifest(tmp_path)
