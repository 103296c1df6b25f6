"""From states to feature values, over arrays.

An empty window gives 0 for ``count``, ``sum`` and ``approx_distinct``, null (NaN) for every other
operator; ``std`` and ``var`` are null below two values. A result that is not finite is null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .ordered import EMPTY_US
from .quantiles import quantile_of
from .registers import distinct_of
from .states import NEVER_US

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from penstock.spec import Aggregate, AggregateOp

    from .arrays import FloatArray, Words
    from .states import StateKey

__all__ = ["finish", "needs_of", "null_where_not_finite"]


def needs_of(feature: Aggregate) -> tuple[StateKey, ...]:
    """The states a feature is computed from, in the order ``finish`` takes them."""
    return _NEEDS[feature.op](feature)


def finish(feature: Aggregate, states: Sequence[Words]) -> FloatArray:
    """Values of a feature from merged states; numpy's warnings are the caller's to silence.

    Args:
        feature: The feature.
        states: The states that ``needs_of`` names for it, in that order.

    Returns:
        float64 of shape (states,), or (states, k) for a feature of k values; what is not finite
        means null.
    """
    return _FINISH[feature.op](feature, *states)


def null_where_not_finite(values: FloatArray) -> FloatArray:
    """The values with NaN for all that are not finite."""
    return np.where(np.isfinite(values), values, np.nan)


def _only(_: Aggregate, state: Words) -> FloatArray:
    return state[0]


def _mean(_: Aggregate, count: Words, total: Words) -> FloatArray:
    return total[0] / count[0]


def _var(_: Aggregate, spread: Words) -> FloatArray:
    count, _mean, squares = spread
    return np.where(count > 1, squares / (count - 1), np.nan)


def _std(feature: Aggregate, spread: Words) -> FloatArray:
    return np.sqrt(_var(feature, spread))


def _last(_: Aggregate, last: Words) -> FloatArray:
    return np.where(last[0].view(np.int64) > NEVER_US, last[1], np.nan)


def _places(feature: Aggregate, places: Words) -> FloatArray:
    size = len(places) // 2
    times = np.stack([np.ascontiguousarray(word).view(np.int64) for word in places[:size]], axis=1)
    values = np.where(times > EMPTY_US, np.stack(places[size:], axis=1), np.nan)
    return values if feature.k else values[:, 0]


def _largest(_: Aggregate, largest: Words) -> FloatArray:
    return np.stack(largest, axis=1)


def _decayed(_: Aggregate, decayed: Words) -> FloatArray:
    return decayed[2] / decayed[1]


def _distinct(_: Aggregate, registers: Words) -> FloatArray:
    return distinct_of(registers)


def _quantile(feature: Aggregate, buckets: Words) -> FloatArray:
    return quantile_of(buckets, feature.q)


_NEEDS: Mapping[AggregateOp, Callable[[Aggregate], tuple[StateKey, ...]]] = {
    "count": lambda _: (("count", 0),),
    "sum": lambda _: (("sum", 0),),
    "mean": lambda _: (("count", 0), ("sum", 0)),
    "min": lambda _: (("min", 0),),
    "max": lambda _: (("max", 0),),
    "std": lambda _: (("spread", 0),),
    "var": lambda _: (("spread", 0),),
    "last": lambda _: (("last", 0),),
    "first": lambda _: (("oldest", 1),),
    "first_k": lambda feature: (("oldest", feature.k),),
    "last_k": lambda feature: (("newest", feature.k),),
    "top_k": lambda feature: (("largest", feature.k),),
    "decayed_mean": lambda feature: (("decayed", feature.half_life_us),),
    "approx_distinct": lambda _: (("registers", 0),),
    "approx_quantile": lambda _: (("buckets", 0),),
}
_FINISH: Mapping[AggregateOp, Callable[..., FloatArray]] = {
    "count": _only, "sum": _only, "min": _only, "max": _only, "mean": _mean, "std": _std,
    "var": _var, "last": _last, "first": _places, "first_k": _places, "last_k": _places,
    "top_k": _largest, "decayed_mean": _decayed, "approx_distinct": _distinct,
    "approx_quantile": _quantile,
}  # fmt: skip
