"""Explanations are Shapley values: those of a sum over all sets of features, as the book has it."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from penstock.errors import InputError
from penstock.registry import NATIVE_FILES, file_sha256, open_native, save_native
from penstock.scoring import Explanation, explain_rows
from penstock.testing.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.records import Manifest, NativeFormat

    Floats = NDArray[np.float64]

WIDTH = 5
IGNORED = 3  # a column that is constant where models learn: none of them can use it
NAMES = tuple(f"momentum.f{place}" for place in range(WIDTH))


def shapley(value: Callable[[Floats], Floats], x: Floats, background: Floats) -> Floats:
    """The naive oracle: every feature joins every set of the others."""

    def worth(chosen: tuple[int, ...]) -> float:
        rows = background.copy()
        rows[:, list(chosen)] = x[list(chosen)]
        return float(value(rows).mean())

    found = np.zeros(len(x))
    for feature in range(len(x)):
        others = [other for other in range(len(x)) if other != feature]
        for size in range(len(x)):
            weight = math.factorial(size) * math.factorial(len(others) - size)
            for chosen in combinations(others, size):
                gain = worth((*chosen, feature)) - worth(chosen)
                found[feature] += weight * gain / math.factorial(len(x))
    return found


def scaled(final: object) -> Pipeline:
    steps = [("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())]
    return Pipeline([*steps, ("model", final)])


def decision(model: Any, x: Floats) -> Floats:  # noqa: ANN401 - models have no common type
    return np.asarray(model.decision_function(x), dtype=np.float64)


def predicted(model: Any, x: Floats) -> Floats:  # noqa: ANN401 - as above
    return np.asarray(model.predict(x), dtype=np.float64)


def chance(model: Any, x: Floats) -> Floats:  # noqa: ANN401 - as above
    return np.asarray(model.predict_proba(x)[:, 1], dtype=np.float64)


# How a model is made, its format, how its method and space are told, its sum, the tolerance.
Family = tuple[Any, "NativeFormat", str, str, Any, float]
FAMILIES: dict[str, Family] = {
    "logistic": (scaled(LogisticRegression()), "skops", "linear", "log_odds", decision, 1e-9),
    "least squares": (scaled(LinearRegression()), "skops", "linear", "value", predicted, 1e-9),
    "poisson": (
        scaled(PoissonRegressor()), "skops", "linear", "log",
        lambda model, x: np.log(predicted(model, x)), 1e-9,
    ),
    "hist": (
        HistGradientBoostingClassifier(max_iter=8, min_samples_leaf=5),
        "skops", "trees", "log_odds", decision, 1e-9,
    ),
    "hist gamma": (
        HistGradientBoostingRegressor(max_iter=8, loss="gamma", min_samples_leaf=5),
        "skops", "trees", "log", lambda model, x: np.log(predicted(model, x)), 1e-9,
    ),
    "gradient": (
        scaled(GradientBoostingRegressor(n_estimators=8)), "skops", "trees", "value",
        predicted, 1e-9,
    ),
    "forest": (
        scaled(RandomForestClassifier(n_estimators=5, max_depth=9, random_state=1)),
        "skops", "trees", "probability", chance, 1e-9,
    ),
    "xgboost": (
        XGBClassifier(n_estimators=8, max_depth=4), "ubj", "trees", "log_odds",
        lambda model, x: model.predict(x, output_margin=True).astype(float), 1e-5,
    ),
    "lightgbm": (
        LGBMClassifier(n_estimators=8, min_child_samples=5, verbose=-1), "lgb", "trees",
        "log_odds", lambda model, x: model.booster_.predict(x, raw_score=True), 1e-9,
    ),
    "naive bayes": (scaled(GaussianNB()), "skops", "sampled", "probability", chance, 0.0),
    "neighbours": (
        scaled(KNeighborsRegressor()), "skops", "sampled", "value", predicted, 0.0,
    ),
}  # fmt: skip
EXACT = [name for name, family in FAMILIES.items() if family[2] != "sampled"]


class Trained:
    """A package of a model that was trained here."""

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        model, native, self.method, self.space, self._sum, self.tolerance = FAMILIES[name]
        rng = np.random.default_rng(seed)
        x = rng.normal(0, 1, (160, WIDTH))
        x[:, 0] = np.round(x[:, 0], 1)  # ties
        x[rng.random(x.shape) < 0.1] = np.nan
        x[:, IGNORED] = 2.5
        clean = np.nan_to_num(x)
        score = clean[:, 0] - clean[:, 1] * clean[:, 2] + 0.3 * clean[:, 4] ** 2
        classifies = hasattr(model, "predict_proba")
        target = score > 0 if classifies else np.exp(score / 3)
        self.model = model.fit(x, target)
        path = folder / NATIVE_FILES[native]
        save_native(self.model, path, native)
        sample = x[:30]
        told = open_native(path, native, classifies=classifies).predict(sample)
        columns = dict(zip(NAMES, sample.T, strict=True))
        frame = pl.DataFrame({**columns, "up": target[:30], "prediction": told})
        frame.with_columns(pl.col(NAMES).fill_nan(None)).write_parquet(folder / "sample.parquet")
        self.background = sample
        self.folder = folder
        self.manifest: Manifest = manifest_of(
            *NAMES,
            native=native,
            task="classification" if classifies else "regression",
            files={one.name: file_sha256(one) for one in folder.iterdir()},
        )
        self.row = rng.normal(0, 2, WIDTH)
        self.row[seed % WIDTH] = np.nan

    def sum(self, x: Floats) -> Floats:
        """The model's own sum, by its own library."""
        return np.asarray(self._sum(self.model, x), dtype=np.float64)

    def explain(self) -> Explanation:
        row = [None if math.isnan(value) else value for value in self.row.tolist()]
        return explain_rows(self.folder, self.manifest, [row])[0]


def added(found: Explanation) -> Floats:
    return np.array([one.contribution for one in found.contributions])


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=4)
@given(seed=st.integers(0, 10_000))
def test_exact_contributions_are_the_shapley_values_of_the_sum(
    name: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = Trained(tmp_path_factory.mktemp("package"), name, seed)
    found = world.explain()
    assert (found.method, found.space) == (world.method, world.space)
    assert found.background_rows == len(world.background)
    wanted = shapley(world.sum, world.row, world.background)
    near = max(world.tolerance, 1e-7)
    assert added(found) == pytest.approx(wanted, rel=near, abs=near)
    assert found.base == pytest.approx(
        float(world.sum(world.background).mean()), rel=near, abs=near
    )
    assert found.output == pytest.approx(
        float(world.sum(world.row[None, :])[0]), rel=near, abs=near
    )
    assert found.base + added(found).sum() == pytest.approx(found.output, abs=1e-9)
    assert all(one.error == 0.0 for one in found.contributions)
    assert found.contributions[IGNORED].contribution == 0.0
    assert tuple(one.feature for one in found.contributions) == NAMES
    assert [one.value is None for one in found.contributions] == np.isnan(world.row).tolist()


@pytest.mark.parametrize("name", EXACT)
def test_the_output_leads_to_the_prediction(name: str, tmp_path: Path) -> None:
    world = Trained(tmp_path, name, 3)
    native = open_native(
        tmp_path / NATIVE_FILES[world.manifest.native],
        world.manifest.native,
        classifies=world.manifest.task == "classification",
    )
    wanted = native.predict(world.row[None, :])[0]
    assert world.explain().prediction == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("name", ["naive bayes", "neighbours"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_estimates_lie_about_the_shapley_values_of_the_prediction(
    name: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As many rounds each time, however busy the machine is.
    monkeypatch.setattr("penstock.scoring.explain.SECONDS", 600.0)
    world = Trained(tmp_path, name, seed)
    found = world.explain()
    assert (found.method, found.space) == ("sampled", world.space)
    errors = np.array([one.error for one in found.contributions])
    wanted = shapley(world.sum, world.row, world.background)
    assert (np.abs(added(found) - wanted) <= 5 * errors + 1e-12).all()
    assert errors.max() > 0
    # An estimate in one of its parts; exact in their sum, and where the model does not look.
    assert found.base + added(found).sum() == pytest.approx(found.output, abs=1e-9)
    # (but for what a sum of float32 loses).
    assert found.contributions[IGNORED].contribution == pytest.approx(0.0, abs=1e-7)
    assert world.explain() == found, "the same row is explained the same again"


def test_a_model_that_is_not_what_it_looks_like_is_estimated(tmp_path: Path) -> None:
    """Sums that do not lead to the predictions of the sample explain nothing."""
    world = Trained(tmp_path, "logistic", 1)
    world.model.steps[-1][1].coef_ *= 1.5
    path = tmp_path / "model.skops"
    save_native(world.model, path, "skops")
    files = {**world.manifest.files, path.name: file_sha256(path)}
    world.manifest = msgspec.structs.replace(world.manifest, files=files)
    assert world.explain().method == "sampled"


def test_a_row_of_another_width_is_refused(tmp_path: Path) -> None:
    world = Trained(tmp_path, "logistic", 1)
    with pytest.raises(InputError, match="has 2 features; direction@1 takes 5"):
        explain_rows(tmp_path, world.manifest, [[1.0, 2.0]])


def test_a_row_without_a_prediction_has_nothing_to_explain(tmp_path: Path) -> None:
    world = Trained(tmp_path, "least squares", 1)
    with pytest.raises(InputError, match="no finite prediction"):
        explain_rows(tmp_path, world.manifest, [[1.7e308] * WIDTH])
