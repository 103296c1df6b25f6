"""The states that aggregates are computed from. One law for batch, stream and read.

A state is a few 8-byte words with a zero, a way to lift single values, and an associative merge.
Every way to the same window merges the same states in another grouping, so the results agree:

- exactly for ``count``, ``min``, ``max``, ``first``, ``last``, ``first_k``, ``last_k``, ``top_k``,
  ``approx_distinct`` and ``approx_quantile``;
- within 1e-9 of the sum of absolute values for ``sum`` (and ``mean``, divided by the count; and
  ``decayed_mean``, values and count by their weights);
- within 1e-9 of the root mean square of the values for ``std`` (of their mean square for ``var``),
  computed from (n, mean, M2) after Welford and Chan, since a sum of squares loses all digits where
  the mean is large.

Windows of up to a million events stay far inside these bounds. A sum or deviation that leaves the
range of float64 has no defined value.

Values are float64, NaN for null. Words are float64 arrays; the time in ``Last`` is an int64 kept in
the same eight bytes, only ever copied or viewed as int64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .arrays import concatenate_ranges
from .decay import Decayed
from .largest import Largest
from .ordered import Newest, Oldest
from .quantiles import Buckets
from .registers import Registers
from .segments import Pyramid, padded, reduce_runs
from .state import NEVER_US, Lifted, State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .arrays import FloatArray, IntArray, Words
    from .state import Reducer

__all__ = ["NEVER_US", "State", "StateKey", "state_of"]

StateKey = tuple[str, int]
"""A kind of state by its name, and the number that makes it: k, or a half-life; else 0."""


class Count(Lifted):
    """How many values there were; a whole number kept as float64, exact below 2**53."""

    zero = (0.0,)
    stacks = True

    def lift(self, values: FloatArray, times: IntArray) -> Words:
        del times
        return ((~np.isnan(values)).astype(np.float64),)

    def reducer(self, words: Words) -> Reducer:
        # Whole numbers lose nothing in a running sum, so this one is allowed.
        (counts,) = words
        running = np.zeros((*counts.shape[:-1], counts.shape[-1] + 1))
        np.cumsum(counts, axis=-1, out=running[..., 1:])
        return lambda low, high: (running[..., high] - running[..., low],)

    def pairs(self, earlier: Words, later: Words) -> Words:
        return (earlier[0] + later[0],)


class Folded(Lifted):
    """One word folded by a ufunc: a sum, a minimum or a maximum.

    Args:
        ufunc: What folds two words into one.
        zero: The word that changes no other.
    """

    stacks = True

    def __init__(self, ufunc: np.ufunc, zero: float) -> None:
        self._ufunc = ufunc
        self.zero = (zero,)

    def lift(self, values: FloatArray, times: IntArray) -> Words:
        del times
        return (np.where(np.isnan(values), self.zero[0], values),)

    def runs(self, words: Words, low: IntArray, high: IntArray) -> Words:
        """Merge runs of states that end with one more state."""
        return (reduce_runs(self._ufunc, words[0], low, high, self.zero[0]),)

    def reducer(self, words: Words) -> Reducer:
        return Pyramid(self, padded(words)).runs

    def pairs(self, earlier: Words, later: Words) -> Words:
        return (self._ufunc(earlier[0], later[0]),)


class Spread(Lifted):
    """Count, mean and sum of squared deviations from it (M2)."""

    zero = (0.0, 0.0, 0.0)

    def lift(self, values: FloatArray, times: IntArray) -> Words:
        del times
        null = np.isnan(values)
        return (~null).astype(np.float64), np.where(null, 0.0, values), np.zeros(len(values))

    def runs(self, words: Words, low: IntArray, high: IntArray) -> Words:
        """Merge runs of states that end with one more state."""
        count, mean, squares = words
        merged = reduce_runs(np.add, count, low, high, 0.0)
        weight = reduce_runs(np.add, count * mean, low, high, 0.0)
        center = weight / np.maximum(merged, 1.0)
        lengths = high - low
        starts = np.cumsum(lengths) - lengths
        taken = concatenate_ranges(lengths) + np.repeat(low, lengths)
        away = mean[taken] - np.repeat(center, lengths)
        away = np.append(squares[taken] + count[taken] * away * away, 0.0)
        return merged, center, reduce_runs(np.add, away, starts, starts + lengths, 0.0)

    def reducer(self, words: Words) -> Reducer:
        return Pyramid(self, padded(words)).runs

    def pairs(self, earlier: Words, later: Words) -> Words:
        count = earlier[0] + later[0]
        share = later[0] / np.maximum(count, 1.0)
        delta = later[1] - earlier[1]
        mean = np.where(earlier[0] > 0, earlier[1] + delta * share, later[1])
        return count, mean, earlier[2] + later[2] + delta * delta * earlier[0] * share


class Last(Lifted):
    """Time (int64 in the same eight bytes) and value of the newest value."""

    zero = (float(np.array(NEVER_US).view(np.float64)), 0.0)

    def lift(self, values: FloatArray, times: IntArray) -> Words:
        null = np.isnan(values)
        seen = np.where(null, NEVER_US, times).view(np.float64)
        return seen, np.where(null, 0.0, values)

    def reducer(self, words: Words) -> Reducer:
        times, values = words[0].view(np.int64), words[1]
        # Where the newest state with a value stands, seen from after each state.
        places = np.where(times > NEVER_US, np.arange(len(times)), -1)
        newest = np.concatenate([[-1], np.maximum.accumulate(places)])

        def runs(low: IntArray, high: IntArray) -> Words:
            place = newest[high]
            found = place >= low
            seen = np.where(found, times[place], NEVER_US).view(np.float64)
            return seen, np.where(found, values[place], 0.0)

        return runs

    def pairs(self, earlier: Words, later: Words) -> Words:
        newer = later[0].view(np.int64) >= earlier[0].view(np.int64)
        times = np.where(newer, later[0].view(np.int64), earlier[0].view(np.int64))
        return times.view(np.float64), np.where(newer, later[1], earlier[1])


def state_of(key: StateKey) -> State:
    """The state of a kind.

    Args:
        key: The kind and its number.
    """
    kind, number = key
    return _KINDS[kind](number)


_KINDS: Mapping[str, Callable[[int], State]] = {
    "count": lambda _: Count(),
    "sum": lambda _: Folded(np.add, 0.0),
    "min": lambda _: Folded(np.minimum, np.inf),
    "max": lambda _: Folded(np.maximum, -np.inf),
    "spread": lambda _: Spread(),
    "last": lambda _: Last(),
    "oldest": Oldest,
    "newest": Newest,
    "largest": Largest,
    "decayed": Decayed,
    "registers": lambda _: Registers(),
    "buckets": lambda _: Buckets(),
}
