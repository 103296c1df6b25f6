"""Values by key, of several views at once, wherever their partitions are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from penstock.algebra import NEVER_US

from .partitions import layouts_of, partition_of, partition_spaces, partitions_of
from .sweeping import SWEPT, Swept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.algebra import IntArray
    from penstock.ports import Found, OnlineStore

    Ask: TypeAlias = tuple[str, Sequence[bytes]]

__all__ = ["Mark", "PartitionedReads", "Stored"]

Mark: TypeAlias = "int | IntArray | None"
"""Number of the last raw batch that values contain: one for all, or int64, one for each of them;
None where a partition that was asked has not been built."""


class Stored(NamedTuple):
    """What is stored of one view.

    Attributes:
        values: The values of the keys, in their order; None for an unknown one.
        mark: Number of the last raw batch they contain.
        since_us: From when on they tell of entities, int64 microseconds: one for all, or one for
            each.
    """

    values: list[bytes | None]
    mark: Mark
    since_us: int | IntArray


class PartitionedReads:
    """Reads views, asking only the partitions that the keys are in; safe across threads.

    It knows how many partitions each view has from its last look. When that has changed, a
    partition is missing where it looks: then it looks again how many there are.

    Args:
        online: The online store.
        spaces: The space of each view, as ``space_of`` gives it.
        leaving: Whether values of each view may leave the store.
    """

    def __init__(self, online: OnlineStore, spaces: Sequence[str], leaving: Sequence[bool]) -> None:
        self._online = online
        self._views = spaces
        self._marks: list[Sequence[bytes]] = [(SWEPT,) if own else () for own in leaving]
        self._seen: _Seen | None = None

    def read(self, keys: Sequence[Sequence[bytes]]) -> list[Stored]:
        """The values of keys of each view, all as of one moment.

        Args:
            keys: The encoded keys wanted of each view.

        Raises:
            StateError: The online store is damaged.
            UnavailableError: It cannot be reached.
        """
        seen = self._seen or self._look_at_layouts()
        while True:
            stored = self._try(seen, keys)
            for one in stored:
                if one.mark is None:
                    break
            else:
                return stored
            before, seen = seen, self._look_at_layouts()
            if seen == before:
                return stored

    def counts(self) -> Sequence[int]:
        """How many partitions each view has, as it was seen last: one object until it changes."""
        return (self._seen or self._look_at_layouts()).counts

    def _try(self, seen: _Seen, keys: Sequence[Sequence[bytes]]) -> list[Stored]:
        """What is stored, if the views lie as it was seen last."""
        parts = seen.parts
        if seen.is_whole:
            asks = [
                (space, [*own, *mark])
                for (space,), own, mark in zip(parts, keys, self._marks, strict=True)
            ]
            answers = zip(self._online.look(asks), keys, strict=True)
            return [_stored(found, len(own)) for found, own in answers]
        plans = [
            _Plan(spaces, own, mark)
            for spaces, own, mark in zip(parts, keys, self._marks, strict=True)
        ]
        found = iter(self._online.look([ask for plan in plans for ask in plan.asks]))
        return [plan.gather([next(found) for _ in plan.asks]) for plan in plans]

    def _look_at_layouts(self) -> _Seen:
        counts = [layout.partitions for layout in layouts_of(self._online, self._views)]
        parts = [*map(partition_spaces, self._views, counts)]
        self._seen = _Seen(max(counts, default=1) == 1, counts, parts)
        return self._seen


class _Seen(NamedTuple):
    """How views lie.

    Attributes:
        is_whole: Whether every view is in one partition.
        counts: How many partitions each has.
        parts: The spaces of each.
    """

    is_whole: bool
    counts: Sequence[int]
    parts: Sequence[tuple[str, ...]]


class _Plan:
    """What to ask the store for the keys of one view, and what to make of its answers."""

    __slots__ = ("_places", "_rows", "asks")

    def __init__(
        self, spaces: tuple[str, ...], keys: Sequence[bytes], mark: Sequence[bytes]
    ) -> None:
        self._rows = len(keys)
        self._places: list[IntArray] = []
        if len(spaces) == 1:
            self.asks: list[Ask] = [(spaces[0], [*keys, *mark])]
        elif len(keys) == 1:
            self.asks = [(spaces[partition_of(keys[0], len(spaces))], [*keys, *mark])]
        else:
            slots = partitions_of(keys, len(spaces))
            # Where nothing is asked, it is still told whether the view is built.
            wanted = np.unique(slots).tolist() or range(len(spaces))
            self._places = [np.flatnonzero(slots == slot) for slot in wanted]
            self.asks = [
                (spaces[slot], [*(keys[place] for place in places.tolist()), *mark])
                for slot, places in zip(wanted, self._places, strict=True)
            ]

    def gather(self, found: Sequence[Found]) -> Stored:
        if not self._places:
            return _stored(found[0], self._rows)
        values: list[bytes | None] = [None] * self._rows
        each = np.zeros(self._rows, dtype=np.int64)
        since = np.full(self._rows, NEVER_US)
        built: list[int] = []
        for answer, places in zip(found, self._places, strict=True):
            one = _stored(answer, len(places))
            if isinstance(one.mark, int):
                built.append(one.mark)
                each[places] = one.mark
            since[places] = one.since_us
            for place, value in zip(places.tolist(), one.values, strict=True):
                values[place] = value
        if len(built) < len(found):
            return Stored(values, None, since)
        return Stored(values, each if self._rows else min(built), since)


def _stored(found: Found, rows: int) -> Stored:
    """What one space holds of so many keys, which its mark may follow."""
    progress, values = found
    mark = None if progress is None or progress < 0 else progress
    packed = values.pop() if len(values) > rows else None
    if packed is None:
        return Stored(values, mark, NEVER_US)
    swept = Swept.read(packed)
    if rows == 1:
        return Stored(values, mark, swept.since_us(values[0]))
    if swept.horizon_us == NEVER_US or None not in values:
        return Stored(values, mark, swept.seam_us)
    return Stored(values, mark, np.array([swept.since_us(value) for value in values]))
