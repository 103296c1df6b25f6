"""The array types of the engine."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "KEY_LIMIT",
    "BoolArray",
    "FloatArray",
    "IntArray",
    "Words",
    "concatenate_ranges",
    "order_of",
]

BoolArray: TypeAlias = NDArray[np.bool_]
FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

KEY_LIMIT = 2**62
"""A whole number made of a code and a time stays below it, else both are compared in turn."""

Words: TypeAlias = tuple[FloatArray, ...]
"""States of one kind, one array per word of the state; all of one length."""


def concatenate_ranges(lengths: IntArray) -> IntArray:
    """Count up from 0 within each of several stretches laid end to end.

    Args:
        lengths: Length of each stretch, none negative.

    Returns:
        ``0..lengths[0]-1, 0..lengths[1]-1, ...`` as one int64 array.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) - np.repeat(ends - lengths, lengths)


def order_of(codes: IntArray, times: IntArray) -> IntArray:
    """The order by code and time; what is equal in both stays in the order given.

    Args:
        codes: Whole numbers from -1 on.
        times: int64 microseconds, of the same length.
    """
    if not len(codes):
        return np.empty(0, dtype=np.int64)
    oldest = int(times.min())
    span = int(times.max()) - oldest + 1
    if span * (int(codes.max()) + 2) > KEY_LIMIT:
        return np.lexsort((times, codes))
    # One number for both sorts several times faster than two.
    return np.argsort(codes * span + (times - oldest), kind="stable")
