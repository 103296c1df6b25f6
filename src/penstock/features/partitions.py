"""Which partition an entity is in, and the spaces of the online store that hold a view's.

A view in one partition is one space, named as ``space_of`` says. In several, partition 2 of 4 is
the space ``<that>/2of4``, and the space ``<that>/layout`` says how many there are. Another number
of partitions is built beside the one that is read; then the layout names the new one, at once for
all readers, and the old spaces are dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import numpy as np
import polars as pl

from penstock.errors import ConflictError

from .entities import encode_keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.algebra import IntArray
    from penstock.ports import Changes, OnlineStore
    from penstock.spec import Entity

__all__ = [
    "MOST_PARTITIONS",
    "Layout",
    "PartOf",
    "Slots",
    "built_marks",
    "layout_of",
    "layouts_of",
    "marks_of",
    "part_of",
    "partition_of",
    "partition_spaces",
    "partitions_of",
    "slot_count",
    "switch_layout",
]

MOST_PARTITIONS = 256
_COUNT, _LEFT = b"count", b"left"
_MIX = ((16, 0x85EBCA6B), (13, 0xC2B2AE35))
_WORD = 0xFFFFFFFF


def partition_of(key: bytes, count: int) -> int:
    """The partition of an entity: CRC-32 of its encoded key, mixed, modulo their number.

    It is the same in every process, on every machine and with every version: what is stored lies
    where it says. CRC-32 is that of zlib, the mixing that of MurmurHash3, without which keys that
    differ in few bits would lie unevenly.

    Args:
        key: The key as ``encode_keys`` gives it.
        count: How many partitions there are.
    """
    mixed = crc32(key)
    for shift, factor in _MIX:
        mixed = ((mixed ^ (mixed >> shift)) * factor) & _WORD
    return (mixed ^ (mixed >> 16)) % count


def partitions_of(keys: Sequence[bytes], count: int) -> IntArray:
    """``partition_of`` of many keys."""
    mixed = np.fromiter(map(crc32, keys), dtype=np.uint64, count=len(keys))
    for shift, factor in _MIX:
        mixed = ((mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)) & np.uint64(_WORD)
    return ((mixed ^ (mixed >> np.uint64(16))) % np.uint64(count)).astype(np.int64)


class Layout(NamedTuple):
    """How a view lies in the online store.

    Attributes:
        partitions: How many are read.
        left: How many were read before, and are not dropped yet; 0 for none.
        generation: How often the number has been changed.
    """

    partitions: int = 1
    left: int = 0
    generation: int = 0


class PartOf(NamedTuple):
    """What a space of the online store is.

    Attributes:
        space: The view's space, as ``space_of`` gives it.
        slot: Number of the partition, from 0; none for the layout.
        of: How many partitions that layout has; 0 for the layout.
    """

    space: str
    slot: int | None
    of: int


class Slots:
    """Some partitions of a view, written as if they were one space.

    Args:
        online: The online store.
        space: What ``space_of`` gives for the view.
        count: How many partitions the view has.
        tokens: The token with which each of these partitions is claimed.
    """

    def __init__(
        self, online: OnlineStore, space: str, count: int, tokens: Mapping[int, int]
    ) -> None:
        self._online = online
        self._count = count
        self._tokens = tokens
        self._spaces = partition_spaces(space, count)

    @property
    def spaces(self) -> dict[int, str]:
        """The space of each of these partitions, by its number."""
        return {slot: self._spaces[slot] for slot in self._tokens}

    def kept(self, records: pl.DataFrame, entity: Entity) -> pl.DataFrame:
        """The records of entities in these partitions, in their order."""
        if len(self._tokens) == self._count:
            return records
        known = records[entity.name].unique()
        slots = partitions_of(encode_keys(entity, known.to_list()), self._count)
        own = known.filter(pl.Series(np.isin(slots, list(self._tokens))))
        return records.filter(pl.col(entity.name).is_in(own.implode()))

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of keys, which are all in these partitions, in their order."""
        if self._count == 1:
            return self._online.get(self._spaces[0], keys)
        values: list[bytes | None] = [None] * len(keys)
        slots = partitions_of(keys, self._count)
        for slot in self._tokens:
            places = np.flatnonzero(slots == slot).tolist()
            found = self._online.get(self._spaces[slot], [keys[place] for place in places])
            for place, value in zip(places, found, strict=True):
                values[place] = value
        return values

    def write(self, values: Changes, more: Mapping[int, Changes], *, progress: int) -> None:
        """Store or remove the values that are of these partitions, and store each one's progress.

        Each partition is a transaction of its own: one that another process has taken over stops
        the rest, which are then a batch behind and catch up with the next refresh.

        Args:
            values: The values, of any of these partitions.
            more: More of them, by partition.
            progress: The last raw batch they contain.

        Raises:
            ConflictError: Another process has claimed a partition.
        """
        for slot, own in self.parted(values).items():
            changes = {**more.get(slot, {}), **own}
            token = self._tokens[slot]
            self._online.write(self._spaces[slot], changes, progress=progress, token=token)

    def parted(self, values: Changes) -> dict[int, Changes]:
        """Those of the values that are of these partitions, by partition."""
        if self._count == 1:
            return {0: values}
        parts: dict[int, dict[bytes, bytes | None]] = {slot: {} for slot in self._tokens}
        slots = partitions_of(list(values), self._count).tolist()
        for slot, (key, value) in zip(slots, values.items(), strict=True):
            if slot in parts:
                parts[slot][key] = value
        return {**parts}


def partition_spaces(space: str, count: int) -> tuple[str, ...]:
    """The spaces of a view's partitions, in their order.

    Args:
        space: What ``space_of`` gives for the view.
        count: How many partitions there are.
    """
    return (space,) if count == 1 else tuple(f"{space}/{slot}of{count}" for slot in range(count))


def part_of(name: str) -> PartOf:
    """What a space of the online store is, by its name."""
    space, _, part = name.partition("/")
    slot, of, count = part.partition("of")
    if of and slot.isdigit() and count.isdigit():
        return PartOf(space, int(slot), int(count))
    return PartOf(space, None, 0) if part else PartOf(space, 0, 1)


def layout_of(online: OnlineStore, space: str) -> Layout:
    """How many partitions of a view are read now; one where nothing is said."""
    return layouts_of(online, [space])[0]


def layouts_of(online: OnlineStore, spaces: Sequence[str]) -> list[Layout]:
    """``layout_of`` of several views, as of one moment."""
    asks = [(_pointer(space), [_COUNT, _LEFT]) for space in spaces]
    return [
        Layout() if count is None else Layout(int(count), int(left or 0), generation or 0)
        for generation, (count, left) in online.look(asks)
    ]


def slot_count(layout: Layout, wanted: int | None) -> int:
    """How many partitions there are to be seen to: those read, those wanted and those left."""
    return max(layout.partitions, wanted or 0, layout.left)


def marks_of(online: OnlineStore, space: str, count: int) -> list[int | None]:
    """Number of the last raw batch in each partition; None while it has not been built to the end.

    Args:
        online: The online store.
        space: What ``space_of`` gives for the view.
        count: How many partitions the layout has.
    """
    found = online.look([(name, []) for name in partition_spaces(space, count)])
    return [None if mark is None or mark < 0 else mark for mark, _ in found]


def built_marks(online: OnlineStore, space: str, count: int) -> list[int] | None:
    """``marks_of`` where every partition has been built; else None."""
    marks = [mark for mark in marks_of(online, space, count) if mark is not None]
    return marks if len(marks) == count else None


def switch_layout(
    online: OnlineStore, space: str, layout: Layout, wanted: int, tokens: Mapping[int, int]
) -> None:
    """Let readers read so many partitions once these hold all that is read now, and clear up.

    Every refresh does it, with the slots that it holds: of two, one is late and changes nothing; of
    one that is killed in the middle, the next goes on.

    Args:
        online: The online store.
        space: What ``space_of`` gives for the view.
        layout: What was read before it was looked whether it is due.
        wanted: How many partitions there are to be.
        tokens: The token of each slot that is held.
    """
    if layout.partitions != wanted and _is_due(online, space, layout.partitions, wanted):
        new = Layout(wanted, layout.partitions, layout.generation + 1)
        layout = new if _wrote(online, space, new) else layout_of(online, space)
    if not layout.left:
        return
    left = partition_spaces(space, layout.left)
    for slot, token in tokens.items():
        if slot < layout.left:
            online.claim(left[slot], token)
            online.drop(left[slot], token=token)
    if all(mark is None for mark in marks_of(online, space, layout.left)):
        _wrote(online, space, layout._replace(left=0, generation=layout.generation + 1))


def _is_due(online: OnlineStore, space: str, count: int, wanted: int) -> bool:
    """Whether the partitions wanted are built, and hold what the others do."""
    new, old = built_marks(online, space, wanted), built_marks(online, space, count)
    return new is not None and (old is None or min(new) >= max(old))


def _wrote(online: OnlineStore, space: str, layout: Layout) -> bool:
    values = {_COUNT: b"%d" % layout.partitions, _LEFT: b"%d" % layout.left}
    try:
        online.write(_pointer(space), values, progress=layout.generation)
    except ConflictError:
        return False
    return True


def _pointer(space: str) -> str:
    return f"{space}/layout"
