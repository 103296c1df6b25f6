"""Curves: how a classifier trades one kind of mistake for the other, and whether it is honest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Calibration", "Curve", "calibration", "precision_recall_curve", "roc_curve"]

Floats = NDArray[np.float64]
POINTS = 1000


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Points of a curve, float64 ``[m]`` each; at most 1,000 of them, both ends among them."""

    x: Floats
    y: Floats


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Predicted against observed, by groups of equal size.

    Attributes:
        predicted: Mean predicted probability of each group, growing.
        observed: Share of true labels of each group.
        rows: Rows of each group.
    """

    predicted: Floats
    observed: Floats
    rows: NDArray[np.int64]


def roc_curve(y: ArrayLike, p: ArrayLike) -> Curve:
    """Share of positives found (y) against share of negatives taken for one (x).

    Args:
        y: Labels, 0 or 1, ``[n]``; both occur.
        p: Predicted probabilities, ``[n]``.
    """
    hits, taken, positives = _cumulated(y, p)
    negatives = taken[-1] - positives
    found = np.append(0.0, hits / positives)
    wrong = np.append(0.0, (taken - hits) / negatives)
    return _thinned(wrong, found)


def precision_recall_curve(y: ArrayLike, p: ArrayLike) -> Curve:
    """Precision (y) against recall (x), from the surest answers on.

    Args:
        y: Labels, 0 or 1, ``[n]``; at least one 1.
        p: Predicted probabilities, ``[n]``.
    """
    hits, taken, positives = _cumulated(y, p)
    return _thinned(hits / positives, hits / taken)


def calibration(y: ArrayLike, p: ArrayLike, *, groups: int = 10) -> Calibration:
    """Compare predicted with observed shares in groups of equal size, by predicted probability.

    Args:
        y: Labels, 0 or 1, ``[n]``; not empty.
        p: Predicted probabilities, ``[n]``.
        groups: How many groups; fewer where there are fewer rows.
    """
    truth, predicted = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    order = np.argsort(predicted, kind="stable")
    chunks = [chunk for chunk in np.array_split(order, groups) if len(chunk)]
    return Calibration(
        predicted=np.array([predicted[chunk].mean() for chunk in chunks]),
        observed=np.array([truth[chunk].mean() for chunk in chunks]),
        rows=np.array([len(chunk) for chunk in chunks], dtype=np.int64),
    )


def _cumulated(y: ArrayLike, p: ArrayLike) -> tuple[Floats, Floats, float]:
    """At each distinct probability, from the greatest: positives found, rows taken, and of all."""
    truth, predicted = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    order = np.argsort(-predicted, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(predicted[order])), len(truth) - 1)
    hits = np.cumsum(truth[order])[ends]
    return hits, (ends + 1).astype(np.float64), float(hits[-1])


def _thinned(x: Floats, y: Floats) -> Curve:
    if len(x) <= POINTS:
        return Curve(x=x, y=y)
    kept = np.unique(np.linspace(0, len(x) - 1, POINTS).round().astype(np.int64))
    return Curve(x=x[kept], y=y[kept])
