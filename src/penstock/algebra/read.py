"""Reading packed values: one entity in plain Python, many in numpy, with the same result."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .finish import finish, null_where_not_finite
from .layout import COUNTS_AT, check, header_of, newest_of, newest_one, unpack
from .single import NULL, Plan, Words64
from .windows import first_tile, is_expired

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from .arrays import FloatArray, IntArray, Words
    from .layout import Tiles
    from .program import Group, Program, Window
    from .state import State

    Merged: TypeAlias = dict[tuple[int, ...], Words]
    """By their slots: of one as they are, of several each word as the rows of one array."""

__all__ = ["FEW", "ValueReader", "as_of"]

FEW = 16
"""Up to this many values are read one by one: numpy costs more per call than it saves."""

MANY = 50_000
"""So many values are read at once at the most, which bounds the memory that takes."""

STACKED_WORDS = 1 << 16
"""Up to this many words of states of one kind are reduced as one; more would only take memory."""


NARROW_WORDS = 3
"""States of the whole past are taken together up to this many words each: they are only copied."""


class _Alike(NamedTuple):
    """Slots of one kind that the same windows need: numpy's cost is by the call.

    Attributes:
        state: How they work.
        windows: Numbers of the windows.
        slots: Their numbers.
        rows: The words of each.
        spaced: For each word that of all slots, where those lie equally far apart; else empty.
    """

    state: State
    windows: frozenset[int]
    slots: tuple[int, ...]
    rows: tuple[slice, ...]
    spaced: tuple[slice, ...]


class _Grouped(NamedTuple):
    """A group, and its slots by what can be reduced as one."""

    group: Group
    alike: tuple[_Alike, ...]


def as_of(values: Sequence[bytes | None], at_us: IntArray) -> IntArray:
    """The times at which packed values can be read exactly.

    Args:
        values: One value per entity, None for one without events.
        at_us: The time asked for, int64 microseconds per entity.

    Returns:
        The time asked for, or that of the entity's newest event where that is later.

    Raises:
        StateError: A value is too short to be one.
    """
    if len(values) > FEW:
        return np.maximum(at_us, newest_of(values))
    times = [
        at if value is None else max(at, newest_one(value))
        for at, value in zip(at_us.tolist(), values, strict=True)
    ]
    return np.array(times, dtype=np.int64)


class ValueReader:
    """Reads the features of one compiled view from packed values.

    Args:
        program: The compiled view.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._header = header_of(program)
        self._plans = [Plan(group) for group in program.groups]
        self._groups = [_Grouped(group, _alike(group)) for group in program.groups]
        self._ttl_us = program.view.ttl_us
        self._empty = [
            0.0 if feature.is_from_zero else NULL
            for feature in program.view.features
            for _ in feature.names
        ]
        # Under a time-to-live nobody says of an entity without events that it has none.
        self._unknown = [NULL] * program.width if self._ttl_us else self._empty

    def read(self, values: Sequence[bytes | None], as_of_us: IntArray) -> FloatArray:
        """Read many entities.

        Args:
            values: One value per entity, None for one without events.
            as_of_us: The time of each, not before its newest event (see ``as_of``).

        Returns:
            float64 of shape (entities, features), NaN for null.

        Raises:
            StateError: A value is not one of this program.
        """
        if len(values) > MANY:
            parts = range(0, len(values), MANY)
            pieces = [self.read(values[n : n + MANY], as_of_us[n : n + MANY]) for n in parts]
            return np.concatenate(pieces)
        if len(values) <= FEW:
            times = as_of_us.tolist()
            rows = [self.read_one(v, t) for v, t in zip(values, times, strict=True)]
            return np.array(rows, dtype=np.float64).reshape(len(values), self._program.width)
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            return self._read_known(known, as_of_us)
        result = np.tile(np.array(self._unknown), (len(values), 1))
        places = np.array([i for i, value in enumerate(values) if value is not None], np.int64)
        if known:
            result[places] = self._read_known(known, as_of_us[places])
        return result

    def _read_known(self, values: Sequence[bytes], as_of_us: IntArray) -> FloatArray:
        """The values of entities that all have some."""
        result = np.empty((len(values), self._program.width))
        result[:] = self._empty
        stored = unpack(self._program, values)
        with np.errstate(all="ignore"):
            for grouped, tiles in zip(self._groups, stored.groups, strict=True):
                _read_group(grouped, tiles, as_of_us, result)
        if self._ttl_us:
            result[is_expired(stored.newest_us, as_of_us, self._ttl_us)] = NULL
        return null_where_not_finite(result)

    def read_one(self, value: bytes | None, as_of_us: int) -> list[float]:
        """Read one entity.

        Args:
            value: Its value, None if it has no events.
            as_of_us: The time, not before its newest event.

        Returns:
            One float per feature, NaN for null.

        Raises:
            StateError: The value is not one of this program.
        """
        if value is None:
            return list(self._unknown)
        result = list(self._empty)
        counts = check(self._program, value, self._header)
        if self._ttl_us and is_expired(newest_one(value), as_of_us, self._ttl_us):
            return list(self._unknown)
        view = memoryview(value)
        words = Words64(view.cast("q"), view.cast("d"), np.frombuffer(value, np.float64))
        place = COUNTS_AT + len(counts)
        with np.errstate(all="ignore"):
            for plan, tiles in zip(self._plans, counts, strict=True):
                plan.read(words, place, tiles, as_of_us, result)
                place += plan.rows * tiles
        return result


def _alike(group: Group) -> tuple[_Alike, ...]:
    """The slots of a group, those together that are reduced as one."""
    together: dict[tuple[object, ...], list[int]] = {}
    needs = [
        frozenset(n for n, window in enumerate(group.windows) if slot in window.slots)
        for slot in range(len(group.slots))
    ]
    for number, slot in enumerate(group.slots):
        is_copied = not group.hop_us and slot.state.width <= NARROW_WORDS
        alone = None if slot.state.stacks or is_copied else number
        together.setdefault((slot.key, needs[number], alone), []).append(number)
    found: list[_Alike] = []
    for slots in together.values():
        first = group.slots[slots[0]]
        starts = [group.slots[number].row for number in slots]
        rows = tuple(slice(start, start + first.state.width) for start in starts)
        spaced = _spaced(starts, first.state.width)
        found.append(_Alike(first.state, needs[slots[0]], tuple(slots), rows, spaced))
    return tuple(found)


def _spaced(starts: Sequence[int], width: int) -> tuple[slice, ...]:
    """The rows of each word of states that begin there, where they lie equally far apart."""
    steps = {later - earlier for earlier, later in pairwise(starts)}
    if len(steps) != 1:
        return ()
    (step,) = steps
    return tuple(slice(starts[0] + word, starts[-1] + word + 1, step) for word in range(width))


def _read_group(grouped: _Grouped, tiles: Tiles, as_of_us: IntArray, result: FloatArray) -> None:
    """Read a group's features of many entities."""
    group, alike = grouped
    if not group.hop_us:
        # The whole past is one tile: its states are merged.
        whole = {one.slots: _together(one, tiles) for one in alike}
        for window in group.windows:
            _finish_many(window, whole, result)
        return
    reducers = [(one.windows, _reducer(one, tiles)) for one in alike]
    past = np.cumsum(np.bincount(tiles.codes, minlength=len(result)))
    search = _search(tiles, past)
    for number, window in enumerate(group.windows):
        low = search(first_tile(as_of_us, window.over_us, group.hop_us))
        merged: Merged = {}
        for windows, reduce in reducers:
            if number in windows:
                merged.update(reduce(low, past))
        _finish_many(window, merged, result)


def _reducer(alike: _Alike, tiles: Tiles) -> Callable[[IntArray, IntArray], Merged]:
    """What merges runs of tiles into states."""
    state, slots = alike.state, alike.slots
    if len(slots) > 1 and len(slots) * len(tiles.index) > STACKED_WORDS:
        reducers = [state.reducer(tiles.words[row]) for row in alike.rows]
        return lambda low, past: {
            (slot,): reduce(low, past) for slot, reduce in zip(slots, reducers, strict=True)
        }
    reduced = state.reducer(_together(alike, tiles))
    return lambda low, past: {slots: reduced(low, past)}


def _together(alike: _Alike, tiles: Tiles) -> Words:
    """The states of slots: of one as they are, of several each word as rows of one array."""
    if len(alike.slots) == 1:
        return tiles.words[alike.rows[0]]
    if alike.spaced and tiles.rows is not None:
        return tuple([tiles.rows[rows] for rows in alike.spaced])
    return tuple(map(_stacked, zip(*(tiles.words[row] for row in alike.rows), strict=True)))


def _finish_many(window: Window, merged: Merged, result: FloatArray) -> None:
    apart: dict[int, Words] = {}
    for readings in window.alike:
        first, *more = readings
        if not more:
            states = [_of_slot(slot, merged, apart) for slot in first.slots]
            result[:, first.columns] = finish(first.feature, states)
            continue
        # Numpy's cost is by the call: what has one operator is finished as one.
        states = [
            _of_slots(slots, merged, apart)
            for slots in zip(*(reading.slots for reading in readings), strict=True)
        ]
        columns = [reading.column for reading in readings]
        result[:, columns] = finish(first.feature, states).T


def _of_slot(slot: int, merged: Merged, apart: dict[int, Words]) -> Words:
    """The merged states of a slot; ``apart`` has those of all once it is needed."""
    if not apart:
        for slots, words in merged.items():
            each = zip(*words, strict=True) if len(slots) > 1 else [words]
            apart.update(zip(slots, each, strict=True))
    return apart[slot]


def _of_slots(slots: tuple[int, ...], merged: Merged, apart: dict[int, Words]) -> Words:
    """The merged states of slots, each word as the rows of one array."""
    found = merged.get(slots)
    if found is not None:
        return found
    each = [_of_slot(slot, merged, apart) for slot in slots]
    return tuple(map(_stacked, zip(*each, strict=True)))


def _stacked(words: tuple[FloatArray, ...]) -> FloatArray:
    """Words as rows of one array."""
    return np.concatenate(words).reshape(len(words), -1)


def _search(tiles: Tiles, past: IntArray) -> Callable[[IntArray], IntArray]:
    """A function of one index per entity: the place of the entity's first tile at or after it.

    Entity and index become one whole number. The index counts from the entity's first tile, since
    the entities' tiles can lie far apart; every entity has a tile.
    """
    first = tiles.index[np.concatenate([[0], past[:-1]])]
    since = tiles.index - first[tiles.codes]
    span = int(since.max()) + 2
    keys = tiles.codes * span + since
    entities = np.arange(len(past)) * span
    return lambda index: np.searchsorted(keys, entities + np.clip(index - first, 0, span - 1))
