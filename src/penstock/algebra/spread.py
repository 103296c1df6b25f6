"""How the values of a column lie: nulls, moments, quantiles, and buckets that can be added up.

A spread is a function of the values alone, whatever their order and grouping (the mean and the
standard deviation up to rounding). Its buckets are those of ``quantiles``: fixed by the bits of
float64, at most 128 of them, at the least level that suffices. So the spreads of two days merge
exactly into that of both, and two days are always compared over the same bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import msgspec
import numpy as np

from .drift import psi
from .quantiles import BUCKETS, Buckets, bucket_edges, quantile_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .arrays import FloatArray, IntArray

__all__ = [
    "SPREAD_QUANTILES",
    "Spread",
    "equal_bins",
    "inner_span",
    "merge_spreads",
    "shift",
    "spreads_of",
]

SPREAD_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Which quantiles a spread has."""

SHIFT_BINS = 10
OUTLYING = 0.005
SHIFT_ROWS = 100
"""With fewer rows there is no shift: by chance alone it would be about 0.1."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How some values lie.

    Attributes:
        rows: How many there are, nulls among them.
        nulls: How many are null.
        mean: Their mean; none where all are null.
        std: Their sample standard deviation; none below two values, and where it leaves the range
            of float64.
        least: The least; none where all are null.
        greatest: The greatest.
        quantiles: The least values that shares of ``SPREAD_QUANTILES`` do not exceed; empty where
            all are null, and for merged spreads.
        level: Level of the buckets.
        buckets: The buckets that hold values, growing.
        counts: How many values each holds.
    """

    rows: int
    nulls: int
    mean: float | None = None
    std: float | None = None
    least: float | None = None
    greatest: float | None = None
    quantiles: tuple[float, ...] = ()
    level: int = 0
    buckets: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()


def spreads_of(values: FloatArray, low: IntArray, high: IntArray) -> list[Spread]:
    """The spread of each run ``[low, high)`` of values.

    Args:
        values: float64; what is not finite is null.
        low: Start of each run, ascending.
        high: End of each run.
    """
    known = np.where(np.isfinite(values), values, np.nan)
    times = np.zeros(len(known), dtype=np.int64)
    words = Buckets().events(known, times)(low, high)
    return [
        _spread(known[start:end], [word[place] for word in words])
        for place, (start, end) in enumerate(zip(low, high, strict=True))
    ]


def merge_spreads(spreads: Sequence[Spread]) -> Spread:
    """The spread of all values of several; exact but for the quantiles, which it does not have.

    Args:
        spreads: The spreads, at least one.
    """
    rows, nulls = sum(one.rows for one in spreads), sum(one.nulls for one in spreads)
    held = [one for one in spreads if one.buckets]
    if not held:
        return Spread(rows=rows, nulls=nulls)
    columns = zip(*map(_words, held), strict=True)
    words = tuple(np.append(np.array(column), 0.0) for column in columns)
    merged = Buckets().runs(words, np.array([0]), np.array([len(held)]))
    mean, std = _moments(held)
    return Spread(
        rows=rows,
        nulls=nulls,
        mean=mean,
        std=std,
        least=min(one.least for one in held if one.least is not None),
        greatest=max(one.greatest for one in held if one.greatest is not None),
        **_held([word[0] for word in merged]),
    )


def shift(reference: Spread, spread: Spread) -> float | None:
    """Population stability index of values against reference values, nulls a bin of their own.

    The bins are the tenths of the reference, cut within its buckets, whose values are taken to lie
    evenly. See ``psi`` for what it says.

    Args:
        reference: What it is compared with.
        spread: What is compared.

    Returns:
        The index; none where either has less than ``SHIFT_ROWS`` rows, which move by chance alone.
    """
    if min(reference.rows, spread.rows) < SHIFT_ROWS:
        return None
    edges = np.empty(0)
    if reference.buckets:
        columns = tuple(np.array([word]) for word in _words(reference))
        cuts = [quantile_of(columns, place / SHIFT_BINS)[0] for place in range(1, SHIFT_BINS)]
        edges = np.unique(cuts)
    return psi(_binned(reference, edges), _binned(spread, edges))


def inner_span(spread: Spread) -> tuple[float, float] | None:
    """Between which values all but one of a hundred lie: outliers would flatten a picture.

    Args:
        spread: The spread.

    Returns:
        About the quantiles of half a per cent from either end; none where there are no values.
    """
    if spread.least is None or spread.greatest is None:
        return None
    words = tuple(np.array([word]) for word in _words(spread))
    ends = np.array([quantile_of(words, q)[0] for q in (OUTLYING, 1 - OUTLYING)])
    low, high = np.clip(ends, spread.least, spread.greatest).tolist()
    return low, high


def equal_bins(
    spread: Spread, bins: int, *, span: tuple[float, float] | None = None
) -> tuple[FloatArray, FloatArray]:
    """The values in bins of equal width, for a picture.

    Args:
        spread: The spread.
        bins: How many bins.
        span: From where to where they go; from the least to the greatest value when left out. What
            lies beyond is in the outermost bins.

    Returns:
        Edges, float64 of ``bins + 1``, and about how many values lie in each bin, of ``bins``; both
        empty where there are no values.
    """
    if spread.least is None or spread.greatest is None:
        return np.empty(0), np.empty(0)
    low, high = span or (spread.least, spread.greatest)
    if low == high:
        # A constant has no width; half of its size to either side, or half of one for zero.
        room = abs(low) / 2 or 0.5
        low, high = low - room, high + room
    # In quarters, since the distance of two numbers may be none.
    edges = 4 * np.linspace(low / 4, high / 4, bins + 1)
    edges[0], edges[-1] = low, high
    past = _below(spread, edges[1:-1])
    held = float(sum(spread.counts))
    return edges, np.diff(np.concatenate([[0.0], past, [held]]))


def _spread(values: FloatArray, words: Sequence[float]) -> Spread:
    known = np.sort(values[~np.isnan(values)])
    nulls = len(values) - len(known)
    if not len(known):
        return Spread(rows=len(values), nulls=nulls)
    places = np.maximum(np.ceil(np.array(SPREAD_QUANTILES) * len(known)).astype(np.int64) - 1, 0)
    # In units of about the greatest value, of which no sum or square leaves the range of float64.
    unit = _exponent(known)
    scaled = np.ldexp(known, -unit)
    std = _unscaled(scaled.std(ddof=1), unit) if len(known) > 1 else None
    return Spread(
        rows=len(values),
        nulls=nulls,
        mean=float(np.ldexp(scaled.mean(), unit)),
        std=std,
        least=float(known[0]),
        greatest=float(known[-1]),
        quantiles=tuple(float(value) for value in known[places]),
        **_held(words),
    )


def _unscaled(value: float, unit: int) -> float | None:
    """A value in that power of two; none where it leaves the range of float64."""
    with np.errstate(over="ignore"):
        found = float(np.ldexp(value, unit))
    return found if np.isfinite(found) else None


class _Held(TypedDict):
    """The buckets of a spread."""

    level: int
    buckets: tuple[int, ...]
    counts: tuple[int, ...]


def _held(words: Sequence[float]) -> _Held:
    counts = [int(count) for count in words[1 + BUCKETS :]]
    used = len(counts) - counts.count(0)
    buckets = tuple(int(bucket) for bucket in words[1 : 1 + used])
    return _Held(level=int(words[0]), buckets=buckets, counts=tuple(counts[:used]))


def _words(spread: Spread) -> list[float]:
    """The words of the state that the spread's buckets are."""
    empty = [0.0] * (BUCKETS - len(spread.buckets))
    return [float(spread.level), *spread.buckets, *empty, *spread.counts, *empty]


def _moments(held: Sequence[Spread]) -> tuple[float, float | None]:
    """Mean and standard deviation of all values, from those of the parts."""
    counts = np.array([one.rows - one.nulls for one in held], dtype=np.float64)
    means = np.array([one.mean for one in held], dtype=np.float64)
    stds = np.array([one.std or 0.0 for one in held])
    unit = _exponent(np.concatenate([means, stds]))
    means, stds, total = np.ldexp(means, -unit), np.ldexp(stds, -unit), counts.sum()
    mean = (counts * means).sum() / total
    squares = (stds**2 * (counts - 1) + counts * (means - mean) ** 2).sum()
    std = _unscaled(np.sqrt(squares / (total - 1)), unit) if total > 1 else None
    return float(np.ldexp(mean, unit)), std


def _exponent(values: FloatArray) -> int:
    """The power of two above the greatest size of some values."""
    return int(np.frexp(np.abs(values).max())[1])


def _binned(spread: Spread, edges: FloatArray) -> FloatArray:
    """About how many values lie between the edges, and last the nulls."""
    held = float(sum(spread.counts))
    past = _below(spread, edges)
    return np.append(np.diff(np.concatenate([[0.0], past, [held]])), float(spread.nulls))


def _below(spread: Spread, edges: FloatArray) -> FloatArray:
    """About how many values lie below each edge."""
    if not spread.buckets:
        return np.zeros(len(edges))
    buckets, level = np.array(spread.buckets), np.full(len(spread.buckets), spread.level)
    low, high = bucket_edges(buckets, level)
    inside = (np.clip(edges[:, None], low, high) - low) / (high - low)
    past: FloatArray = (inside * np.array(spread.counts)).sum(axis=1)
    return past
