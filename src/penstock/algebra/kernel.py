"""The batch engine: the features of many (entity, time) points from events sorted once.

Bounds of each window by binary search, then one merge of the states between them. Work grows with
the number of events and points, not with the events per window; memory with the events, plus a
bounded part per chunk of points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from .arrays import order_of
from .extract import sorting
from .finish import finish, null_where_not_finite
from .state import NEVER_US
from .windows import is_expired, window_start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .arrays import FloatArray, IntArray, Words
    from .extract import Events
    from .program import Group, Program, Slot, Window
    from .state import Reducer
    from .states import StateKey

__all__ = [
    "CHUNK",
    "Each",
    "Ordered",
    "bounds_of",
    "compute_points",
    "in_turn",
    "newest_times",
    "search_in",
]

T = TypeVar("T")
Sortable = TypeVar("Sortable", "IntArray", "FloatArray")

KEY_LIMIT = 2**62
"""A whole number made of an entity and a time stays below it."""

CHUNK, LEAST = 32_768, 1_024
"""Points computed at once; bounds what merging needs beside events and result."""

FEW_WORDS = 16
"""States of more words are merged for fewer points at once."""


class Each(Protocol):
    """Calls a function with each of several things, in any order or side by side."""

    def __call__(self, function: Callable[[T], object], things: Sequence[T], /) -> None:
        """Return when all calls have; what one raises is raised."""
        ...


def in_turn(function: Callable[[T], object], things: Sequence[T]) -> None:
    """Call a function with each of several things, one after the other."""
    for thing in things:
        function(thing)


def compute_points(
    program: Program, events: Events, codes: IntArray, at_us: IntArray, each: Each = in_turn
) -> FloatArray:
    """Compute every feature of a view at many points.

    Args:
        program: The compiled view.
        events: The events, those of one entity and time in the order of arrival.
        codes: The entity of each point as the events' codes say it; -1 for an unknown one.
        at_us: The time of each point, int64 microseconds.
        each: How chunks of points are computed; numpy lets threads run side by side.

    Returns:
        float64 of shape (points, features), NaN for null.
    """
    result = np.empty((len(codes), program.width), order="F")
    order = order_of(codes, at_us)
    ordered = Ordered(events)
    search = search_in(ordered, codes)
    widest = max(slot.state.width for group in program.groups for slot in group.slots)
    size = max(CHUNK // max(1, widest // FEW_WORDS), LEAST)

    def compute(points: IntArray) -> None:
        # The state of numpy's warnings is a thread's own.
        with np.errstate(all="ignore"):
            for group in program.groups:
                for window in group.windows:
                    low, high = bounds_of(window, group, search, codes[points], at_us[points])
                    merged = ordered.merge(group, window, low, high)
                    for reading in window.readings:
                        states = [merged[slot] for slot in reading.slots]
                        values = finish(reading.feature, states)
                        result[points, reading.columns] = null_where_not_finite(values)

    with np.errstate(all="ignore"):
        each(ordered.prepare, [slot for group in program.groups for slot in group.slots])
        each(compute, [order[start : start + size] for start in range(0, len(order), size)])
        if program.view.ttl_us:
            newest = newest_times(ordered, search, codes, at_us)
            result[is_expired(newest, at_us, program.view.ttl_us)] = np.nan
    return result


def newest_times(
    ordered: Ordered,
    search: Callable[[IntArray, IntArray], IntArray],
    codes: IntArray,
    at_us: IntArray,
) -> IntArray:
    """Time of the entity's newest event until each point, ``NEVER_US`` for none."""
    high = search(codes, at_us)
    low = search(codes, np.full(len(codes), NEVER_US))
    found = np.full(len(codes), NEVER_US)
    found[high > low] = ordered.times[high[high > low] - 1]
    return found


class Ordered:
    """Events by entity and time; their values are sorted and prepared when first needed."""

    def __init__(self, events: Events) -> None:
        self._order = sorting(events)
        self._values = events.values
        self._made: dict[tuple[int, StateKey], Reducer] = {}
        self.codes = self.sorted(events.codes)
        self.times = self.sorted(events.times)

    def sorted(self, array: Sortable) -> Sortable:
        """An array of one value per event, in the order of the events."""
        return array if self._order is None else array[self._order]

    def given(self, places: IntArray) -> IntArray:
        """Where events were before they were sorted, by their places now."""
        return places if self._order is None else self._order[places]

    def prepare(self, slot: Slot) -> None:
        """Prepare the values of a slot for merging, unless that will hardly be needed."""
        if slot.kind != "last":
            with np.errstate(all="ignore"):
                self._reducer(slot)

    def merge(
        self, group: Group, window: Window, low: IntArray, high: IntArray
    ) -> dict[int, Words]:
        """The states of a window's slots between the bounds."""
        merged: dict[int, Words] = {}
        newest: _Newest | None = None
        for index in window.slots:
            slot = group.slots[index]
            found: Words | None = None
            if slot.kind == "last":
                newest = newest or _Newest(self, low, high)
                found = newest.words(slot, self._values[slot.source])
            merged[index] = self._reducer(slot)(low, high) if found is None else found
        return merged

    def _reducer(self, slot: Slot) -> Reducer:
        key = (slot.source, slot.key)
        made = self._made.get(key)
        if made is None:
            values = self.sorted(self._values[slot.source])
            made = self._made.setdefault(key, slot.state.events(values, self.times))
        return made


class _Newest:
    """The newest event of each window, looked up once for all that ask for its values.

    Args:
        ordered: The events.
        low: First event of each window.
        high: The first after it.
    """

    def __init__(self, ordered: Ordered, low: IntArray, high: IntArray) -> None:
        self._windows = len(low)
        self._filled = np.flatnonzero(high > low)
        place = high[self._filled] - 1
        self._times = ordered.times[place]
        self._places = ordered.given(place)

    def words(self, slot: Slot, values: FloatArray) -> Words | None:
        """The last states where the newest event of every window has a value, else None.

        That is the common case, and it looks at one event per window instead of at all of them.
        """
        found = values[self._places]
        if np.isnan(found).any():
            return None
        words = tuple(np.full(self._windows, word) for word in slot.state.zero)
        words[0].view(np.int64)[self._filled], words[1][self._filled] = self._times, found
        return words


def bounds_of(
    window: Window,
    group: Group,
    search: Callable[[IntArray, IntArray], IntArray],
    codes: IntArray,
    at_us: IntArray,
) -> tuple[IntArray, IntArray]:
    """First event of each window, and the first after it."""
    high = search(codes, at_us)
    if group.hop_us:
        low = search(codes, window_start(at_us, window.over_us, group.hop_us))
    else:
        low = search(codes, np.full(len(codes), np.iinfo(np.int64).min))
    return low, high


def search_in(events: Ordered, codes: IntArray) -> Callable[[IntArray, IntArray], IntArray]:
    """A function of entities and times: the place after the last event of the entity until then.

    Entity and time become one whole number, so that one binary search finds both. Where the span
    of the times leaves no room for that, the rank of each time among all times takes its place.
    """
    times = events.times
    if not len(times):
        return lambda codes, _at_us: np.zeros(len(codes), dtype=np.int64)
    oldest, newest = int(times.min()), int(times.max())
    span = newest - oldest + 2
    most = int(max(codes.max(initial=0), events.codes.max()))
    if span * (most + 2) < KEY_LIMIT:
        before = oldest - 1
        # In place, as every array of all events takes memory and the time to fill it.
        keys = events.codes * span
        keys += times
        keys -= before

        def rank(at_us: IntArray) -> IntArray:
            return np.clip(at_us, before, newest) - before

    else:
        known = np.unique(times)
        span = len(known) + 1

        def rank(at_us: IntArray) -> IntArray:
            return np.searchsorted(known, at_us, side="right")

        keys = events.codes * span + rank(times)
    return lambda codes, at_us: np.searchsorted(keys, codes * span + rank(at_us), side="right")
