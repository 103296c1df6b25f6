"""Reading packed values: one entity in plain Python, many in numpy, with the same result."""

from __future__ import annotations

from bisect import bisect_left
from math import isfinite, nan, sqrt
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from .finish import finish, null_where_not_finite
from .layout import COUNTS_AT, check, header_of, newest_of, newest_one, unpack
from .states import NEVER_US
from .windows import first_tile, is_expired

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from penstock.spec import AggregateOp

    from .arrays import FloatArray, IntArray, Words
    from .layout import Tiles
    from .program import Group, Program, Window

__all__ = ["FEW", "ValueReader", "as_of"]

FEW = 16
"""Up to this many values are read one by one: numpy costs more per call than it saves."""

MANY = 50_000
"""So many values are read at once at the most, which bounds the memory that takes."""

NULL = nan
_R = TypeVar("_R")


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
        result = np.tile(np.array(self._unknown), (len(values), 1))
        known = np.array([i for i, value in enumerate(values) if value is not None], dtype=np.int64)
        result[known] = self._empty
        stored = unpack(self._program, [value for value in values if value is not None])
        with np.errstate(all="ignore"):
            for group, tiles in zip(self._program.groups, stored.groups, strict=True):
                _read_group(group, tiles, known, as_of_us[known], result)
        if self._ttl_us:
            expired = is_expired(stored.newest_us, as_of_us[known], self._ttl_us)
            result[known[expired]] = NULL
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
        ints, floats, words = view.cast("q"), view.cast("d"), np.frombuffer(value, np.float64)
        place = COUNTS_AT + len(counts)
        with np.errstate(all="ignore"):
            for group, tiles in zip(self._program.groups, counts, strict=True):
                whole = _Run(words, place, tiles, tiles)
                for window in group.windows:
                    wanted = first_tile(as_of_us, window.over_us, group.hop_us)
                    low = bisect_left(ints, wanted, place, place + tiles)
                    if low == place + tiles - 1:
                        single = _Single(ints, floats, low, tiles)
                        _finish_window(group, window, _STATES, single, result)
                    elif low < place + tiles:
                        _finish_window(group, window, _TOTALS, whole.since(low), result)
                    if window.slow and low < place + tiles:
                        _finish_slow(group, window, whole.since(low), result)
                place += (1 + group.width) * tiles
        return result


class _Run(NamedTuple):
    """A window's run of tiles in a value.

    Attributes:
        words: The value's words.
        low: The word with the index of the first tile.
        size: Number of tiles in the run.
        step: Words from one row to the next.
    """

    words: FloatArray
    low: int
    size: int
    step: int

    def since(self, low: int) -> _Run:
        """The part of the run from the tile whose index is in that word."""
        return self._replace(low=low, size=self.low + self.size - low)

    def row(self, number: int) -> FloatArray:
        """The run's part of a row of states."""
        start = self.low + (1 + number) * self.step
        return self.words[start : start + self.size]


class _Single(NamedTuple):
    """A run of a single tile: its states are the totals, and need no arrays.

    Attributes:
        ints: The value's words as int64.
        floats: The value's words as float64.
        low: The word with the index of the tile.
        step: Words from one row to the next.
    """

    ints: memoryview[int]
    floats: memoryview[float]
    low: int
    step: int


def _finish_window(
    group: Group,
    window: Window,
    totals_of: Mapping[str, Callable[[_R, int], float]],
    run: _R,
    result: list[float],
) -> None:
    slots = group.slots
    totals = {
        index: totals_of[slots[index].kind](run, slots[index].row) for index in window.quick_slots
    }
    for reading in window.quick:
        value = _VALUES[reading.op](*[totals[index] for index in reading.slots])
        result[reading.column] = value if isfinite(value) else NULL


def _finish_slow(group: Group, window: Window, run: _Run, result: list[float]) -> None:
    """Read the features whose states are too large for plain Python as the many are read."""
    low, high = np.zeros(1, dtype=np.int64), np.full(1, run.size)
    for reading in window.slow:
        states: list[Words] = []
        for index in reading.slots:
            slot = group.slots[index]
            rows = range(slot.row, slot.row + slot.state.width)
            states.append(slot.state.reducer(tuple(run.row(row) for row in rows))(low, high))
        values = null_where_not_finite(finish(reading.feature, states)).ravel().tolist()
        result[reading.column : reading.column + len(values)] = values


def _word(run: _Single, row: int) -> float:
    return run.floats[run.low + (1 + row) * run.step]


def _last_word(run: _Single, row: int) -> float:
    place = run.low + (1 + row) * run.step
    return run.floats[place + run.step] if run.ints[place] > NEVER_US else NULL


def _var_words(run: _Single, row: int) -> float:
    count = _word(run, row)
    return _word(run, row + 2) / (count - 1) if count > 1 else NULL


def _sum(run: _Run, row: int) -> float:
    return float(np.add.reduce(run.row(row)))


def _min(run: _Run, row: int) -> float:
    return float(np.minimum.reduce(run.row(row)))


def _max(run: _Run, row: int) -> float:
    return float(np.maximum.reduce(run.row(row)))


def _last(run: _Run, row: int) -> float:
    times = run.row(row).view(np.int64)
    newest = int(times.argmax())
    return float(run.row(row + 1)[newest]) if times[newest] > NEVER_US else NULL


def _var(run: _Run, row: int) -> float:
    count, mean, squares = run.row(row), run.row(row + 1), run.row(row + 2)
    total = float(np.add.reduce(count))
    if total < 2:  # noqa: PLR2004 - no deviation of a single value
        return NULL
    away = mean - float(count @ mean) / total
    return (float(np.add.reduce(squares)) + float(count @ (away * away))) / (total - 1)


def _std(variance: float) -> float:
    return sqrt(variance)


def _itself(total: float) -> float:
    return total


def _mean(count: float, total: float) -> float:
    return total / count if count else NULL


_TOTALS: Mapping[str, Callable[[_Run, int], float]] = {
    "count": _sum, "sum": _sum, "min": _min, "max": _max, "last": _last, "spread": _var,
}  # fmt: skip
_STATES: Mapping[str, Callable[[_Single, int], float]] = {
    "count": _word, "sum": _word, "min": _word, "max": _word,
    "last": _last_word, "spread": _var_words,
}  # fmt: skip
_VALUES: Mapping[AggregateOp, Callable[..., float]] = {
    "count": _itself, "sum": _itself, "min": _itself, "max": _itself, "mean": _mean,
    "std": _std, "var": _itself, "last": _itself,
}  # fmt: skip


def _read_group(
    group: Group, tiles: Tiles, known: IntArray, as_of_us: IntArray, result: FloatArray
) -> None:
    """Read a group's features of many entities; ``known`` says the result's row of each."""
    if not len(known):
        return
    rows = [slice(slot.row, slot.row + slot.state.width) for slot in group.slots]
    if not group.hop_us:
        # The whole past is one tile: its states are merged.
        whole = [tiles.words[row] for row in rows]
        for window in group.windows:
            _finish_many(window, whole, known, result)
        return
    reducers = [
        slot.state.reducer(tiles.words[row]) for slot, row in zip(group.slots, rows, strict=True)
    ]
    past = np.cumsum(np.bincount(tiles.codes, minlength=len(known)))
    search = _search(tiles, past)
    for window in group.windows:
        low = search(first_tile(as_of_us, window.over_us, group.hop_us))
        merged = {index: reducers[index](low, past) for index in window.slots}
        _finish_many(window, merged, known, result)


def _finish_many(
    window: Window,
    merged: Mapping[int, Words] | Sequence[Words],
    known: IntArray,
    result: FloatArray,
) -> None:
    for reading in window.readings:
        states = [merged[index] for index in reading.slots]
        result[known, reading.columns] = finish(reading.feature, states)


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
