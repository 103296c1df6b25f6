"""From states to feature values: over arrays, and for one entity in plain Python.

An empty window gives 0 for ``count`` and ``sum``, null (NaN) for every other operator; ``std`` is
null below two values. A result that is not finite is null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .states import NEVER_US, StateName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from penstock.spec import AggregateOp

    from .arrays import FloatArray, Words

__all__ = ["NEEDS", "finish"]

NEEDS: Mapping[AggregateOp, tuple[StateName, ...]] = {
    "count": ("count",),
    "sum": ("sum",),
    "mean": ("count", "sum"),
    "min": ("min",),
    "max": ("max",),
    "std": ("spread",),
    "last": ("last",),
}
"""The states each operator is computed from, in the order its functions take them."""


def finish(op: AggregateOp, states: Sequence[Words]) -> FloatArray:
    """Values of a feature from merged states.

    Args:
        op: The feature's operator.
        states: The states that ``NEEDS`` names for it, in that order.

    Returns:
        One float64 per state, NaN for null.
    """
    with np.errstate(all="ignore"):
        result = _FINISH[op](*states)
    return np.where(np.isfinite(result), result, np.nan)


def _mean(count: Words, total: Words) -> FloatArray:
    return total[0] / count[0]


def _std(spread: Words) -> FloatArray:
    count, _, squares = spread
    return np.where(count > 1, np.sqrt(squares / (count - 1)), np.nan)


def _last(last: Words) -> FloatArray:
    return np.where(last[0].view(np.int64) > NEVER_US, last[1], np.nan)


def _only(state: Words) -> FloatArray:
    return state[0]


_FINISH: Mapping[AggregateOp, Callable[..., FloatArray]] = {
    "count": _only, "sum": _only, "min": _only, "max": _only,
    "mean": _mean, "std": _std, "last": _last,
}  # fmt: skip
