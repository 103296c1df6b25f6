"""Merging runs of states: ``ufunc.reduceat`` for short runs, pre-merged blocks for long ones.

Never by the difference of two running sums: one large value would destroy every later window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from .arrays import concatenate_ranges

if TYPE_CHECKING:
    from .arrays import FloatArray, IntArray, Words

__all__ = ["BLOCK", "Merge", "Pyramid", "gathered", "padded", "reduce_runs"]

BLOCK = 64
"""States per block; a run shorter than two blocks is merged state by state."""


class Merge(Protocol):
    """Merges states kept in arrays that end with one state that no run includes."""

    def runs(self, words: Words, low: IntArray, high: IntArray) -> Words:
        """Merge the states ``[low, high)`` of each run; the zero state for an empty one."""
        ...

    def pairs(self, earlier: Words, later: Words) -> Words:
        """Merge states one by one."""
        ...


def reduce_runs(
    ufunc: np.ufunc, padded: FloatArray, low: IntArray, high: IntArray, zero: float
) -> FloatArray:
    """Reduce each run ``[low, high)`` of an array.

    Work is the length of the runs plus the gaps between them, so runs in ascending order cost
    least.

    Args:
        ufunc: The reduction, such as ``np.add``.
        padded: The values, and one more that no run includes; of two dimensions each row by itself.
        low: Start of each run; at least one.
        high: End of each run, not in it itself; not below its start.
        zero: The result for an empty run.
    """
    bounds = np.empty(2 * len(low), dtype=np.int64)
    bounds[0::2], bounds[1::2] = low, high
    result = ufunc.reduceat(padded[..., : int(high.max()) + 1], bounds, axis=-1)[..., 0::2]
    return np.where(high > low, result, zero)


def padded(words: Words) -> Words:
    """States with one more at the end that no run includes."""
    return tuple(_padded(word) for word in words)


def _padded(word: FloatArray) -> FloatArray:
    longer = np.zeros((*word.shape[:-1], word.shape[-1] + 1))
    longer[..., :-1] = word
    return longer


def gathered(low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
    """The places in each run ``[low, high)``, one run after the other.

    Returns:
        The places, and the run of each.
    """
    lengths = high - low
    runs = np.repeat(np.arange(len(low)), lengths)
    return concatenate_ranges(lengths) + np.repeat(low, lengths), runs


class Pyramid:
    """States in order, with blocks of 64 merged beforehand, and blocks of blocks, when needed.

    A run of n states costs at most 128 states per level and log64(n) levels.

    Args:
        merge: How states merge.
        words: The states in order, with one more at the end that no run includes.
    """

    def __init__(self, merge: Merge, words: Words) -> None:
        self._merge = merge
        self._words = words
        self._upper: Pyramid | None = None

    def runs(self, low: IntArray, high: IntArray) -> Words:
        """Merge the states ``[low, high)`` of each run.

        Args:
            low: Start of each run; best in ascending order.
            high: End of each run, not in it itself; not below its start.
        """
        long = high - low >= 2 * BLOCK
        if not long.any():
            return self._merge.runs(self._words, low, high)
        first = -(-low // BLOCK)
        past = np.where(long, high // BLOCK, first)
        head = self._merge.runs(self._words, low, np.where(long, first * BLOCK, high))
        body = self._blocks().runs(first, past)
        tail = self._merge.runs(self._words, np.where(long, past * BLOCK, high), high)
        return self._merge.pairs(self._merge.pairs(head, body), tail)

    def _blocks(self) -> Pyramid:
        if self._upper is None:
            size = self._words[0].shape[-1] - 1
            low = np.arange(0, size, BLOCK, dtype=np.int64)
            merged = self._merge.runs(self._words, low, np.minimum(low + BLOCK, size))
            self._upper = Pyramid(self._merge, padded(merged))
        return self._upper
