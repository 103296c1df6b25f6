"""Vectors kept up to date: with what was folded into the views, and with the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from penstock.algebra import ALWAYS
from penstock.errors import ConflictError
from penstock.ingest import read_tombstones

from .entities import encode_keys
from .offline import ARRIVAL, newest_version, raw_table
from .partitions import layouts_of, part_of, partitions_of
from .spaces import lock_of
from .sweeping import SWEPT, Swept
from .vectors import HEAD, MARKS, PREFIX, VectorGroup, groups_of, vector_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from penstock.ports import Found, Locks, OnlineStore, Tables
    from penstock.spec import FeatureView

__all__ = ["VectorResult", "drop_vectors", "refresh_vectors"]

AT_ONCE = 5_000
LONGEST_KEY_BYTES = 500
"""A longer key leaves no room for what leads it in a store; its entity has no vector."""


@dataclass(frozen=True, kw_only=True)
class VectorResult:
    """What was done for the vectors of some views.

    Attributes:
        space: The space of the online store that holds them.
        views: Names of the views.
        written: Vectors written, because of new batches or since they no longer held.
        from_zero: Whether all were written, of every entity.
    """

    space: str
    views: tuple[str, ...]
    written: int
    from_zero: bool


def refresh_vectors(  # noqa: PLR0913 - three ports and what to do with them
    tables: Tables,
    online: OnlineStore,
    locks: Locks,
    views: Iterable[FeatureView],
    now_us: int,
    *,
    slots: Callable[[str, int], Iterable[int]] | None = None,
) -> list[VectorResult]:
    """Write the vectors of entities that batches have touched, and those that no longer hold.

    The marks, which say up to which batches the vectors of a partition are whole, are written last:
    a run that is killed leaves vectors that nobody takes, and the next one writes them again. Views
    that are not built, or lie in unlike numbers of partitions, have no vectors.

    Args:
        tables: Where the raw tables are: they tell which entities a batch has touched.
        online: The online store.
        locks: One run at a time holds the lock of a space of vectors.
        views: The feature views; those of one entity together make its vectors.
        now_us: The time from which the vectors have to hold.
        slots: Which partitions to write, given the space of a view and how many there are; all when
            left out.

    Returns:
        What was done for each entity; those of which there are no vectors are left out.

    Raises:
        UnavailableError: Another process has been writing them for too long.
        ConflictError: Another process has taken them over, or a partition of a view was dropped.
        StateError: The online store is damaged.
    """
    found: list[VectorResult] = []
    for group in groups_of(views):
        counts = {layout.partitions for layout in layouts_of(online, group.spaces)}
        count = counts.pop()
        if counts:
            continue
        own = set(range(count))
        if slots is not None:
            own = {slot for space in group.spaces for slot in slots(space, count)}
        named = _Named(tables, group, count)
        runs = [_Work(online, group, slot, count, named, now_us).run(locks) for slot in sorted(own)]
        done = [run for run in runs if run is not None]
        if done:
            result = VectorResult(
                space=group.space,
                views=group.view_names,
                written=sum(run.written for run in done),
                from_zero=any(run.from_zero for run in done),
            )
            found.append(result)
    return found


def drop_vectors(online: OnlineStore, locks: Locks, views: Iterable[FeatureView]) -> None:
    """Remove the vectors of some views, before a view is built from nothing.

    Args:
        online: The online store.
        locks: Holds the lock of each space of the vectors.
        views: The feature views.

    Raises:
        UnavailableError: Another process has been writing them for too long.
    """
    spaces = {group.space for group in groups_of(views)}
    for name in online.spaces():
        part = part_of(name)
        if part.space in spaces:
            with locks.hold(lock_of(part.space, part.slot or 0)) as token:
                online.claim(name, token)
                online.drop(name, token=token)


class _Named:
    """Which entities batches name, of those in each partition; what was read once is kept.

    Args:
        tables: Where the raw tables are.
        group: The views of the vectors.
        count: How many partitions each of them has.
    """

    def __init__(self, tables: Tables, group: VectorGroup, count: int) -> None:
        self._tables = tables
        self._entity = group.entity
        self._count = count
        self._known: dict[tuple[str, int, int], tuple[list[bytes], list[int]]] = {}

    def keys(self, view: FeatureView, after: int, last: int, slot: int) -> set[bytes]:
        """The entities of a partition that later batches name, in records or in deletions."""
        batches = (view.source.name, after, last)
        if batches not in self._known:
            keys = encode_keys(self._entity, self._read(view, after, last))
            self._known[batches] = keys, partitions_of(keys, self._count).tolist()
        keys, slots = self._known[batches]
        return {key for key, own in zip(keys, slots, strict=True) if own == slot}

    def _read(self, view: FeatureView, after: int, last: int) -> list[str | int]:
        key, version = self._entity.name, newest_version(self._tables, view)
        batch = pl.col(ARRIVAL[0])
        records = self._tables.scan(raw_table(view), version=version, columns=[key, ARRIVAL[0]])
        new = records.filter((batch > after) & (batch <= last)).select(pl.col(key).unique())
        named = new.collect()[key].to_list()
        deleted = read_tombstones(self._tables, view.source, version=version)
        return named if deleted is None else named + deleted.between(after, last).keys.to_list()


class _State(NamedTuple):
    """How a partition stands.

    Attributes:
        marks: What the vectors contain: the last raw batch of each view, and the first moment at
            which one of them no longer holds; none where there are no vectors.
        target: The last raw batch in each view.
        now_us: The time from which the vectors have to hold: now, or what the views have let go of.
    """

    marks: tuple[int, ...] | None
    target: list[int]
    now_us: int

    @property
    def is_due(self) -> bool:
        """Whether anything is to be written."""
        marks = self.marks
        return marks is None or [*marks[:-1]] != self.target or marks[-1] <= self.now_us


class _Run(NamedTuple):
    """What was done for a partition.

    Attributes:
        written: How many vectors were written.
        from_zero: Whether all were.
    """

    written: int = 0
    from_zero: bool = False


class _Work:
    """A run over the vectors of one entity in one partition."""

    def __init__(  # noqa: PLR0913, PLR0917 - made in one place, with all that a run needs
        self,
        online: OnlineStore,
        group: VectorGroup,
        slot: int,
        count: int,
        named: _Named,
        now_us: int,
    ) -> None:
        self._online = online
        self._group = group
        self._slot = slot
        self._part = group.parts(count)[slot]
        self._named = named
        self._now_us = now_us
        self._token = 0
        self._number = 0
        self._ends_us = ALWAYS.until_us  # the first moment at which a vector no longer holds
        self._written = 0

    def run(self, locks: Locks) -> _Run | None:
        """Write what is due; none where the views are not built."""
        state = self._state()
        if state is None or not state.is_due:
            return None if state is None else _Run()
        with locks.hold(lock_of(self._group.space, self._slot)) as token:
            self._token = token
            self._number = self._online.claim(self._part.space, token) or 0
            # Again: another may have written them while the lock was waited for.
            state = self._state()
            return None if state is None else self._bring(state)

    def _state(self) -> _State | None:
        part = self._part
        own, *views = self._online.look([(part.space, [MARKS]), *part.asks([])])
        target = [one.progress for one in views if one.progress is not None and one.progress >= 0]
        if len(target) < len(views):
            return None
        marks = None if own.values[0] is None else self._group.marks.unpack(own.values[0])
        horizons = [Swept.read(one.values[0]).horizon_us for one in views]
        return _State(marks, target, max(self._now_us, *horizons))

    def _bring(self, state: _State) -> _Run:
        marks, target, self._now_us = state
        from_zero = marks is None or any(
            done > reached for done, reached in zip(marks, target, strict=False)
        )
        if marks is None or from_zero:
            self._online.claim(self._part.space, self._token, anew=True)
            self._number = 0
            self._write(self._everybody(), target)
        else:
            self._ends_us = marks[-1]
            touched = self._touched(marks[:-1], target)
            if self._now_us >= self._ends_us:
                touched |= self._ended()
            self._write(touched, target)
        if from_zero or marks != (*target, self._ends_us):
            self._store({MARKS: self._group.marks.pack(*target, self._ends_us)})
        return _Run(self._written, from_zero)

    def _everybody(self) -> set[bytes]:
        spaces = self._part.spaces
        return {key for space in spaces for key, _ in self._online.items(space)} - {SWEPT}

    def _touched(self, done: Sequence[int], target: Sequence[int]) -> set[bytes]:
        """The entities that batches after those done name."""
        keys: set[bytes] = set()
        for view, after, last in zip(self._group.views, done, target, strict=True):
            if after < last:
                keys |= self._named.keys(view, after, last, self._slot)
        return keys

    def _ended(self) -> set[bytes]:
        """The entities whose vectors no longer hold; sets when the first of the others will."""
        ended: set[bytes] = set()
        self._ends_us = ALWAYS.until_us
        for key, vector in self._online.items(self._part.space):
            if key == MARKS or len(vector) < HEAD.size:
                continue
            until_us: int = HEAD.unpack_from(vector)[-1]
            if until_us <= self._now_us:
                ended.add(key[len(PREFIX) :])
            else:
                self._ends_us = min(self._ends_us, until_us)
        return ended

    def _write(self, keys: set[bytes], target: Sequence[int]) -> None:
        short = sorted(key for key in keys if len(key) <= LONGEST_KEY_BYTES)
        for start in range(0, len(short), AT_ONCE):
            chunk = short[start : start + AT_ONCE]
            found = self._online.look(self._part.asks(chunk))
            self._require(found, target)
            vectors = self._group.vectors(found, self._now_us)
            for vector in vectors:
                if vector:
                    self._ends_us = min(self._ends_us, HEAD.unpack_from(vector)[-1])
            named = zip(map(vector_key, chunk), vectors, strict=True)
            self._store({key: vector or None for key, vector in named})
            self._written += len(chunk)

    def _require(self, found: Sequence[Found], target: Sequence[int]) -> None:
        """Make sure that the views still hold what the marks are going to say.

        A view whose number of partitions changes is dropped where it was read until then, and reads
        as if it had nothing. Should it come back, with as many batches, no vector may say so.
        """
        reached = [-1 if one.progress is None else one.progress for one in found]
        if any(own < wanted for own, wanted in zip(reached, target, strict=True)):
            space = self._part.space
            message = (
                f"A view was dropped or built anew while its vectors were written to {space!r}. "
                "Nobody takes them; they are written once it is there again."
            )
            raise ConflictError(message, space=space, reached=reached, target=[*target])

    def _store(self, values: dict[bytes, bytes | None]) -> None:
        self._number += 1
        self._online.write(self._part.space, values, progress=self._number, token=self._token)
