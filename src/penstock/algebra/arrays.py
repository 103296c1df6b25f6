"""The array types of the engine."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
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

DIGIT_BITS = 16

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
    # By time first, which costs nothing where records come in order, then by code, which numpy
    # sorts in linear time, 16 bits at once.
    sorted_already = bool((times[1:] >= times[:-1]).all())
    order = None if sorted_already else np.argsort(times, kind="stable")
    places = codes + 1
    for shift in range(0, int(places.max(initial=0)).bit_length(), DIGIT_BITS):
        # What does not fit into the digit is cut off.
        digit = (places >> shift if shift else places).astype(np.uint16)
        if order is None:
            order = np.argsort(digit, kind="stable")
        else:
            order = order[np.argsort(digit[order], kind="stable")]
    return np.arange(len(times)) if order is None else order
