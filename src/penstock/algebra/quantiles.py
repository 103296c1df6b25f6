"""Approximate quantiles from buckets of values that double in width when they are too many.

In the manner of DDSketch (C. Masson, J. Rim, H. Lee, 2019) with the uniform collapse of UDDSketch
(I. Epicoco and others, 2020), over the bits of float64 instead of logarithms, so that every machine
finds the same bucket: the exponent and the leading bits of the mantissa, 128 buckets for each power
of two at level 0. At each further level two neighbours are one. A state is at the least level at
which its values fill at most 128 buckets. That makes it a function of the values alone, whatever
their order and grouping: merging is exact, which no sketch that draws lots can offer.

A value of a bucket differs from any other in it by less than ``2 ** (level - 7)`` of itself while
the level is at most 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .segments import Pyramid, gathered, padded
from .state import State

if TYPE_CHECKING:
    from .arrays import FloatArray, IntArray, Words
    from .state import Reducer

__all__ = ["BUCKETS", "Buckets", "bucket_edges", "quantile_of"]

BUCKETS = 128
"""Places of a state."""

SHIFT = 52 - 7
STEP = 1_000_000
"""Entries merged at once, unless a single run has more."""


class Buckets(State):
    """The level, then the buckets in order and how many values each holds; unused ones are 0.

    A bucket is ``bits >> (45 + level)`` for values of at least 0, and -1 less that for negative
    ones, so that buckets ascend with their values.
    """

    zero = (0.0,) * (1 + 2 * BUCKETS)

    def events(self, values: FloatArray, times: IntArray) -> Reducer:
        del times
        held = ~np.isnan(values)
        bucket = _buckets(np.where(held, values, 0.0))
        return Pyramid(self, padded((bucket.astype(np.float64), held.astype(np.float64)))).runs

    def reducer(self, words: Words) -> Reducer:
        return Pyramid(self, padded(words)).runs

    def runs(self, words: Words, low: IntArray, high: IntArray) -> Words:
        """Merge runs of states, or of single (bucket, count), that end with one more."""
        result = np.zeros((1 + 2 * BUCKETS, len(low)))
        ends = np.cumsum((high - low) * (len(words) // 2))
        start = 0
        while start < len(low):
            done = ends[start - 1] if start else 0
            end = max(int(np.searchsorted(ends, done + STEP, side="right")), start + 1)
            some = slice(start, end)
            result[:, some] = _merged(_entries(words, low[some], high[some]), end - start)
            start = end
        return tuple(result)

    def pairs(self, earlier: Words, later: Words) -> Words:
        size = len(earlier[0])
        both = tuple(np.append(one, other) for one, other in zip(earlier, later, strict=True))
        entries = _entries(both, np.arange(2 * size), np.arange(1, 2 * size + 1))
        return tuple(_merged(entries._replace(run=entries.run % max(size, 1)), size))


class _Entries(NamedTuple):
    """Buckets of several states, in any order.

    Attributes:
        run: The run each belongs to.
        level: The level it is of.
        bucket: The bucket.
        held: How many values it holds; positive.
    """

    run: IntArray
    level: IntArray
    bucket: IntArray
    held: FloatArray


def _entries(words: Words, low: IntArray, high: IntArray) -> _Entries:
    places, run = gathered(low, high)
    size = len(words) // 2
    whole = len(words) % 2
    level = words[0][places] if whole else np.zeros(len(places))
    buckets = np.stack([word[places] for word in words[whole : whole + size]])
    counts = np.stack([word[places] for word in words[whole + size :]])
    held = counts > 0
    return _Entries(
        run=np.broadcast_to(run, counts.shape)[held],
        level=np.broadcast_to(level, counts.shape)[held].astype(np.int64),
        bucket=buckets[held].astype(np.int64),
        held=counts[held],
    )


def _merged(entries: _Entries, size: int) -> FloatArray:
    """The states of ``size`` runs, a row per word."""
    result = np.zeros((1 + 2 * BUCKETS, size))
    level = np.zeros(size, dtype=np.int64)
    np.maximum.at(level, entries.run, entries.level)
    run, count = entries.run, entries.held
    bucket = entries.bucket >> (level[run] - entries.level)
    while len(run):
        run, bucket, count = _summed(run, bucket, count)
        distinct = np.bincount(run, minlength=size)
        full = distinct > BUCKETS
        ready = ~full[run]
        rank = np.arange(len(run)) - np.searchsorted(run, run)
        result[1 + rank[ready], run[ready]] = bucket[ready]
        result[1 + BUCKETS + rank[ready], run[ready]] = count[ready]
        level[full] += 1
        run, bucket, count = run[~ready], bucket[~ready] >> 1, count[~ready]
    result[0] = level
    return result


def _summed(
    run: IntArray, bucket: IntArray, count: FloatArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Sort by run and bucket, and add up the counts of equal ones."""
    order = np.lexsort((bucket, run))
    run, bucket, count = run[order], bucket[order], count[order]
    new = np.concatenate([[True], (run[1:] != run[:-1]) | (bucket[1:] != bucket[:-1])])
    first = np.flatnonzero(new)
    return run[first], bucket[first], np.add.reduceat(count, first)


def _buckets(values: FloatArray) -> IntArray:
    bucket = np.abs(values).view(np.int64) >> SHIFT
    return np.where(values < 0, -1 - bucket, bucket)


def quantile_of(words: Words, q: float) -> FloatArray:
    """A value below which a share of each state's values lies, NaN for an empty state.

    The values of a bucket are taken to lie evenly in it.

    Args:
        words: The states.
        q: The share, above 0 and below 1.
    """
    level = words[0].astype(np.int64)
    buckets, counts = np.stack(words[1 : 1 + BUCKETS]), np.stack(words[1 + BUCKETS :])
    past = np.cumsum(counts, axis=0)
    total = past[-1]
    wanted = q * total
    place = np.minimum((past < wanted).sum(axis=0), BUCKETS - 1)
    at = (place, np.arange(len(level)))
    inside = (wanted - (past[at] - counts[at])) / np.where(total > 0, counts[at], 1.0)
    bucket = buckets[at].astype(np.int64)
    low, high = bucket_edges(bucket, level)
    return np.where(total > 0, low + np.clip(inside, 0, 1) * (high - low), np.nan)


def bucket_edges(bucket: IntArray, level: IntArray) -> tuple[FloatArray, FloatArray]:
    """Between which values those of each bucket lie.

    Args:
        bucket: The buckets.
        level: The level of each.
    """
    return _value(bucket, level), _value(bucket + 1, level)


def _value(bucket: IntArray, level: IntArray) -> FloatArray:
    """The end of a bucket that lies next to the bucket before it."""
    # Past the greatest exponent there is no number: the end is the greatest there is.
    most = np.array(np.finfo(np.float64).max).view(np.int64)
    shift = np.minimum(SHIFT + level, 62)
    size = np.where(bucket < 0, -bucket, bucket)
    bits = np.where(size > (most >> shift), most, size << shift)
    return np.where(bucket < 0, -1.0, 1.0) * bits.view(np.float64)
