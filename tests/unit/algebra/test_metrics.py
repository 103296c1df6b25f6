"""Metrics agree with scikit-learn, and are None where the rows do not define them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs

from penstock.algebra.metrics import compute_metric, compute_metrics
from penstock.errors import InputError, NotFoundError
from penstock.spec import METRICS

PROBABILITIES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.500001, 0.75, 1.0])
ROWS = st.lists(st.tuples(st.booleans(), PROBABILITIES), min_size=2, max_size=40)
NUMBERS = st.floats(-1e3, 1e3)


@given(ROWS.filter(lambda rows: len({truth for truth, _ in rows}) == 2))
def test_classification_metrics_agree_with_scikit_learn(rows: list[tuple[bool, float]]) -> None:
    y = np.array([truth for truth, _ in rows])
    p = np.array([probability for _, probability in rows])
    yes = p >= 0.5
    expected = {
        "roc_auc": theirs.roc_auc_score(y, p),
        "average_precision": theirs.average_precision_score(y, p),
        "log_loss": theirs.log_loss(y, p),
        "brier": theirs.brier_score_loss(y, p),
        "accuracy": theirs.accuracy_score(y, yes),
        "f1": theirs.f1_score(y, yes, zero_division=0),  # pyright: ignore[reportArgumentType]
        "precision": theirs.precision_score(y, yes, zero_division=0),  # pyright: ignore[reportArgumentType]
        "recall": theirs.recall_score(y, yes, zero_division=0),  # pyright: ignore[reportArgumentType]
    }
    found = compute_metrics("classification", y, p)
    assert set(found) == METRICS["classification"]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=40))
def test_regression_metrics_agree_with_scikit_learn(rows: list[tuple[float, float]]) -> None:
    y, p = np.array(rows).T
    found = compute_metrics("regression", y, p)
    assert found["rmse"] == pytest.approx(theirs.root_mean_squared_error(y, p))
    assert found["mae"] == pytest.approx(theirs.mean_absolute_error(y, p))
    spread = float(np.sum((y - y.mean()) ** 2))
    if spread > 1e-6:
        assert found["r2"] == pytest.approx(theirs.r2_score(y, p), rel=1e-6)


@pytest.mark.parametrize("name", sorted(METRICS["classification"] | METRICS["regression"]))
def test_no_rows_define_no_metric(name: str) -> None:
    assert compute_metric(name, [], []) is None


@pytest.mark.parametrize(
    ("name", "y", "p"),
    [
        ("roc_auc", [1, 1], [0.2, 0.9]),
        ("roc_auc", [0, 0], [0.2, 0.9]),
        ("average_precision", [0, 0], [0.2, 0.9]),
        ("recall", [0, 0], [0.2, 0.9]),
        ("f1", [0, 0], [0.2, 0.3]),
        ("r2", [2.0, 2.0], [1.0, 2.0]),
    ],
)
def test_what_the_rows_do_not_define_is_none(name: str, y: list[float], p: list[float]) -> None:
    assert compute_metric(name, y, p) is None
    assert name == "r2" or name not in compute_metrics("classification", y, p)
    assert name != "r2" or name not in compute_metrics("regression", y, p)


def test_a_model_that_never_says_yes_has_no_precision() -> None:
    assert compute_metric("precision", [1, 0], [0.1, 0.2]) == 0.0


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'roc_auc'"):
        compute_metric("roc_auk", [1], [1])


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([1, 0], [0.5], "do not belong together"),
        ([1, 0], [0.5, np.nan], "1 of 2 values of the prediction are NaN"),
        ([1, np.inf], [0.5, 0.5], "1 of 2 values of the outcome"),
        ([1, 2], [0.5, 0.5], "2 is no class"),
    ],
)
def test_rows_that_do_not_fit_are_refused(y: list[float], p: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compute_metric("roc_auc", y, p)
