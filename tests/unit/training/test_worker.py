"""A candidate is trained on the train part alone, and what it predicts is of the stored model."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge

import penstock as ps
from penstock.registry import NATIVE_FILES, CustomModel, open_native
from penstock.spec import Objective, Search, Trainer
from penstock.testing.custom_models import write_custom_module
from penstock.training import TrainedCandidate
from penstock.training.learned import PREDICTIONS_FILE, TrainingJob
from penstock.training.worker import check_trainer, train_candidate

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike

PARTS = ["train"] * 200 + ["embargo"] * 10 + ["validation"] * 60 + ["test"] * 60


class Fragile(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator of a user whose code fails."""

    def __init__(self, fails: str = "fit") -> None:
        self.fails = fails

    def fit(self, _x: ArrayLike, _y: ArrayLike) -> Fragile:
        if self.fails == "fit":
            raise ZeroDivisionError("the user's own mistake")
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, x: ArrayLike) -> ArrayLike:
        return np.full((len(np.asarray(x)), 2), np.nan)


def rows(tmp_path: Path, label: pl.Series | None = None) -> Path:
    random = np.random.default_rng(3)
    x = random.normal(size=(len(PARTS), 2))
    y = x[:, 0] + random.normal(size=len(PARTS)) > 0
    frame = pl.DataFrame(
        {
            "symbol": "a",
            "at": pl.Series(range(len(PARTS))).cast(pl.Datetime("us", "UTC")),
            "v.x": pl.Series(np.where(random.random(len(PARTS)) < 0.1, np.nan, x[:, 0])).fill_nan(
                None
            ),
            "v.n": pl.Series((x[:, 1] * 10).astype(int), dtype=pl.Int64),
            "up": y if label is None else label,
            "part": PARTS,
        }
    )
    path = tmp_path / "rows.parquet"
    frame.write_parquet(path)
    return path


def trained_by(
    tmp_path: Path,
    trainer: Trainer,
    *,
    task: Literal["classification", "regression"] = "classification",
    search: Search | None = None,
    metric: str = "roc_auc",
    path: Path | None = None,
    folder: str = "out",
) -> TrainedCandidate:
    job = TrainingJob(
        trainer=trainer,
        task=task,
        search=search or Search(trials=3, seed=7),
        objective=Objective(metric=metric, maximise=metric == "roc_auc"),
        rows=str(path or rows(tmp_path)),
        features=("v.x", "v.n"),
        label="up",
        key="symbol",
        folder=str(tmp_path / folder),
    )
    plain = msgspec.json.decode(msgspec.json.encode(job))
    return msgspec.convert(train_candidate(job=plain), TrainedCandidate)


@pytest.mark.parametrize(
    ("trainer", "prepare"),
    [
        (ps.sklearn(LogisticRegression, C=ps.loguniform(1e-3, 1e2)), "scale"),
        (ps.sklearn(HistGradientBoostingClassifier, max_iter=4), "none"),
        (ps.xgboost(n_estimators=10, max_depth=ps.integer(2, 4)), "none"),
        (ps.lightgbm(n_estimators=10, num_leaves=ps.integer(4, 8)), "none"),
    ],
    ids=lambda value: value.name if isinstance(value, Trainer) else value,
)
def test_a_candidate_is_trained_and_written(tmp_path: Path, trainer: Trainer, prepare: str) -> None:
    found = trained_by(tmp_path, trainer)
    assert (found.error, found.candidate, found.prepare) == ("", trainer.name, prepare)
    assert found.value is not None
    assert found.value > 0.6
    predictions = pl.read_parquet(tmp_path / "out" / PREDICTIONS_FILE)
    assert predictions.columns == ["symbol", "at", "part", "label", "prediction"]
    assert predictions["part"].to_list() == [
        part for part in PARTS if part in {"validation", "test"}
    ]
    model = open_native(
        tmp_path / "out" / NATIVE_FILES[found.native], found.native, classifies=True
    )
    frame = pl.read_parquet(tmp_path / "rows.parquet").filter(pl.col("part") == "test")
    x = frame.select(pl.col("v.x", "v.n").cast(pl.Float64)).to_numpy()
    of_test = predictions.filter(pl.col("part") == "test")
    assert model.predict(x) == pytest.approx(of_test["prediction"].to_numpy())
    assert of_test["label"].to_list() == frame["up"].cast(pl.Float64).to_list()


@pytest.mark.slow
def test_a_custom_model_is_searched_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_custom_module(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    trainer = ps.custom("slopes:Slope", ridge=ps.uniform(0.1, 10.0))

    assert check_trainer(trainer=msgspec.to_builtins(trainer), task="classification") == []
    found = trained_by(tmp_path, trainer)

    assert (found.error, found.native, found.prepare) == ("", "custom", "none")
    assert len(found.trials) == 3
    assert found.params["random_state"] == 7
    assert found.value is not None
    assert found.value > 0.6
    model = open_native(tmp_path / "out" / "model.custom", "custom", classifies=True)
    assert isinstance(model, CustomModel)
    frame = pl.read_parquet(tmp_path / "rows.parquet").filter(pl.col("part") == "test")
    x = frame.select(pl.col("v.x", "v.n").cast(pl.Float64)).to_numpy()
    predictions = pl.read_parquet(tmp_path / "out" / PREDICTIONS_FILE)
    of_test = predictions.filter(pl.col("part") == "test")["prediction"].to_numpy()
    assert np.nan_to_num(model.predict(x)) == pytest.approx(of_test)
    model.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "fault"),
    [
        (ps.custom("slopes:Bare"), "it has no method 'predict'"),
        (ps.custom("slopes:Slope", rigde=1), "unexpected keyword argument 'rigde'"),
        (ps.custom("nowhere:Slope"), "put it into the project folder"),
        (ps.custom("slopes:Slope", python="no/python"), "cannot be started"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_custom_model_that_cannot_be_trained_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: Trainer, fault: str
) -> None:
    write_custom_module(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    faults = check_trainer(trainer=msgspec.to_builtins(trainer), task="classification")

    assert any(fault in one for one in faults)


def test_the_same_seed_trains_the_same_model(tmp_path: Path) -> None:
    trainer = ps.sklearn(
        HistGradientBoostingClassifier, max_iter=4, learning_rate=ps.uniform(0.01, 0.3)
    )
    first = trained_by(tmp_path, trainer, folder="a")
    again = trained_by(tmp_path, trainer, folder="b")
    assert (first.params, first.value) == (again.params, again.value)
    files = [pl.read_parquet(tmp_path / folder / PREDICTIONS_FILE) for folder in ("a", "b")]
    assert files[0].equals(files[1])


def test_only_the_train_part_teaches(tmp_path: Path) -> None:
    """The label is right in the train part and turned round everywhere else."""
    path = rows(tmp_path)
    frame = pl.read_parquet(path)
    turned = (pl.col("up") ^ (pl.col("part") != "train")).alias("up")
    frame.with_columns(turned).write_parquet(path)
    found = trained_by(tmp_path, ps.sklearn(LogisticRegression), path=path)
    assert found.value is not None
    assert found.value < 0.4


def test_a_regression_is_chosen_by_its_own_metric(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    path = rows(tmp_path, pl.Series(random.normal(size=len(PARTS))))
    trainer = ps.sklearn(Ridge, alpha=ps.loguniform(0.1, 10))
    found = trained_by(tmp_path, trainer, task="regression", metric="rmse", path=path)
    assert found.error == ""
    assert found.value == min(trial.value for trial in found.trials if trial.value is not None)


def test_what_the_library_warns_of_is_kept(tmp_path: Path) -> None:
    found = trained_by(tmp_path, ps.sklearn(LogisticRegression, max_iter=1))
    assert any("ConvergenceWarning" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        ("fit", "failed while fitting: ZeroDivisionError: the user's own mistake"),
        ("predict", "predicted NaN or infinity"),
    ],
)
def test_a_failing_estimator_is_reported_and_not_raised(
    tmp_path: Path, fails: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("fragile")
    monkeypatch.setattr(module, "Fragile", Fragile, raising=False)
    monkeypatch.setitem(sys.modules, "fragile", module)
    trainer = Trainer(kind="sklearn", estimator="fragile:Fragile", params={"fails": fails})
    found = trained_by(tmp_path, trainer)
    assert message in found.error
    assert found.candidate == "Fragile"
    assert not (tmp_path / "out").exists()
    assert fails != "fit" or 'raise ZeroDivisionError("the user' in found.traceback


def test_parameters_that_do_not_fit_together_are_reported(tmp_path: Path) -> None:
    trainer = ps.sklearn(LogisticRegression, solver="liblinear", l1_ratio=ps.uniform(2.0, 3.0))
    found = trained_by(tmp_path, trainer)
    assert "failed while fitting" in found.error


def test_an_objective_that_is_not_defined_is_said(tmp_path: Path) -> None:
    path = rows(tmp_path)
    frame = pl.read_parquet(path)
    alike = pl.when(pl.col("part") == "validation").then(pl.lit(value=True)).otherwise(pl.col("up"))
    frame.with_columns(alike.alias("up")).write_parquet(path)
    found = trained_by(tmp_path, ps.sklearn(LogisticRegression), path=path)
    assert "roc_auc is not defined on the validation part" in found.error


def test_a_column_that_is_empty_in_training_keeps_its_place(tmp_path: Path) -> None:
    path = rows(tmp_path)
    frame = pl.read_parquet(path)
    frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("v.x")).write_parquet(path)
    found = trained_by(tmp_path, ps.sklearn(LogisticRegression), path=path)
    assert found.error == ""


def test_checking_takes_plain_values() -> None:
    plain = msgspec.to_builtins(ps.sklearn(LogisticRegression, c=1.0))
    assert "no parameter 'c'" in check_trainer(trainer=plain, task="classification")[0]
