"""Newest values at many points: which events count is found before any of their values is read.

What makes an event count is the batch engine's: the order of events, the bounds of windows, the
states. Only where a point's newest event has no value are all values of the column looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from .arrays import order_of
from .extract import is_stored
from .finish import finish, null_where_not_finite
from .kernel import CHUNK, Ordered, bounds_of, in_turn, newest_times, search_in
from .windows import is_expired

if TYPE_CHECKING:
    from .arrays import FloatArray, IntArray
    from .extract import Events
    from .kernel import Each
    from .program import Group, Program, Reading, Slot, Window
    from .state import Reducer

__all__ = ["NewestValues", "asks_newest"]


def asks_newest(program: Program) -> bool:
    """Whether every feature is the newest value of a stored column, without a condition.

    Args:
        program: The compiled view.
    """
    slots = (slot for group in program.groups for slot in group.slots)
    stored = all(is_stored(program, each) for each in program.inputs)
    return stored and all(slot.kind == "last" for slot in slots)


class _Found(NamedTuple):
    """What a window holds at every point, in the order of the points' entities and times.

    Attributes:
        low: First event of each point's window.
        high: The first after it.
        points: The points at which there is one, by where the newest event's values are.
        places: Where those are.
    """

    low: IntArray
    high: IntArray
    points: IntArray
    places: pl.Series


class NewestValues:
    """The newest values of a view at many points, filled in column by column.

    Safe across threads where each fills in another column.

    Args:
        program: The compiled view, one of which ``asks_newest`` is true.
        events: The events without values, those of one entity and time in the order of arrival.
        places: Where each event's values are in the columns.
        codes: The entity of each point as the events' codes say it; -1 for an unknown one.
        at_us: The time of each point, int64 microseconds.
        each: How chunks of points are looked up.

    Attributes:
        columns: The stored columns whose newest values are wanted.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what newest values depend on
        self,
        program: Program,
        events: Events,
        places: IntArray,
        codes: IntArray,
        at_us: IntArray,
        each: Each = in_turn,
    ) -> None:
        self.columns = [one.column for one in program.inputs]
        self._places = places
        self._ordered = Ordered(events)
        self._order = order_of(codes, at_us)
        search = search_in(self._ordered, codes)
        codes, at_us = codes[self._order], at_us[self._order]
        self._expired = self._order[:0]
        if program.view.ttl_us:
            newest = newest_times(self._ordered, search, codes, at_us)
            self._expired = self._order[is_expired(newest, at_us, program.view.ttl_us)]

        def bounds(group: Group, window: Window) -> tuple[IntArray, IntArray]:
            low, high = np.empty_like(codes), np.empty_like(codes)

            def find(start: int) -> None:
                some = slice(start, start + CHUNK)
                low[some], high[some] = bounds_of(window, group, search, codes[some], at_us[some])

            each(find, range(0, len(codes), CHUNK))
            return low, high

        self._readings: list[tuple[Slot, Reading, _Found]] = []
        for group in program.groups:
            for window in group.windows:
                found = self._found(*bounds(group, window))
                for reading in window.readings:
                    self._readings.append((group.slots[reading.slots[0]], reading, found))

    def _found(self, low: IntArray, high: IntArray) -> _Found:
        filled = np.flatnonzero(high > low)
        places = self._places[self._ordered.given(high[filled] - 1)]
        # Values are taken quickest one after the other.
        order = np.argsort(places)
        taken = pl.Series(places[order], dtype=pl.UInt32)
        return _Found(low, high, self._order[filled[order]], taken)

    def fill(self, values: FloatArray, stored: pl.Series) -> None:
        """Fill in the features of one column.

        Args:
            values: The result, of shape (points, features); NaN for null.
            stored: One of ``columns``, by its name; null for no value.
        """
        source = self.columns.index(stored.name)
        reducer: Reducer | None = None
        with np.errstate(all="ignore"):
            for slot, reading, found in self._readings:
                if slot.source != source:
                    continue
                own = values[:, reading.columns]
                taken = _numbers(stored.gather(found.places))
                if not np.isnan(taken).any():
                    own[:] = np.nan
                    own[found.points] = taken
                else:
                    reducer = reducer or self._reducer(slot, stored)
                    newest = finish(reading.feature, [reducer(found.low, found.high)])
                    own[self._order] = null_where_not_finite(newest)
                own[self._expired] = np.nan

    def _reducer(self, slot: Slot, stored: pl.Series) -> Reducer:
        whole = _numbers(stored.gather(pl.Series(self._places, dtype=pl.UInt32)))
        return slot.state.events(self._ordered.sorted(whole), self._ordered.times)


def _numbers(stored: pl.Series) -> FloatArray:
    """Stored values as the engine takes them: NaN for null and for what is not finite."""
    return null_where_not_finite(stored.cast(pl.Float64).fill_null(np.nan).to_numpy())
