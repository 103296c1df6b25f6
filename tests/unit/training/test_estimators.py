"""Estimators are checked before anything is trained, and built as declared."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

import penstock as ps
from penstock.spec import Trainer
from penstock.training.estimators import (
    build_estimator,
    estimator_faults,
    estimator_path,
    prepare_of,
)

if TYPE_CHECKING:
    from penstock.training.estimators import Estimator

CLASSIFY: Literal["classification"] = "classification"
REGRESS: Literal["regression"] = "regression"


def built(trainer: Trainer, **params: object) -> tuple[Estimator, dict[str, object]]:
    return build_estimator(trainer, CLASSIFY, {**trainer.params, **params}, seed=5)


def test_what_can_be_tried_has_no_faults() -> None:
    assert estimator_faults(ps.sklearn(LogisticRegression, C=0.1), CLASSIFY) == []
    assert estimator_faults(ps.sklearn(RandomForestRegressor, max_depth=3), REGRESS) == []
    assert estimator_faults(ps.xgboost(max_depth=ps.integer(2, 8)), CLASSIFY) == []
    assert estimator_faults(ps.xgboost(), REGRESS) == []


@pytest.mark.parametrize(
    ("trainer", "task", "message"),
    [
        (ps.sklearn(LogisticRegression, c=1.0), CLASSIFY, "no parameter 'c'"),
        (ps.sklearn(LogisticRegression, max_iters=1), CLASSIFY, "Did you mean 'max_iter'"),
        (ps.xgboost(max_dept=3), CLASSIFY, "Did you mean 'max_depth'"),
        (ps.sklearn(Ridge), CLASSIFY, "it is a regressor, but the label asks for a classifier"),
        (ps.sklearn(LogisticRegression), REGRESS, "it is a classifier"),
        (ps.sklearn(KMeans), CLASSIFY, "it is a clusterer"),
        (ps.sklearn(LinearSVC), CLASSIFY, "no probabilities"),
        (Trainer(kind="sklearn", estimator="no.such:Thing"), CLASSIFY, "cannot be imported"),
        (
            Trainer(kind="sklearn", estimator="sklearn.linear_model:LogisticRegressor"),
            CLASSIFY,
            "Did you mean 'LogisticRegression'",
        ),
        (
            Trainer(kind="sklearn", estimator="sklearn.ensemble:StackingClassifier"),
            CLASSIFY,
            "cannot be built: TypeError",
        ),
        (
            Trainer(kind="xgboost", estimator="xgboost:XGBModel", prepare="scale"),
            CLASSIFY,
            "prepare='scale'",
        ),
    ],
)
def test_what_cannot_work_is_said_before_training(
    trainer: Trainer, task: Literal["classification", "regression"], message: str
) -> None:
    (fault,) = estimator_faults(trainer, task)
    assert message in fault


def test_every_fault_is_said_at_once() -> None:
    faults = estimator_faults(ps.sklearn(Ridge, alfa=1.0, fit_intercep=True), CLASSIFY)
    assert len(faults) == 3


def test_a_missing_xgboost_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    (fault,) = estimator_faults(ps.xgboost(), CLASSIFY)
    assert "pip install 'penstock[xgboost]'" in fault


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        (ps.sklearn(LogisticRegression), "scale"),
        (ps.sklearn(HistGradientBoostingClassifier), "none"),
        (ps.sklearn(LogisticRegression, prepare="impute"), "impute"),
        (ps.xgboost(), "none"),
    ],
)
def test_auto_looks_whether_the_estimator_takes_nan(trainer: Trainer, expected: str) -> None:
    assert prepare_of(trainer, CLASSIFY) == expected


def test_what_stands_before_an_estimator_is_part_of_the_model() -> None:
    steps = [
        (ps.sklearn(LogisticRegression, prepare="scale"), ["impute", "scale", "model"]),
        (ps.sklearn(LogisticRegression, prepare="impute"), ["impute", "model"]),
    ]
    for trainer, names in steps:
        estimator, _ = built(trainer)
        assert isinstance(estimator, Pipeline)
        assert [name for name, _ in estimator.steps] == names
    alone, _ = built(ps.sklearn(HistGradientBoostingClassifier))
    assert isinstance(alone, HistGradientBoostingClassifier)


def test_the_seed_is_the_random_state_unless_one_is_given() -> None:
    _, params = built(ps.sklearn(LogisticRegression), C=0.5)
    assert params == {"C": 0.5, "random_state": 5}
    _, params = built(ps.sklearn(LogisticRegression, random_state=1))
    assert params == {"random_state": 1}


def test_xgboost_trains_by_histogram_on_one_thread() -> None:
    trainer = ps.xgboost(max_depth=3)
    assert estimator_path(trainer, CLASSIFY) == "xgboost:XGBClassifier"
    assert estimator_path(trainer, REGRESS) == "xgboost:XGBRegressor"
    _, params = built(trainer)
    assert params == {"tree_method": "hist", "n_jobs": 1, "max_depth": 3, "random_state": 5}
