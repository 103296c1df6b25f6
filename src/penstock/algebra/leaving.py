"""When nothing of an entity can be read any more, so that its value may leave the online store.

Who has left is told of from a time on, the horizon. An event is past at the horizon when no
window that is asked from there on reaches it, and, under a time-to-live, it is too old to make its
entity known. An entity whose newest event is past reads as one that was never there. It stays so:
whatever comes later, a window that holds it holds nothing that is past now, and an entity that it
makes known has it as its newest event. So what comes later is folded onto nothing, and everything
that is asked from the horizon on is what the batch engine says, late events included.

A feature over the whole past reaches every event, so the values of its view do not leave. Under a
time-to-live there is one that needs nothing of the past: ``last`` of a column that cannot be null
is that of the newest event. Should a null come all the same, as after another declaration of the
source, the value is folded from the entity's whole history (``lacks_past``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .extract import is_stored
from .layout import unpack
from .state import NEVER_US
from .windows import tile_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .arrays import BoolArray, IntArray
    from .program import Program, Slot

__all__ = ["is_past", "lacks_past", "may_have_left", "may_leave", "past_from"]


def may_leave(program: Program) -> bool:
    """Whether values of a view can come to an end.

    Args:
        program: The compiled view.
    """
    source = program.view.source
    given = {name for name in source.schema if name not in source.nullable}
    whole = [slot for group in program.groups if not group.hop_us for slot in group.slots]
    columns = {program.inputs[slot.source].column for slot in whole}
    return may_have_left(program) and columns <= given


def may_have_left(program: Program) -> bool:
    """Whether values of a view could come to an end if no column of its source may be null.

    A source may have been declared otherwise before, and the view's place in the store is the same.

    Args:
        program: The compiled view.
    """
    ends = bool(program.view.ttl_us)
    return all(
        group.hop_us or (ends and all(_is_newest(program, slot) for slot in group.slots))
        for group in program.groups
    )


def _is_newest(program: Program, slot: Slot) -> bool:
    """Whether a state over the whole past is that of the newest event, if it has a value."""
    each = program.inputs[slot.source]
    return slot.kind == "last" and is_stored(program, each)


def past_from(program: Program, times: IntArray) -> IntArray:
    """The first horizon at which each event is past, in a view whose values can come to an end.

    Args:
        program: The compiled view.
        times: When each event is known, int64 microseconds.
    """
    # No window reaches into a tile any more once it begins at the tile's end.
    ends = [
        (tile_of(times, group.hop_us) + 1) * group.hop_us + group.reach_us
        for group in program.groups
        if group.hop_us
    ]
    if program.view.ttl_us:
        ends.append(times + program.view.ttl_us)
    latest: IntArray = np.max(ends, axis=0)
    return latest


def is_past(program: Program, times: IntArray, horizon_us: int) -> BoolArray:
    """Which events nothing that is asked from a time on can tell of.

    Args:
        program: The compiled view.
        times: When each event is known, int64 microseconds.
        horizon_us: The time; ``NEVER_US`` where anything may be asked, and nothing is past.
    """
    if horizon_us == NEVER_US or not may_leave(program):
        return np.zeros(len(times), dtype=np.bool_)
    return past_from(program, times) <= horizon_us


def lacks_past(program: Program, values: Sequence[bytes]) -> BoolArray:
    """Which values, folded from nothing, may have to say what came before their events.

    Args:
        program: The compiled view.
        values: The values.

    Raises:
        StateError: A value is not one of this program.
    """
    lacking = np.zeros(len(values), dtype=np.bool_)
    if all(group.hop_us for group in program.groups) or not values:
        return lacking
    stored = unpack(program, values)
    for group, tiles in zip(program.groups, stored.groups, strict=True):
        for slot in () if group.hop_us else group.slots:
            times = tiles.words[slot.row].view(np.int64)
            lacking |= (slot.kind != "last") | (times < stored.newest_us)
    return lacking
