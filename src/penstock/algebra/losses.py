"""What one score lost or brought, by what came true: the values whose means are compared.

The mean of a loss over scores is the metric of that name, clipped and tied alike: ``log_loss`` and
``brier`` are those of ``metrics``, ``error`` is one less the accuracy, ``squared_error`` the square
of ``rmse``, ``absolute_error`` is ``mae``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import NotFoundError

from .metrics import SMALLEST, THRESHOLD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .arrays import FloatArray

__all__ = ["score_values"]


def score_values(metric: str, y: FloatArray, p: FloatArray) -> FloatArray:
    """The value of each score.

    Args:
        metric: ``log_loss``, ``brier``, ``error``, ``squared_error``, ``absolute_error``, or
            ``outcome`` for what came true itself.
        y: What came true, ``[n]``, finite; 0 or 1 for a classification.
        p: What was predicted, ``[n]``, finite.

    Returns:
        ``[n]``, finite.

    Raises:
        NotFoundError: There is no such value.
    """
    if metric not in _VALUES:
        raise NotFoundError.of("value of a score", metric, _VALUES)
    return _VALUES[metric](y, p)


def _log_loss(y: FloatArray, p: FloatArray) -> FloatArray:
    inner = np.clip(p, SMALLEST, 1 - SMALLEST)
    found: FloatArray = -(y * np.log(inner) + (1 - y) * np.log1p(-inner))
    return found


def _squared(y: FloatArray, p: FloatArray) -> FloatArray:
    found: FloatArray = np.square(p - y)
    return found


def _absolute(y: FloatArray, p: FloatArray) -> FloatArray:
    found: FloatArray = np.abs(p - y)
    return found


def _error(y: FloatArray, p: FloatArray) -> FloatArray:
    found: FloatArray = ((p >= THRESHOLD) != (y >= THRESHOLD)).astype(np.float64)
    return found


def _outcome(y: FloatArray, _: FloatArray) -> FloatArray:
    return y


_VALUES: Mapping[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "log_loss": _log_loss,
    "brier": _squared,
    "error": _error,
    "squared_error": _squared,
    "absolute_error": _absolute,
    "outcome": _outcome,
}
