"""The stream engine: folds events into packed values, for many entities at once.

Folding the same events in any batches, in the order of arrival, gives the same features; a late
event changes its tile as if it had come in time, unless no query can reach the tile any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .extract import Events, in_order
from .layout import Stored, Tiles, newest_of, pack, unpack
from .leaving import is_past
from .state import NEVER_US
from .windows import first_tile, tile_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .arrays import IntArray, Words
    from .program import Group, Program
    from .state import Reducer
    from .states import StateKey

__all__ = ["count_too_late", "fold"]

PIECE = 65_536
"""Events folded at once: entity by entity, so that arrays stay in the processor's cache."""


def fold(
    program: Program, values: Sequence[bytes | None], events: Events, *, piece: int = PIECE
) -> list[bytes]:
    """Fold events into the packed values of their entities.

    Args:
        program: The compiled view.
        values: The present value of each entity, None for a new one.
        events: The events in the order of arrival; ``codes`` are places in ``values``. Every
            entity without a value has at least one.
        piece: Events to fold at once, unless one entity has more; bounds the memory that is needed
            beside values and events.

    Returns:
        The new value of each entity.

    Raises:
        StateError: A value is not one of this program.
    """
    events = in_order(events)
    ends = np.searchsorted(events.codes, np.arange(len(values)), side="right")
    folded: list[bytes] = []
    first = 0
    while first < len(values):
        begin = int(ends[first - 1]) if first else 0
        after = max(int(np.searchsorted(ends, begin + piece, side="right")), first + 1)
        some = _some(events, begin, int(ends[after - 1]), first)
        folded += _fold(program, values[first:after], some)
        first = after
    return folded


def count_too_late(
    program: Program,
    values: Sequence[bytes | None],
    events: Events,
    horizon_us: int = NEVER_US,
) -> int:
    """How many events come too late to change any value: no window reaches back to them.

    An event is too late where the newest one that its entity's value knew before these is so much
    newer that every window of the view begins after the event's tile; or where it is past at the
    horizon. It may be folded all the same, to no effect.

    Args:
        program: The compiled view.
        values: The present value of each entity, None for a new one, for which only what is past is
            too late.
        events: The events in any order; ``codes`` are places in ``values``.
        horizon_us: The time from which on values are read, as ``leaving`` has it.

    Raises:
        StateError: A value is too short to be one.
    """
    too_late = is_past(program, events.times, horizon_us)
    newest = newest_of(values)[events.codes]
    known = np.flatnonzero(newest > NEVER_US)
    newest, times = newest[known], events.times[known]
    without_effect = np.ones(len(times), dtype=np.bool_)
    for group in program.groups:
        oldest = first_tile(newest, group.reach_us, group.hop_us)
        without_effect &= tile_of(times, group.hop_us) < oldest
    too_late[known] |= without_effect
    return int(np.count_nonzero(too_late))


def _some(events: Events, begin: int, end: int, first: int) -> Events:
    """Some of the events, with ``first`` as the entity 0."""
    return Events(
        codes=events.codes[begin:end] - first,
        times=events.times[begin:end],
        values=tuple(value[begin:end] for value in events.values),
    )


def _fold(program: Program, values: Sequence[bytes | None], events: Events) -> list[bytes]:
    """Fold events in order into the values of a few entities."""
    if not len(events.codes):
        return [value for value in values if value is not None]
    known = np.array([i for i, value in enumerate(values) if value is not None], dtype=np.int64)
    stored = unpack(program, [value for value in values if value is not None])
    newest = np.full(len(values), NEVER_US)
    newest[known] = stored.newest_us
    np.maximum.at(newest, events.codes, events.times)
    groups: list[Tiles] = []
    made: dict[tuple[int, StateKey], Reducer] = {}
    with np.errstate(all="ignore"):
        for group, old in zip(program.groups, stored.groups, strict=True):
            moved = Tiles(codes=known[old.codes], index=old.index, words=old.words)
            fresh = _tiles(group, events, made)
            oldest = first_tile(newest, group.reach_us, group.hop_us)
            groups.append(_merge(group, _reached(moved, oldest), _reached(fresh, oldest)))
    return pack(program, Stored(newest_us=newest, groups=tuple(groups)))


def _tiles(group: Group, events: Events, made: dict[tuple[int, StateKey], Reducer]) -> Tiles:
    """The tiles of a group that the events alone would make."""
    codes, index = events.codes, tile_of(events.times, group.hop_us)
    change = (codes[1:] != codes[:-1]) | (index[1:] != index[:-1])
    edges = np.flatnonzero(np.concatenate([[True], change, [True]]))
    low, high = edges[:-1], edges[1:]
    words: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    for slot in group.slots:
        key = (slot.source, slot.key)
        if key not in made:
            made[key] = slot.state.events(events.values[slot.source], events.times)
        words += made[key](low, high)
    return Tiles(codes=codes[low], index=index[low], words=tuple(words))


def _reached(tiles: Tiles, oldest: IntArray) -> Tiles:
    """Only the tiles that a query can still reach; ``oldest`` is each entity's first."""
    return _taken(tiles, np.flatnonzero(tiles.index >= oldest[tiles.codes]))


def _taken(tiles: Tiles, places: IntArray) -> Tiles:
    return Tiles(
        codes=tiles.codes[places],
        index=tiles.index[places],
        words=tuple(word[places] for word in tiles.words),
    )


def _merge(group: Group, old: Tiles, new: Tiles) -> Tiles:
    """Merge two sets of tiles, each without repetitions."""
    both = Tiles(
        codes=np.concatenate([old.codes, new.codes]),
        index=np.concatenate([old.index, new.index]),
        words=tuple(map(_joined, old.words, new.words)),
    )
    both = _taken(both, np.lexsort((both.index, both.codes)))
    same = (both.codes[1:] == both.codes[:-1]) & (both.index[1:] == both.index[:-1])
    first = np.flatnonzero(same)
    for slot in group.slots:
        rows = slice(slot.row, slot.row + slot.state.width)
        words = both.words[rows]
        earlier: Words = tuple(word[first] for word in words)
        later: Words = tuple(word[first + 1] for word in words)
        for word, merged in zip(words, slot.state.pairs(earlier, later), strict=True):
            word[first] = merged
    return _taken(both, np.flatnonzero(~np.concatenate([[False], same])))


def _joined(
    old: np.ndarray[tuple[int], np.dtype[np.float64]],
    new: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.concatenate([old, new])
