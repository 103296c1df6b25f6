"""The k largest values of a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .segments import Pyramid, gathered, padded
from .state import State

if TYPE_CHECKING:
    from .arrays import FloatArray, IntArray, Words
    from .state import Reducer

__all__ = ["Largest"]

NONE = -np.inf


class Largest(State):
    """The k largest values, largest first, equal ones repeated; -inf where there are fewer.

    Single values are states of one word: only merged ones have k.

    Args:
        k: How many.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.zero = (NONE,) * k

    def events(self, values: FloatArray, times: IntArray) -> Reducer:
        del times
        return Pyramid(self, padded((np.where(np.isnan(values), NONE, values),))).runs

    def reducer(self, words: Words) -> Reducer:
        return Pyramid(self, padded(words)).runs

    def runs(self, words: Words, low: IntArray, high: IntArray) -> Words:
        """Merge runs of states that end with one more state."""
        places, run = gathered(low, high)
        values = np.concatenate([word[places] for word in words])
        runs = np.tile(run, len(words))
        held = values > NONE
        values, runs = values[held], runs[held]
        order = np.lexsort((-values, runs))
        values, runs = values[order], runs[order]
        rank = np.arange(len(runs)) - np.searchsorted(runs, runs)
        kept = rank < self.k
        result = np.full((self.k, len(low)), NONE)
        result[rank[kept], runs[kept]] = values[kept]
        return tuple(result)

    def pairs(self, earlier: Words, later: Words) -> Words:
        both = np.sort(np.stack([*earlier, *later]), axis=0)[::-1]
        return tuple(np.ascontiguousarray(both[: self.k]))
