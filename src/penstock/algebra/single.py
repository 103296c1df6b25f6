"""Reading one packed value in plain Python, by a plan made once: numpy costs more than it saves."""

from __future__ import annotations

from bisect import bisect_left
from math import isfinite, nan, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .finish import finish, null_where_not_finite
from .states import NEVER_US
from .windows import first_tile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from penstock.spec import AggregateOp

    from .arrays import FloatArray, Words
    from .program import Group, Reading, Window

__all__ = ["NULL", "Plan", "Words64"]

NULL = nan


class Words64(NamedTuple):
    """A value's words, seen as what they may be.

    Attributes:
        ints: As int64.
        floats: As float64.
        array: As a float64 array.
    """

    ints: memoryview[int]
    floats: memoryview[float]
    array: FloatArray


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

    def row(self, number: int) -> FloatArray:
        """The run's part of a row of states; row 0 is the indices."""
        start = self.low + number * self.step
        return self.words[start : start + self.size]


if TYPE_CHECKING:
    ReadOne: TypeAlias = Callable[[Words64, int, int], float]
    ReadRun: TypeAlias = Callable[[_Run, int], float]


class _Slot(NamedTuple):
    """How the total of one state is read.

    Attributes:
        one: From a single tile; None where it is the tile's word itself.
        run: From several tiles.
        row: Its first row, where 0 is that of the indices.
    """

    one: ReadOne | None
    run: ReadRun
    row: int


class _Value(NamedTuple):
    """How a feature is finished from totals.

    Attributes:
        column: Its place among the view's.
        function: What finishes it; None where it is the total itself.
        totals: Which totals it takes.
    """

    column: int
    function: Callable[..., float] | None
    totals: tuple[int, ...]


class _Window(NamedTuple):
    """How a window is read.

    Attributes:
        over_us: Its length.
        slots: The totals that its quick features need.
        values: Its quick features.
        slow: Its other features.
    """

    over_us: int
    slots: tuple[_Slot, ...]
    values: tuple[_Value, ...]
    slow: tuple[Reading, ...]


class Plan:
    """How the features of a group are read from one value.

    Args:
        group: The group.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._hop_us = group.hop_us
        self._windows = [_planned(group, window) for window in group.windows]
        self.rows = 1 + group.width

    def read(
        self, words: Words64, place: int, tiles: int, as_of_us: int, result: list[float]
    ) -> None:
        """Read the features.

        Args:
            words: The value.
            place: The word where the group's rows begin.
            tiles: Number of its tiles.
            as_of_us: The time, not before the newest event.
            result: Where the features go, by column; what has no tile is left as it is.
        """
        ints, past = words.ints, place + tiles
        for over_us, slots, values, slow in self._windows:
            wanted = first_tile(as_of_us, over_us, self._hop_us)
            low = bisect_left(ints, wanted, place, past)
            if low == past:
                continue
            if low == past - 1:
                totals = [
                    words.floats[low + row * tiles]
                    if one is None
                    else one(words, low + row * tiles, tiles)
                    for one, _, row in slots
                ]
            else:
                run = _Run(words.array, low, past - low, tiles)
                totals = [merged(run, row) for _, merged, row in slots]
            for column, function, taken in values:
                value = totals[taken[0]]
                if function is not None:
                    value = function(*[totals[index] for index in taken])
                result[column] = value if isfinite(value) else NULL
            if slow:
                self._read_slow(slow, _Run(words.array, low, past - low, tiles), result)

    def _read_slow(self, slow: tuple[Reading, ...], run: _Run, result: list[float]) -> None:
        """Read the features whose states are too large for plain Python as the many are read."""
        low, high = np.zeros(1, dtype=np.int64), np.full(1, run.size)
        for reading in slow:
            states: list[Words] = []
            for index in reading.slots:
                slot = self._group.slots[index]
                rows = range(slot.row + 1, slot.row + 1 + slot.state.width)
                states.append(slot.state.reducer(tuple(run.row(row) for row in rows))(low, high))
            values = null_where_not_finite(finish(reading.feature, states)).ravel().tolist()
            result[reading.column : reading.column + len(values)] = values


def _planned(group: Group, window: Window) -> _Window:
    places = {index: place for place, index in enumerate(window.quick_slots)}
    slots: list[_Slot] = []
    for index in window.quick_slots:
        slot = group.slots[index]
        slots.append(_Slot(_ONE.get(slot.kind), _RUN[slot.kind], slot.row + 1))
    values = tuple(
        _Value(each.column, _VALUES.get(each.op), tuple(places[index] for index in each.slots))
        for each in window.quick
    )
    return _Window(window.over_us, tuple(slots), values, window.slow)


def _last_one(words: Words64, place: int, step: int) -> float:
    return words.floats[place + step] if words.ints[place] > NEVER_US else NULL


def _var_one(words: Words64, place: int, step: int) -> float:
    count = words.floats[place]
    return words.floats[place + 2 * step] / (count - 1) if count > 1 else NULL


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


def _mean(count: float, total: float) -> float:
    return total / count if count else NULL


_ONE: Mapping[str, ReadOne] = {"last": _last_one, "spread": _var_one}
_RUN: Mapping[str, ReadRun] = {
    "count": _sum, "sum": _sum, "min": _min, "max": _max, "last": _last, "spread": _var,
}  # fmt: skip
_VALUES: Mapping[AggregateOp, Callable[..., float]] = {"mean": _mean, "std": _std}
