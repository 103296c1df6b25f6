"""The array types of the engine."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BoolArray", "FloatArray", "IntArray", "Words", "concatenate_ranges"]

BoolArray: TypeAlias = NDArray[np.bool_]
FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

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
