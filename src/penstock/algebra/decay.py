"""Means in which a value counts the less the older it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .segments import Pyramid, gathered, padded, reduce_runs
from .state import NEVER_US, Lifted

if TYPE_CHECKING:
    from .arrays import FloatArray, IntArray, Words
    from .state import Reducer

__all__ = ["Decayed"]


class Decayed(Lifted):
    """Time of the newest value (int64), and the sums of weights and of weighted values as of then.

    A value of age a weighs ``2 ** -(a / half_life)``. The mean does not depend on when it is asked,
    since all weights shrink alike; so the weights count from the newest value, whose own is 1: none
    overflows, and one that underflows is of no account beside it.

    Args:
        half_life_us: The age at which a value weighs half.
    """

    zero = (float(np.array(NEVER_US).view(np.float64)), 0.0, 0.0)

    def __init__(self, half_life_us: int) -> None:
        self.half_life_us = half_life_us

    def lift(self, values: FloatArray, times: IntArray) -> Words:
        null = np.isnan(values)
        seen = np.where(null, NEVER_US, times).view(np.float64)
        return seen, (~null).astype(np.float64), np.where(null, 0.0, values)

    def reducer(self, words: Words) -> Reducer:
        return Pyramid(self, padded(words)).runs

    def runs(self, words: Words, low: IntArray, high: IntArray) -> Words:
        """Merge runs of states that end with one more state."""
        times, weights, sums = words[0].view(np.int64), words[1], words[2]
        places, run = gathered(low, high)
        newest = np.full(len(low), NEVER_US)
        np.maximum.at(newest, run, times[places])
        factor = self._factor(times[places], newest[run])
        ends = np.cumsum(high - low)
        starts = ends - (high - low)
        merged = [
            reduce_runs(np.add, np.append(word[places] * factor, 0.0), starts, ends, 0.0)
            for word in (weights, sums)
        ]
        return newest.view(np.float64), merged[0], merged[1]

    def pairs(self, earlier: Words, later: Words) -> Words:
        one, other = earlier[0].view(np.int64), later[0].view(np.int64)
        newest = np.maximum(one, other)
        first, second = self._factor(one, newest), self._factor(other, newest)
        return (
            newest.view(np.float64),
            earlier[1] * first + later[1] * second,
            earlier[2] * first + later[2] * second,
        )

    def _factor(self, times: IntArray, newest: IntArray) -> FloatArray:
        """What the weights as of a time are as of a later one."""
        known = times > NEVER_US
        age = np.where(known, newest - np.where(known, times, 0), 0)
        return np.where(known, np.exp2(-(age / self.half_life_us)), 0.0)
