"""The k oldest or newest values of a window, in their order."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from .segments import gathered
from .state import NEVER_US, State

if TYPE_CHECKING:
    from .arrays import FloatArray, IntArray, Words
    from .state import Reducer

__all__ = ["EMPTY_US", "Newest", "Oldest"]

EMPTY_US = NEVER_US
"""The time of a place that holds no value."""


class _Places(State):
    """k places of (time as int64, value), the filled ones first.

    The law: of all values in time order, ties in the order of arrival, the first or the last k. It
    depends on the sequence alone, so merging is exact in any grouping.

    Args:
        k: Number of places.
    """

    _is_newest_first: bool

    def __init__(self, k: int) -> None:
        self.k = k
        empty = float(np.array(EMPTY_US).view(np.float64))
        self.zero = (empty,) * k + (0.0,) * k

    def events(self, values: FloatArray, times: IntArray) -> Reducer:
        held = np.flatnonzero(~np.isnan(values))
        return self._reducer(times[held], values[held], np.searchsorted(held, _edges(values)))

    def reducer(self, words: Words) -> Reducer:
        times = np.stack([word.view(np.int64) for word in words[: self.k]], axis=1)
        values = np.stack(words[self.k :], axis=1)
        if self._is_newest_first:
            times, values = times[:, ::-1], values[:, ::-1]
        held = times.ravel() > EMPTY_US
        past = np.concatenate([[0], np.cumsum(held.reshape(times.shape).sum(axis=1))])
        return self._reducer(times.ravel()[held], values.ravel()[held], past)

    def _reducer(self, times: IntArray, values: FloatArray, past: IntArray) -> Reducer:
        """Runs over values in order; ``past`` says how many there are before each place."""

        def runs(low: IntArray, high: IntArray) -> Words:
            start, end = self._cut(past[low], past[high])
            places, run = gathered(start, end)
            column = self._column(places, start[run], end[run])
            seen = np.full((self.k, len(low)), EMPTY_US)
            found = np.zeros((self.k, len(low)))
            seen[column, run], found[column, run] = times[places], values[places]
            return (*seen.view(np.float64), *found)

        return runs

    def pairs(self, earlier: Words, later: Words) -> Words:
        both = self._both(earlier, later)
        times = np.stack([word.view(np.int64) for states in both for word in states[: self.k]])
        values = np.stack([word for states in both for word in states[self.k :]])
        order = np.argsort(self._key(times), axis=0, kind="stable")[: self.k]
        times = np.take_along_axis(times, order, axis=0)
        return (*times.view(np.float64), *np.take_along_axis(values, order, axis=0))

    @abstractmethod
    def _cut(self, start: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
        """The k of each run ``[start, end)`` that are wanted, or all where fewer."""

    @abstractmethod
    def _column(self, places: IntArray, start: IntArray, end: IntArray) -> IntArray:
        """The place in the state that each value takes."""

    @abstractmethod
    def _both(self, earlier: Words, later: Words) -> tuple[Words, Words]:
        """Two states, the one that is preferred at equal times first."""

    @abstractmethod
    def _key(self, times: IntArray) -> IntArray:
        """What sorts the wanted times first, and the empty places last."""


class Newest(_Places):
    """The k newest values, newest first; of several at one time the last to arrive first."""

    _is_newest_first = True

    def _cut(self, start: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
        return np.maximum(start, end - self.k), end

    def _column(self, places: IntArray, start: IntArray, end: IntArray) -> IntArray:
        del start
        return end - 1 - places

    def _both(self, earlier: Words, later: Words) -> tuple[Words, Words]:
        return later, earlier

    def _key(self, times: IntArray) -> IntArray:
        return ~times


class Oldest(_Places):
    """The k oldest values, oldest first; of several at one time the first to arrive first."""

    _is_newest_first = False

    def _cut(self, start: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
        return start, np.minimum(end, start + self.k)

    def _column(self, places: IntArray, start: IntArray, end: IntArray) -> IntArray:
        del end
        return places - start

    def _both(self, earlier: Words, later: Words) -> tuple[Words, Words]:
        return earlier, later

    def _key(self, times: IntArray) -> IntArray:
        return np.where(times == EMPTY_US, np.iinfo(np.int64).max, times)


def _edges(values: FloatArray) -> IntArray:
    return np.arange(len(values) + 1)
