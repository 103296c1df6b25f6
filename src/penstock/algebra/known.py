"""Features as they were known: only from events that had arrived.

An event counts at ``at`` when its time and its arrival are both at or before ``at``; or, where a
point says what it had seen, its arrival at or before that. Points at which every event until then
had arrived, and none had been deleted since, are computed as ever. For the others, each point gets
the events of its own that it may see, and is computed over them alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .extract import Events
from .kernel import Ordered, compute_points, in_turn, search_in
from .segments import gathered
from .state import NEVER_US
from .tombstones import FOR_EVER

if TYPE_CHECKING:
    from .arrays import BoolArray, FloatArray, IntArray
    from .kernel import Each
    from .program import Program

__all__ = ["compute_points_as_known"]

STEP = 4_000_000
"""Events handed out at once, unless a single point has more."""


def compute_points_as_known(  # noqa: PLR0913, PLR0917 - what a computation depends on
    program: Program,
    events: Events,
    arrived: IntArray,
    codes: IntArray,
    at_us: IntArray,
    known: IntArray | None = None,
    each: Each = in_turn,
    *,
    ends: IntArray | None = None,
) -> FloatArray:
    """Compute every feature of a view at many points, each from what had arrived.

    Args:
        program: The compiled view.
        events: The events, those of one entity and time in the order of arrival.
        arrived: When each event arrived, int64 microseconds; or the number of its batch.
        codes: The entity of each point as the events' codes say it; -1 for an unknown one.
        at_us: The time of each point, int64 microseconds.
        known: Until what arrival each point sees events, the same unit as ``arrived``; its time
            when left out.
        each: How chunks of points are computed, as ``compute_points`` has it.
        ends: From what arrival on each event is deleted, the same unit again; ``FOR_EVER`` for one
            that is not; none is when left out.

    Returns:
        float64 of shape (points, features), NaN for null.
    """
    alive = events if ends is None else _some(events, ends == FOR_EVER)
    result = compute_points(program, alive, codes, at_us, each)
    ordered = Ordered(events)
    search = search_in(ordered, codes)
    until = at_us if known is None else known
    arrived = ordered.sorted(arrived)
    high = search(codes, at_us)
    first = search(codes, np.full(len(codes), NEVER_US))
    late = _latest(ordered.codes, arrived)
    if ends is not None:
        ends = ordered.sorted(ends)
        gone = _latest(ordered.codes, np.where(ends == FOR_EVER, NEVER_US, ends))
        late = np.maximum(late, gone)
    waits = np.flatnonzero(high > first)
    waits = waits[late[high[waits] - 1] > until[waits]]
    low = first
    if program.reach_us:
        low = np.maximum(first, search(codes, at_us - program.reach_us))
    behind = np.cumsum(high[waits] - low[waits])
    start = 0
    while start < len(waits):
        done = behind[start - 1] if start else 0
        end = max(int(np.searchsorted(behind, done + STEP, side="right")), start + 1)
        some = waits[start:end]
        places, point = gathered(low[some], high[some])
        seen = arrived[places] <= until[some][point]
        if ends is not None:
            seen &= ends[places] > until[some][point]
        own = Events(
            codes=point[seen],
            times=ordered.times[places[seen]],
            values=tuple(ordered.sorted(value)[places[seen]] for value in events.values),
        )
        result[some] = compute_points(program, own, np.arange(len(some)), at_us[some], each)
        start = end
    return result


def _some(events: Events, chosen: BoolArray) -> Events:
    return Events(
        codes=events.codes[chosen],
        times=events.times[chosen],
        values=tuple(value[chosen] for value in events.values),
    )


def _latest(codes: IntArray, arrived: IntArray) -> IntArray:
    """The latest arrival among an entity's events up to each, in order."""
    known, rank = np.unique(arrived, return_inverse=True)
    span = len(known) + 1
    latest: IntArray = known[np.maximum.accumulate(codes * span + rank) - codes * span]
    return latest
