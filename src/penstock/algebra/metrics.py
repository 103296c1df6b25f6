"""Metrics: how far predictions agree with what came true.

Written once, in plain numpy, because training chooses by them, evaluation judges by them and
monitoring watches them live, and all three have to mean the same.

A metric that the rows cannot define is None, never NaN: everything without rows, ``roc_auc`` with
one class, ``average_precision`` and ``recall`` without positives, ``f1`` with neither positives nor
positive answers, ``r2`` where the truth does not vary. ``precision`` is 0 where nothing was
predicted positive, so that a model which never says yes passes no gate on it. A probability counts
as a yes from 0.5 on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from penstock.errors import InputError, NotFoundError
from penstock.spec import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["compute_metric", "compute_metrics"]

THRESHOLD = 0.5
SMALLEST = float(np.finfo(np.float64).eps)


def compute_metric(name: str, y: ArrayLike, p: ArrayLike) -> float | None:
    """Compute one metric.

    Args:
        name: One of ``penstock.spec.METRICS``.
        y: What came true, ``[n]``: 0 or 1 (or booleans) for classification, else numbers.
        p: What was predicted, ``[n]``: the probability of 1, or the value.

    Returns:
        The metric; None where the rows do not define it.

    Raises:
        NotFoundError: No metric has that name.
        InputError: Lengths differ, a value is not finite, or a class is neither 0 nor 1.
    """
    classifies = name in METRICS["classification"]
    if not classifies and name not in METRICS["regression"]:
        known = METRICS["classification"] | METRICS["regression"]
        raise NotFoundError.of("metric", name, known)
    truth, predicted = _checked(y, p, classifies=classifies)
    if not truth.size:
        return None
    return _METRICS[name](truth, predicted)


def compute_metrics(
    task: Literal["classification", "regression"], y: ArrayLike, p: ArrayLike
) -> dict[str, float]:
    """Compute every metric of a task that the rows define, by name.

    Args:
        task: The task.
        y: What came true, as for ``compute_metric``.
        p: What was predicted.

    Raises:
        InputError: As for ``compute_metric``.
    """
    values = {name: compute_metric(name, y, p) for name in sorted(METRICS[task])}
    return {name: value for name, value in values.items() if value is not None}


def _checked(y: ArrayLike, p: ArrayLike, *, classifies: bool) -> tuple[Floats, Floats]:
    truth = np.asarray(y, dtype=np.float64)
    predicted = np.asarray(p, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != predicted.shape:
        raise InputError(
            f"Outcomes of shape {truth.shape} and predictions of shape {predicted.shape} do not "
            "belong together; hand in one of each per row.",
            outcomes=list(truth.shape),
            predictions=list(predicted.shape),
        )
    for what, values in (("outcome", truth), ("prediction", predicted)):
        wrong = int(np.count_nonzero(~np.isfinite(values)))
        if wrong:
            raise InputError(
                f"{wrong} of {values.size} values of the {what} are NaN or infinite; "
                "leave those rows out or find out why they are.",
                what=what,
                wrong=wrong,
            )
    if classifies and not np.isin(truth, (0.0, 1.0)).all():
        odd = float(truth[~np.isin(truth, (0.0, 1.0))][0])
        raise InputError(f"The outcome {odd:g} is no class; expected 0 or 1.", outcome=odd)
    return truth, predicted


def _roc_auc(y: Floats, p: Floats) -> float | None:
    """Probability that a positive is ranked above a negative; ties count half."""
    positives = float(y.sum())
    negatives = y.size - positives
    if not positives or not negatives:
        return None
    _, place, counts = np.unique(p, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    above = float(ranks[place][y == 1].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)


def _average_precision(y: Floats, p: Floats) -> float | None:
    """Precision at each distinct probability, weighted by the recall it adds."""
    positives = float(y.sum())
    if not positives:
        return None
    order = np.argsort(-p, kind="stable")
    hits, scores = np.cumsum(y[order]), p[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), y.size - 1)
    precision = hits[ends] / (ends + 1)
    return float(np.sum(np.diff(hits[ends], prepend=0.0) * precision) / positives)


def _log_loss(y: Floats, p: Floats) -> float:
    sure = np.clip(p, SMALLEST, 1 - SMALLEST)
    return float(-np.mean(y * np.log(sure) + (1 - y) * np.log1p(-sure)))


def _squared_error(y: Floats, p: Floats) -> float:
    return float(np.mean((y - p) ** 2))


def _accuracy(y: Floats, p: Floats) -> float:
    return float(np.mean((p >= THRESHOLD) == (y == 1)))


def _counts(y: Floats, p: Floats) -> tuple[float, float, float]:
    """True positives, false positives, false negatives."""
    yes = p >= THRESHOLD
    hits = float(y[yes].sum())
    return hits, float(np.count_nonzero(yes)) - hits, float(y.sum()) - hits


def _precision(y: Floats, p: Floats) -> float:
    hits, wrong, _ = _counts(y, p)
    return hits / (hits + wrong) if hits + wrong else 0.0


def _recall(y: Floats, p: Floats) -> float | None:
    hits, _, missed = _counts(y, p)
    return hits / (hits + missed) if hits + missed else None


def _f1(y: Floats, p: Floats) -> float | None:
    hits, wrong, missed = _counts(y, p)
    both = 2 * hits + wrong + missed
    return 2 * hits / both if both else None


def _mae(y: Floats, p: Floats) -> float:
    return float(np.mean(np.abs(y - p)))


def _r2(y: Floats, p: Floats) -> float | None:
    spread = float(np.sum((y - y.mean()) ** 2))
    return 1 - float(np.sum((y - p) ** 2)) / spread if spread else None


_METRICS: Mapping[str, Callable[[Floats, Floats], float | None]] = {
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
    "log_loss": _log_loss,
    "brier": _squared_error,
    "accuracy": _accuracy,
    "f1": _f1,
    "precision": _precision,
    "recall": _recall,
    "rmse": lambda y, p: _squared_error(y, p) ** 0.5,
    "mae": _mae,
    "r2": _r2,
}
