"""Values that nobody can ask for any more leave the online store, with the writes of a refresh.

What may leave is the law of ``algebra.leaving``, and so is why folding onto nothing is right after
it has left. Beside its values a partition has a mark that says its horizon: from there on nothing
is all that there is to say of who has no value. It is written in the transaction that removes
values, and read in the moment in which values are read, so that nobody is told of a time before it.
A value is told of from its newest event on, as ever, since what left was past by then; unless it
was folded onto nothing with events from before the horizon. The seam is the newest horizon for
which that was so, and no value is told of before it. There is none while records come in time.
A value that is past even with the records that come for it leaves with them: as it stands it would
tell of earlier times without them.

The horizon follows the records, an hour behind the newest one, and never passes an hour before the
clock: where old records are played again the horizon plays along, and a record that is stamped with
a day to come moves nothing. It only goes forward.

A refresh looks at some of the values, a slice after the one that the refresh before has looked at:
half as many as it writes, and some hundreds at the least. Where a third of a slice left, the next
one has twice as many as are written. So while all living values are looked at, at most twice their
number can come; and what is past is then removed faster than anything comes.

    8 bytes   b"PNSH", format as two bytes, as two bytes whether the next slice is a large one
    3 words   the horizon and the seam, int64 microseconds; how many values have left
    rest      where in the store the next slice begins
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from penstock.algebra import NEVER_US, is_past, may_leave, newest_of
from penstock.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.algebra import IntArray, Program
    from penstock.ports import Changes, OnlineStore

    from .partitions import Slots

__all__ = ["SWEPT", "Sweep", "Swept", "swept_counts"]

SWEPT = b"\xff"
"""The key of the mark. No entity has it: text is UTF-8, and numbers are eight bytes."""

MARGIN_US = 3_600_000_000
"""How far the horizon stays behind the newest record: what comes later than that makes a seam."""

LEAST, AT_ONCE, MOST = 256, 1_000, 100_000
"""How many values a slice has at least, how many are read at once, how many it has at the most."""

RICH = 3
"""One of so many values of a slice that leave make the next one large."""

HEAD = struct.Struct("<4sHHqqq")
MAGIC, FORMAT = b"PNSH", 1


class Swept(NamedTuple):
    """The mark of a partition.

    Attributes:
        horizon_us: From when on it tells of who has no value, int64 microseconds; ``NEVER_US`` for
            any time.
        seam_us: From when on it tells of values, likewise.
        left: How many values have left since it was built.
        after: Where in the store the next slice begins.
        is_rich: Whether many values left with the last slice.
    """

    horizon_us: int = NEVER_US
    seam_us: int = NEVER_US
    left: int = 0
    after: bytes = b""
    is_rich: bool = False

    @classmethod
    def read(cls, packed: bytes | None) -> Swept:
        """What the store has; None where nothing has been swept.

        Raises:
            StateError: It is damaged.
        """
        if packed is None:
            return cls()
        if len(packed) >= HEAD.size:
            magic, form, rich, *told = HEAD.unpack_from(packed)
            if (magic, form) == (MAGIC, FORMAT):
                horizon_us, seam_us, left = told
                return cls(horizon_us, seam_us, left, packed[HEAD.size :], bool(rich))
        raise StateError(
            "The mark of what has left the online store is damaged. Nothing is lost, since the raw "
            "tables hold every record: run 'penstock features build --again'.",
            size_bytes=len(packed),
        )

    def since_us(self, value: bytes | None) -> int:
        """From when on it tells of an entity with a value, or without one."""
        return self.horizon_us if value is None else self.seam_us

    def packed(self) -> bytes:
        """What the store keeps."""
        return HEAD.pack(MAGIC, FORMAT, self.is_rich, *self[:3]) + self.after


class Sweep:
    """What leaves some partitions of a view, all with one horizon.

    Args:
        online: The online store.
        program: The compiled view.
        part: The partitions.
        now_us: The time now, int64 microseconds since 1970 UTC; None where the horizon is to stay
            and no slice is to be looked at.

    Attributes:
        horizon_us: From when on it is told of who has no value, with what is written next.
        stored_us: The same with what was written last: what has left was past then.
        count: How many values have left in this refresh.
    """

    def __init__(
        self, online: OnlineStore, program: Program, part: Slots, now_us: int | None
    ) -> None:
        self._online = online
        self._program = program
        self._part = part
        self._now_us = now_us if may_leave(program) else None
        found = online.look([(space, [SWEPT]) for space in part.spaces.values()])
        marks = [Swept.read(one.values[0]) for one in found]
        self._marks = dict(zip(part.spaces, marks, strict=True))
        self._begun = {slot: mark.left for slot, mark in self._marks.items()}
        self.horizon_us = max(mark.horizon_us for mark in marks)
        self.stored_us = self.horizon_us
        self._seam_us = max(mark.seam_us for mark in marks)
        self._leaving: dict[bytes, None] = {}  # with what is written next

    @property
    def count(self) -> int:
        """How many values have left in this refresh."""
        return sum(mark.left - self._begun[slot] for slot, mark in self._marks.items())

    @property
    def has_horizon(self) -> bool:
        """Whether anything may have left."""
        return self.horizon_us > NEVER_US

    def see(self, times: IntArray) -> None:
        """Let the horizon follow records that are folded now: when each is known."""
        if self._now_us is not None and len(times):
            newest_us = min(self._now_us, int(times.max()))
            self.horizon_us = max(self.horizon_us, newest_us - MARGIN_US)

    def living(
        self, values: Mapping[bytes, bytes], present: Sequence[bytes | None] = ()
    ) -> dict[bytes, bytes | None]:
        """What to write of values that were folded: those of which nothing can be asked leave.

        Args:
            values: The values.
            present: What each was folded onto; nothing where all of its records were.
        """
        newest = newest_of([*values.values()])
        past = is_past(self._program, newest, self.horizon_us)
        if present and self.stored_us > NEVER_US:
            onto_nothing = newest_of(present) == NEVER_US
            if (onto_nothing & ~past & (newest < self.stored_us)).any():
                self._seam_us = self.stored_us
        before = present or [None] * len(values)
        found: dict[bytes, bytes | None] = {}
        for (key, value), was, is_gone in zip(values.items(), before, past.tolist(), strict=True):
            if not is_gone:
                found[key] = value
            elif was is not None:
                found[key] = self._leaving[key] = None
        return found

    def slices(self, changes: Changes) -> dict[int, dict[bytes, bytes | None]]:
        """What else to write to each partition: the next slice's values that leave, and its mark.

        Args:
            changes: What is written in the same transactions.
        """
        if not self.has_horizon:
            return {}
        leaving, self._leaving = self._part.parted(self._leaving), {}
        written = len(changes) // len(self._marks)
        found: dict[int, dict[bytes, bytes | None]] = {}
        for slot, space in self._part.spaces.items():
            mark = self._marks[slot]
            size = min(max(2 * written if mark.is_rich else written // 2, LEAST), MOST)
            gone, seen, after = self._slice(space, mark.after, 0 if self._now_us is None else size)
            own = dict.fromkeys(gone - changes.keys())
            left = mark.left + len(own) + len(leaving[slot])
            is_rich = RICH * len(own) > seen
            self._marks[slot] = Swept(self.horizon_us, self._seam_us, left, after, is_rich)
            found[slot] = {**own, SWEPT: self._marks[slot].packed()}
        self.stored_us = self.horizon_us
        return found

    def _slice(self, space: str, after: bytes, size: int) -> tuple[set[bytes], int, bytes]:
        """The keys of a slice whose values leave, its size, and where the next one begins."""
        gone: set[bytes] = set()
        seen = 0
        while seen < size:
            items, after = self._online.some(space, after, min(size - seen, AT_ONCE))
            seen += len(items)
            keys = [key for key, _ in items if key != SWEPT]
            newest = newest_of([value for key, value in items if key != SWEPT])
            past = np.flatnonzero(is_past(self._program, newest, self.horizon_us))
            gone.update(keys[place] for place in past.tolist())
            if not after:
                break
        return gone, seen, after


def swept_counts(online: OnlineStore, spaces: Sequence[str]) -> list[int]:
    """How many values have left each space of a view since it was built."""
    found = online.look([(space, [SWEPT]) for space in spaces])
    return [Swept.read(one.values[0]).left for one in found]
