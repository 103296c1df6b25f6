"""What is found of a source as of a time: the newest record of a key, or the features of it.

The law of ``windows`` holds here too: times count with ``known_after``; of two records known at one
time, the one that arrived later, by (``_batch``, ``_row``), is the newer; what stays true for
``within`` is true while it is younger than that. Features are the batch engine's.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from .extract import Events, extract
from .kernel import Ordered, compute_points, search_in
from .segments import gathered
from .state import NEVER_US

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .arrays import BoolArray, FloatArray, IntArray
    from .program import Program

__all__ = ["Found", "FoundFeatures", "Keyed", "find_features", "find_newest"]

BATCH, ROW = "_batch", "_row"


class Found(NamedTuple):
    """What was found.

    Attributes:
        records: The records that were found, in no particular order.
        places: The place among them of what each asked for, -1 for nothing.
    """

    records: pl.DataFrame
    places: IntArray

    def column(self, name: str) -> pl.Series:
        """The values of a column for each that asked; null where nothing was found."""
        places = pl.Series(self.places)
        return self.records[name].gather(places.set(places < 0, None))


def find_newest(
    parts: Sequence[Keyed], keys: pl.Series, at_us: IntArray, within_us: int = 0
) -> Found:
    """Find the newest record of each key that is known at a time.

    Args:
        parts: The records, of which those of a later part arrived after those of an earlier; at
            least one part.
        keys: The keys; nothing is found for null.
        at_us: The time for each.
        within_us: How long a record stays true; 0 for ever.
    """
    best = np.full(len(keys), -1, dtype=np.int64)
    best_us = np.full(len(keys), NEVER_US)
    best_part = np.full(len(keys), -1, dtype=np.int64)
    for number, part in enumerate(parts):
        places = part.newest(keys, at_us, within_us)
        asked = np.flatnonzero(places >= 0)
        newer = asked[part.known_us[places[asked]] >= best_us[asked]]
        best[newer], best_us[newer] = places[newer], part.known_us[places[newer]]
        best_part[newer] = number
    if len(parts) == 1:
        return Found(parts[0].records, best)
    rows = [np.flatnonzero(best_part == number) for number in range(len(parts))]
    records = pl.concat([part.records[best[own]] for part, own in zip(parts, rows, strict=True)])
    found = np.full(len(keys), -1, dtype=np.int64)
    found[np.concatenate(rows)] = np.arange(records.height)
    return Found(records, found)


class FoundFeatures(NamedTuple):
    """What features were at the times that were asked for.

    Attributes:
        values: float64 of shape (times, features), NaN for null.
        any: Whether there was a record of the key as far back as the features can look.
    """

    values: FloatArray
    any: BoolArray


def find_features(
    program: Program, parts: Sequence[Keyed], keys: pl.Series, at_us: IntArray
) -> FoundFeatures:
    """Compute the features of each key at a time.

    Of each key only the records are looked at that one of its times can reach.

    Args:
        program: The compiled view.
        parts: The records, of which those of a later part arrived after those of an earlier; at
            least one part.
        keys: The keys; null is an unknown one.
        at_us: The time for each.
    """
    known = keys.drop_nulls().unique().sort()
    codes = _places_in(known, keys)
    asked = codes >= 0
    first_us = np.full(len(known), np.iinfo(np.int64).max)
    last_us = np.full(len(known), NEVER_US)
    np.minimum.at(first_us, codes[asked], at_us[asked])
    np.maximum.at(last_us, codes[asked], at_us[asked])
    reach_us = program.reach_us
    after_us = first_us - reach_us if reach_us else np.full(len(known), NEVER_US)
    any_found = np.zeros(len(keys), dtype=np.bool_)
    records: list[pl.DataFrame] = []
    owners: list[IntArray] = []
    for part in parts:
        any_found |= part.newest(keys, at_us, reach_us) >= 0
        places, own = part.between(known, after_us, last_us)
        records.append(part.records[places])
        owners.append(own)
    # Of one key and time, older parts come first and each part is in the order of arrival.
    events = extract(program, pl.concat(records), np.concatenate(owners))
    return FoundFeatures(compute_points(program, events, codes, at_us), any_found)


def _places_in(known: pl.Series, keys: pl.Series) -> IntArray:
    """The place of each key among distinct sorted ones, -1 for another and for null."""
    codes = np.full(len(keys), -1, dtype=np.int64)
    asked = keys.is_not_null().arg_true()
    if not len(known) or not len(asked):
        return codes
    own = keys.gather(asked)
    places = known.search_sorted(own).clip(0, len(known) - 1).cast(pl.Int64)
    same = (known.gather(places) == own).to_numpy()
    codes[asked.to_numpy()[same]] = places.to_numpy()[same]
    return codes


class Keyed:
    """Records of a source in the order of key, time and arrival, to be found by key and time.

    Args:
        records: Key, timestamp (``Datetime("us", "UTC")``), ``_batch``, ``_row`` and other columns;
            no key and no timestamp is null.
        key: Column of the entity's key.
        timestamp: Column of the record's own time.
        known_after_us: How long after that a record is known.

    Attributes:
        records: The records, in that order.
        known_us: When each is known.
    """

    def __init__(
        self, records: pl.DataFrame, key: str, timestamp: str, known_after_us: int
    ) -> None:
        self._key = key
        self.records = records.sort(key, timestamp, BATCH, ROW)
        self.known_us: IntArray = self.records[timestamp].dt.epoch("us").to_numpy() + known_after_us

    def newest(self, keys: pl.Series, at_us: IntArray, within_us: int = 0) -> IntArray:
        """The place of the newest record of each key that is known at a time, -1 for none.

        Args:
            keys: The keys; nothing is found for null.
            at_us: The time for each.
            within_us: How long a record stays true; 0 for ever.
        """
        found = np.full(len(keys), -1, dtype=np.int64)
        codes = _places_in(self._known, keys)
        asked = np.flatnonzero(codes >= 0)
        if not len(asked):
            return found
        own, times = codes[asked], at_us[asked]
        last = self._search(own, times) - 1
        first = self._search(own, np.full(len(own), NEVER_US))
        holds = last >= first
        if within_us:
            holds &= self.known_us[np.maximum(last, 0)] > times - within_us
        found[asked[holds]] = last[holds]
        return found

    def between(
        self, keys: pl.Series, after_us: IntArray, until_us: IntArray
    ) -> tuple[IntArray, IntArray]:
        """The places of the records of each key that come to be known in a time.

        Args:
            keys: The keys, none of them null.
            after_us: For each the time after which records count.
            until_us: For each the last time at which they do.

        Returns:
            The places, one key after the other, and the place of each record's key among the keys.
        """
        codes = _places_in(self._known, keys)
        there = np.flatnonzero(codes >= 0)
        low = self._search(codes[there], after_us[there])
        high = np.maximum(self._search(codes[there], until_us[there]), low)
        places, owners = gathered(low, high)
        return places, there[owners]

    @cached_property
    def _known(self) -> pl.Series:
        """Every key once, sorted."""
        return self.records[self._key].unique().sort()

    @cached_property
    def _search(self) -> Callable[[IntArray, IntArray], IntArray]:
        codes = self.records[self._key].rle_id().cast(pl.Int64).to_numpy()
        ordered = Ordered(Events(codes=codes, times=self.known_us, values=()))
        return search_in(ordered, codes)
