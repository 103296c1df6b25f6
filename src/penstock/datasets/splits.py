"""Splits: which part each row of a dataset belongs to.

- By time: the rows in time order are cut at the shares. Every entity is cut at the same instants
  and rows of one instant stay together, on the later side. Of the part before a cut, rows within
  the embargo of the next part's first row go to ``embargo``:
  ``max(train.at) + embargo <= min(validation.at)``, and likewise before the test part.
- At random: a hash of entity, time and seed gives each row a number between 0 and 1, which the
  shares cut. A row keeps its part when others are added.
- Shuffled: the rows in the order of that number, cut at the exact shares.
- Stratified: shuffled within each value of the label; a numeric label is first cut into tenths by
  rank.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.spec import RandomSplit, ShuffledSplit, StratifiedSplit, TimeSplit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.spec import Split

    Integers = NDArray[np.int64]

__all__ = ["EMBARGO", "PARTS", "assign_parts"]

PARTS = ("train", "validation", "test")
EMBARGO = "embargo"
NAMES = np.array([*PARTS, EMBARGO], dtype=object)
STRATA = 10
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)


def assign_parts(
    keys: pl.Series, at: pl.Series, label: pl.Series | None, split: Split
) -> pl.Series:
    """Assign each row to a part.

    Args:
        keys: The entity's key of each row: text or Int64.
        at: Its time, Datetime us.
        label: Its label; needed for a stratified split only.
        split: How to split.

    Returns:
        ``part``, text: ``train``, ``validation``, ``test`` or ``embargo``, in the rows' order.
    """
    times = at.cast(pl.Int64).to_numpy()
    if isinstance(split, TimeSplit):
        places = _by_time(times, split)
    elif isinstance(split, RandomSplit):
        share = _numbers(keys, times, split.seed).astype(np.float64) / 2.0**64
        places = np.searchsorted(_cuts(split), share, side="right")
    else:
        numbers = _numbers(keys, times, split.seed)
        places = _by_rank(numbers, _strata(label, len(times), split), split)
    return pl.Series("part", NAMES[places], dtype=pl.String)


def _cuts(split: Split) -> list[float]:
    return [split.train, split.train + split.validation]


def _by_time(times: Integers, split: TimeSplit) -> Integers:
    places = np.full(len(times), 2)
    if not len(times):
        return places
    ordered = np.sort(times)
    ends = [min(round(cut * len(times)), len(times) - 1) for cut in _cuts(split)]
    for place, cut in reversed(list(enumerate(ordered[ends]))):
        places[times < cut] = place
    for place in range(len(PARTS) - 1):
        following = times[(places > place) & (places < len(PARTS))]
        late = times > following.min() - split.embargo_us
        places[(places == place) & late] = len(PARTS)
    return places


def _by_rank(numbers: NDArray[np.uint64], strata: Integers, split: Split) -> Integers:
    """Cut each stratum at the exact shares, in the order of the numbers."""
    places = np.empty(len(numbers), dtype=np.int64)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        rows = rows[np.argsort(numbers[rows], kind="stable")]
        ends = [round(cut * len(rows)) for cut in _cuts(split)]
        for place, chunk in enumerate(np.split(rows, ends)):
            places[chunk] = place
    return places


def _strata(label: pl.Series | None, rows: int, split: ShuffledSplit | StratifiedSplit) -> Integers:
    if label is None or isinstance(split, ShuffledSplit):
        return np.zeros(rows, dtype=np.int64)
    if label.dtype == pl.Boolean:
        return label.cast(pl.Int64).to_numpy()
    return ((label.rank("ordinal").cast(pl.Int64) - 1) * STRATA // max(rows, 1)).to_numpy()


def _numbers(keys: pl.Series, times: Integers, seed: int) -> NDArray[np.uint64]:
    """A number for each row, spread evenly over 64 bits: the same on every machine, for ever."""
    distinct = keys.unique()
    hashes = pl.Series([_key_hash(key, seed) for key in distinct], dtype=pl.UInt64)
    of_key = keys.replace_strict(distinct, hashes, return_dtype=pl.UInt64).to_numpy()
    return _mixed(_mixed(times.astype(np.uint64)) ^ of_key)


def _key_hash(key: object, seed: int) -> int:
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: each bit of the input moves half of the output's."""
    values = values + GOLDEN
    values = (values ^ (values >> np.uint64(30))) * FIRST
    values = (values ^ (values >> np.uint64(27))) * SECOND
    return values ^ (values >> np.uint64(31))
