"""From raw batches to the online store."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.algebra import compile_view, count_too_late, extract, fold, lacks_past
from penstock.ingest import read_tombstones

from .entities import codes_of, encode_keys
from .offline import ARRIVAL, newest_version, raw_table, read_records
from .partitions import (
    Layout,
    Slots,
    built_marks,
    layout_of,
    partition_spaces,
    slot_count,
    switch_layout,
)
from .spaces import built_to, lock_of, space_of_program
from .sweeping import Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from penstock.algebra import Events, Program
    from penstock.ports import Changes, Locks, OnlineStore, Tables
    from penstock.spec import FeatureView

__all__ = ["CHUNK_ROWS", "RefreshResult", "refresh"]

CHUNK_ROWS = 1_000_000
"""Records folded at once, unless a single batch, or in a first build a single entity, has more."""


@dataclass(frozen=True, kw_only=True)
class RefreshResult:
    """What a refresh did.

    Attributes:
        view: Name of the view.
        space: The space of the online store that holds it, or that its partitions are named after.
        first_batch: First raw batch that was folded in now.
        last_batch: Last raw batch in the store; below ``first_batch`` when nothing was new.
        records: Records folded in now.
        too_late: How many of them are older than any window of the view reaches back from the
            newest record of their entity that was online before, or from the horizon of before:
            they are in the raw table and change no online feature. None are where a value is
            built from nothing.
        swept: How many values have left the store, since nobody can ask for anything of them.
        from_zero: Whether a partition was empty before: a first build, or one after a change of the
            view, of the number of partitions, or the loss of the store.
    """

    view: str
    space: str
    first_batch: int
    last_batch: int
    records: int
    too_late: int
    swept: int
    from_zero: bool


def refresh(  # noqa: PLR0913 - three ports and what to do with them
    tables: Tables,
    online: OnlineStore,
    locks: Locks,
    view: FeatureView,
    *,
    partitions: int | None = None,
    slots: Callable[[str, int], Iterable[int]] | None = None,
    again: bool = False,
    chunk_rows: int = CHUNK_ROWS,
    now_us: int | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> RefreshResult:
    """Bring every new raw batch of a view's source to the online store.

    The values and the number of the last batch they contain are stored in one transaction for each
    partition, one chunk of batches after the other: a refresh that is killed goes on from the last
    chunk when it is run again, and no record is counted twice. Whoever refreshes a partition
    claims it first: one who did before and comes back late can write nothing.

    From an empty space this builds the view from the whole table, one part of the entities after
    the other, so that every value is written once, and the cost of an entity does not grow with
    their number. Until the last part is in, the space's progress is negative: nobody reads it,
    and a build that was killed is begun again.

    Another number of partitions than there are is built in this way beside them, while they are
    kept up to date; then readers turn to the new ones.

    Args:
        tables: Where the raw table is.
        online: The online store.
        locks: One refresh at a time holds ``lock_of`` a partition.
        view: The view.
        partitions: How many partitions the view is to have; as many as it has when left out.
        slots: Which partitions to refresh, given the view's space and how many there are; all when
            left out. Where another refreshes one, it is waited for.
        again: Drop what is there first and build it from nothing; nobody reads it meanwhile.
        chunk_rows: Records to fold at once, unless a single batch has more, or in a first build a
            single entity.
        now_us: The time now, int64 microseconds since 1970 UTC, by which values leave the store of
            which nobody can ask for anything any more; when left out, from no later time on than
            before, and nothing that no record comes for.
        progress: Told what is being done and the share that is done.

    Raises:
        NotReadyError: The source has no records yet.
        UnavailableError: Another process is refreshing the view.
        ConflictError: Another process has taken a partition over; it goes on from there.
        StateError: The online store is damaged.
        UserCodeError: A function of the user failed.
    """
    program = compile_view(view)
    space, name = space_of_program(program), raw_table(view)
    newest_version(tables, view)  # nothing is claimed for a source without records
    layout = layout_of(online, space)
    count = slot_count(layout, partitions)
    own = range(count) if slots is None else slots(space, count)
    if not again and _is_done(tables, online, program, layout, partitions):
        own = ()  # whoever has the partitions is not disturbed
    records, too_late, swept, begun = 0, 0, 0, []
    with ExitStack() as held:
        tokens = {slot: held.enter_context(locks.hold(lock_of(space, slot))) for slot in own}
        # The layout may have changed while the locks were waited for.
        layout = layout_of(online, space)
        wanted = partitions or layout.partitions
        # The number first, the version after it: so the version holds every batch up to it.
        target = tables.applied(name, name)
        version = newest_version(tables, view)
        for done, part in _parts(online, space, layout, wanted, tokens, again=again):
            sweep = Sweep(online, program, part, now_us)
            work = _Work(tables, part, program, version, sweep)
            turns = work.build(target, chunk_rows)
            if done is not None:
                turns = work.go_on(done, target, chunk_rows)
            for folded, share in turns:
                records += folded
                if progress is not None:
                    progress(f"features of {view.name}", share)
            too_late += work.too_late
            swept += sweep.count
            begun.append(done)
        switch_layout(online, space, layout, wanted, tokens)
    return RefreshResult(
        view=view.name,
        space=space,
        first_batch=min((done or 0 for done in begun), default=target) + 1,
        last_batch=built_to(online, space) or 0,
        records=records,
        too_late=too_late,
        swept=swept,
        from_zero=None in begun,
    )


def _is_done(
    tables: Tables, online: OnlineStore, program: Program, layout: Layout, wanted: int | None
) -> bool:
    """Whether every partition holds every batch, and there are as many as there are to be."""
    if layout.left or layout.partitions != (wanted or layout.partitions):
        return False
    name = raw_table(program.view)
    marks = built_marks(online, space_of_program(program), layout.partitions)
    return marks is not None and min(marks) >= tables.applied(name, name)


def _parts(  # noqa: PLR0913 - where a view is, and what becomes of it
    online: OnlineStore,
    space: str,
    layout: Layout,
    wanted: int,
    tokens: Mapping[int, int],
    *,
    again: bool,
) -> Iterator[tuple[int | None, Slots]]:
    """The partitions to bring up to date, claimed: those together that have come equally far.

    Yields:
        The last batch that they contain, None where they have to be built; and the partitions.
    """
    for count in dict.fromkeys((layout.partitions, wanted)):
        is_left = count != wanted
        # Once the others are built, they have only to catch up with those that are left.
        if is_left and built_marks(online, space, wanted) is not None:
            continue
        spaces = partition_spaces(space, count)
        groups: dict[int | None, dict[int, int]] = {}
        for slot, token in tokens.items():
            if slot < count:
                mark = online.claim(spaces[slot], token)
                done = None if mark is None or mark < 0 or (again and not is_left) else mark
                groups.setdefault(done, {})[slot] = token
        for done, own in groups.items():
            if done is None and is_left:
                continue
            if done is None:
                for slot, token in own.items():
                    online.claim(spaces[slot], token, anew=True)
            yield done, Slots(online, space, count, own)


class _Work:
    """A refresh of some partitions from one version of the raw table.

    Attributes:
        too_late: Records stored so far that no window reached any more.
    """

    def __init__(
        self, tables: Tables, part: Slots, program: Program, version: int, sweep: Sweep
    ) -> None:
        self._tables = tables
        self._part = part
        self._sweep = sweep
        self._program = program
        self._version = version
        self._batch = pl.col(ARRIVAL[0])
        self._key = program.view.source.entity.name
        self._tombstones = read_tombstones(tables, program.view.source, version=version)
        self.too_late = 0

    def build(self, target: int, chunk_rows: int) -> Iterator[tuple[int, float]]:
        """Fold the batches up to ``target`` into an empty space, part by part of the entities.

        Yields:
            The number of records folded now, and the share that is done.
        """
        wanted = self._batch <= target
        parts = self._parts(wanted, chunk_rows)
        if parts.is_empty():
            yield self._fold(wanted, target, last=target, anew=True), 1.0
        for done, (first, last) in enumerate(parts.iter_rows(), 1):
            own = wanted & pl.col(self._key).is_between(pl.lit(first), pl.lit(last))
            progress = target if done == parts.height else done - parts.height - 1
            yield self._fold(own, progress, last=target, anew=True), done / parts.height

    def _parts(self, wanted: pl.Expr, chunk_rows: int) -> pl.DataFrame:
        """First and last key of each part of the entities with about so many records."""
        key = self._key
        sizes = self._scan(key).filter(wanted).group_by(key).len().sort(key).collect()
        part = (pl.col("len").cum_sum() - 1) // chunk_rows
        # Neighbours in the store go together, so that its pages are written one after the other.
        parts = sizes.group_by(part.alias("part"), maintain_order=True).agg(
            pl.first(key).alias("first"), pl.last(key).alias("last")
        )
        return parts.select("first", "last")

    def go_on(self, done: int, target: int, chunk_rows: int) -> Iterator[tuple[int, float]]:
        """Fold the batches after ``done`` up to ``target``, chunk by chunk of batches.

        Yields:
            The number of records folded now, and the share that is done.
        """
        if target <= done:
            return
        for last in self._chunks(done, target, chunk_rows):
            wanted = (self._batch > done) & (self._batch <= last)
            deleted = self._deleted(done, last)
            if deleted is None:
                yield self._fold(wanted, last, last=last), last / target
            else:
                yield self._rebuild(deleted, wanted, last, chunk_rows), last / target
            done = last

    def _chunks(self, done: int, target: int, chunk_rows: int) -> Iterator[int]:
        """The last batch of each chunk of batches after ``done``, up to ``target``."""
        if target - done > 1:
            new = self._scan().filter((self._batch > done) & (self._batch < target))
            sizes = new.group_by(self._batch).len().sort(self._batch).collect()
            rows = 0
            for number, size in sizes.iter_rows():
                rows += size
                if rows >= chunk_rows:
                    rows = 0
                    yield number
        yield target

    def _scan(self, *columns: str) -> pl.LazyFrame:
        name = raw_table(self._program.view)
        return self._tables.scan(name, version=self._version, columns=[*columns, ARRIVAL[0]])

    def _deleted(self, done: int, last: int) -> pl.Series | None:
        """The entities that batches after ``done`` up to ``last`` delete records of."""
        if self._tombstones is None:
            return None
        named = self._tombstones.between(done, last).keys.to_frame()
        keys = self._part.kept(named, self._program.view.source.entity).to_series()
        return keys if len(keys) else None

    def _rebuild(self, deleted: pl.Series, wanted: pl.Expr, last: int, chunk_rows: int) -> int:
        """Fold the records that are wanted, and build the entities in ``deleted`` from nothing.

        What is left of those is read from the raw table part by part. Their values are stored with
        all others and the number of the batch: a reader sees a deletion wholly or not at all, and
        whoever is killed before begins again. An entity of which nothing is left is removed.
        """
        own = pl.col(self._key).is_in(deleted.implode())
        values: dict[bytes, bytes | None] = dict.fromkeys(
            encode_keys(self._program.view.source.entity, deleted.to_list())
        )
        records = 0
        for first, final in self._parts(own & (self._batch <= last), chunk_rows).iter_rows():
            part = own & pl.col(self._key).is_between(pl.lit(first), pl.lit(final))
            rebuilt, count = self._values(part & (self._batch <= last), last, anew=True)
            values |= rebuilt
            records += count
        folded, count = self._values(wanted & ~own, last)
        self._write(values | folded, last)
        return records + count

    def _fold(self, wanted: pl.Expr, progress: int, *, last: int, anew: bool = False) -> int:
        """Fold the records that are wanted; returns their number."""
        values, count = self._values(wanted, last, anew=anew)
        self._write(values, progress)
        return count

    def _write(self, values: Changes, progress: int) -> None:
        self._part.write(values, self._sweep.slices(values), progress=progress)

    def _values(
        self, wanted: pl.Expr, last: int, *, anew: bool = False
    ) -> tuple[dict[bytes, bytes | None], int]:
        """The values of entities after the records that are wanted, and how many those are.

        None for an entity whose value leaves with them, since nobody can ask for anything of it.

        Args:
            wanted: Which records.
            last: Deletions up to this batch count.
            anew: Begin from nothing instead of the present values.
        """
        known, events = self._events(wanted, last)
        keys = encode_keys(self._program.view.source.entity, known.to_list())
        self._sweep.see(events.times)
        present: list[bytes | None] = [None] * len(keys)
        if not anew:
            present = self._part.get(keys)
            before_us = self._sweep.stored_us
            self.too_late += count_too_late(self._program, present, events, before_us)
        values = dict(zip(keys, fold(self._program, present, events), strict=True))
        if not anew and self._sweep.has_horizon:
            values |= self._completed(known.filter(self._lacks_past(present, values)), last)
        return self._sweep.living(values, () if anew else present), len(events.times)

    def _events(self, wanted: pl.Expr, last: int) -> tuple[pl.Series, Events]:
        """The entities of the records that are wanted, and these as their events."""
        entity = self._program.view.source.entity
        stones = None if self._tombstones is None else self._tombstones.between(0, last)
        records = read_records(
            self._tables, self._program, self._version, wanted, tombstones=stones
        )
        records = self._part.kept(records, entity)
        known = records[entity.name].unique()
        return known, extract(self._program, records, codes_of(records[entity.name], known))

    def _lacks_past(
        self, present: Sequence[bytes | None], values: Mapping[bytes, bytes]
    ) -> pl.Series:
        """Which values of entities that are new, or have left, need more than the new records."""
        is_new = np.array([value is None for value in present], dtype=np.bool_)
        return pl.Series(is_new & lacks_past(self._program, [*values.values()]))

    def _completed(self, keys: pl.Series, last: int) -> dict[bytes, bytes]:
        """The values of entities with all their records."""
        if keys.is_empty():
            return {}
        own = pl.col(self._key).is_in(keys.implode())
        known, events = self._events(own & (self._batch <= last), last)
        values = fold(self._program, [None] * len(known), events)
        named = encode_keys(self._program.view.source.entity, known.to_list())
        return dict(zip(named, values, strict=True))
