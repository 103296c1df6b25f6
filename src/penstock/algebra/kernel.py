"""The batch engine: the features of many (entity, time) points from events sorted once.

Bounds of each window by binary search, then one merge of the states between them. Work grows with
the number of events and points, not with the events per window; memory with the events, plus a
bounded part per chunk of points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .arrays import KEY_LIMIT, order_of
from .extract import in_order
from .finish import finish
from .windows import window_start

if TYPE_CHECKING:
    from collections.abc import Callable

    from .arrays import FloatArray, IntArray, Words
    from .extract import Events
    from .program import Group, Program, Window
    from .states import Reducer

__all__ = ["compute_points"]

CHUNK = 32_768
"""Points computed at once; bounds what merging needs beside events and result."""


def compute_points(
    program: Program, events: Events, codes: IntArray, at_us: IntArray
) -> FloatArray:
    """Compute every feature of a view at many points.

    Args:
        program: The compiled view.
        events: The events, those of one entity and time in the order of arrival.
        codes: The entity of each point as the events' codes say it; -1 for an unknown one.
        at_us: The time of each point, int64 microseconds.

    Returns:
        float64 of shape (points, features), NaN for null.
    """
    events = in_order(events)
    result = np.empty((len(codes), program.width))
    order = order_of(codes, at_us)
    search = _search(events, codes)
    reducers = _Reducers(events)
    with np.errstate(all="ignore"):
        for start in range(0, len(order), CHUNK):
            points = order[start : start + CHUNK]
            for group in program.groups:
                for window in group.windows:
                    low, high = _bounds(window, group, search, codes[points], at_us[points])
                    merged = reducers.merge(group, window, low, high)
                    for reading in window.readings:
                        states = [merged[slot] for slot in reading.slots]
                        result[points, reading.feature] = finish(reading.op, states)
    return result


class _Reducers:
    """The prepared states of each input, made when first needed."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._made: dict[tuple[int, str], Reducer] = {}

    def merge(
        self, group: Group, window: Window, low: IntArray, high: IntArray
    ) -> dict[int, Words]:
        """The states of a window's slots between the bounds."""
        merged: dict[int, Words] = {}
        for index in window.slots:
            slot = group.slots[index]
            key = (slot.source, slot.name)
            if key not in self._made:
                words = slot.state.lift(self._events.values[slot.source], self._events.times)
                self._made[key] = slot.state.reducer(words)
            merged[index] = self._made[key](low, high)
        return merged


def _bounds(
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


def _search(events: Events, codes: IntArray) -> Callable[[IntArray, IntArray], IntArray]:
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

        def rank(at_us: IntArray) -> IntArray:
            return np.clip(at_us, before, newest) - before

    else:
        known = np.unique(times)
        span = len(known) + 1

        def rank(at_us: IntArray) -> IntArray:
            return np.searchsorted(known, at_us, side="right")

    keys = events.codes * span + rank(times)
    return lambda codes, at_us: np.searchsorted(keys, codes * span + rank(at_us), side="right")
