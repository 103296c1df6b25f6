"""From raw batches to the online store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from penstock.algebra import compile_view, extract, fold

from .entities import codes_of, encode_keys
from .offline import ARRIVAL, newest_version, raw_table, read_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.algebra import Program
    from penstock.ports import Locks, OnlineStore, Tables
    from penstock.spec import FeatureView

__all__ = ["CHUNK_ROWS", "RefreshResult", "built_to", "refresh", "space_of"]

CHUNK_ROWS = 1_000_000
"""Records folded at once, unless a single batch, or in a first build a single entity, has more."""


@dataclass(frozen=True, kw_only=True)
class RefreshResult:
    """What a refresh did.

    Attributes:
        view: Name of the view.
        space: The space of the online store that holds it.
        first_batch: First raw batch that was folded in now.
        last_batch: Last raw batch in the store; below ``first_batch`` when nothing was new.
        records: Records folded in now.
        from_zero: Whether the space was empty before: a first build, or one after a change of the
            view or the loss of the store.
    """

    view: str
    space: str
    first_batch: int
    last_batch: int
    records: int
    from_zero: bool


def space_of(view: FeatureView) -> str:
    """The online store's space for a view: its name and the fingerprint of what it means.

    A changed view has another space, so building it leaves the readers of the old one alone.
    """
    return _space(compile_view(view))


def built_to(online: OnlineStore, space: str) -> int | None:
    """Number of the last raw batch a space contains; None while it has not been built to the end.

    Args:
        online: The online store.
        space: What ``space_of`` gives for the view.
    """
    number = online.progress(space)
    return None if number is None or number < 0 else number


def refresh(  # noqa: PLR0913 - three ports and what to do with them
    tables: Tables,
    online: OnlineStore,
    locks: Locks,
    view: FeatureView,
    *,
    again: bool = False,
    chunk_rows: int = CHUNK_ROWS,
    progress: Callable[[str, float], None] | None = None,
) -> RefreshResult:
    """Bring every new raw batch of a view's source to the online store.

    The values and the number of the last batch they contain are stored in one transaction, one
    chunk of batches after the other: a refresh that is killed goes on from the last chunk when it
    is run again, and no record is counted twice.

    From an empty space this builds the view from the whole table, one part of the entities after
    the other, so that every value is written once, and the cost of an entity does not grow with
    their number. Until the last part is in, the space's progress is negative: nobody reads it,
    and a build that was killed is begun again.

    Args:
        tables: Where the raw table is.
        online: The online store.
        locks: One refresh at a time holds ``online/<space>``.
        view: The view.
        again: Drop what is there first and build it from nothing; nobody reads it meanwhile.
        chunk_rows: Records to fold at once, unless a single batch has more, or in a first build a
            single entity.
        progress: Told what is being done and the share that is done.

    Raises:
        NotReadyError: The source has no records yet.
        UnavailableError: Another process is refreshing the view.
        ConflictError: Another process has taken it over; it goes on from there.
        StateError: The online store is damaged.
        UserCodeError: A function of the user failed.
    """
    program = compile_view(view)
    space, name = _space(program), raw_table(view)
    with locks.hold(f"online/{space}") as token:
        reached = online.claim(space, token)
        before = None if again or reached is None or reached < 0 else reached
        if before is None:
            online.claim(space, token, anew=True)
        done = before or 0
        # The number first, the version after it: so the version holds every batch up to it.
        target = tables.applied(name, name)
        work = _Work(tables, online, program, newest_version(tables, view), token)
        records = 0
        turns = work.build if before is None else work.go_on
        for folded, share in turns(done, target, chunk_rows):
            records += folded
            if progress is not None:
                progress(f"features of {view.name}", share)
    return RefreshResult(
        view=view.name,
        space=space,
        first_batch=(before or 0) + 1,
        last_batch=max(done, target),
        records=records,
        from_zero=before is None,
    )


def _space(program: Program) -> str:
    return f"{program.view.name}@{program.fingerprint.hex()}"


class _Work:
    """A refresh from one version of the raw table."""

    def __init__(
        self, tables: Tables, online: OnlineStore, program: Program, version: int, token: int
    ) -> None:
        self._tables = tables
        self._online = online
        self._program = program
        self._version = version
        self._token = token
        self._batch = pl.col(ARRIVAL[0])

    def build(self, _done: int, target: int, chunk_rows: int) -> Iterator[tuple[int, float]]:
        """Fold the batches up to ``target`` into an empty space, part by part of the entities.

        Yields:
            The number of records folded now, and the share that is done.
        """
        wanted = self._batch <= target
        name = self._program.view.source.entity.name
        sizes = self._scan(name).filter(wanted).group_by(name).len().sort(name).collect()
        part = (pl.col("len").cum_sum() - 1) // chunk_rows
        # Neighbours in the store go together, so that its pages are written one after the other.
        parts = sizes.group_by(part.alias("part"), maintain_order=True).agg(
            pl.first(name).alias("first"), pl.last(name).alias("last")
        )
        if parts.is_empty():
            yield self._fold(wanted, target), 1.0
        for done, (first, last) in enumerate(parts.select("first", "last").iter_rows(), 1):
            own = wanted & pl.col(name).is_between(pl.lit(first), pl.lit(last))
            progress = target if done == parts.height else done - parts.height - 1
            yield self._fold(own, progress), done / parts.height

    def go_on(self, done: int, target: int, chunk_rows: int) -> Iterator[tuple[int, float]]:
        """Fold the batches after ``done`` up to ``target``, chunk by chunk of batches.

        Yields:
            The number of records folded now, and the share that is done.
        """
        if target <= done:
            return
        for last in self._chunks(done, target, chunk_rows):
            wanted = (self._batch > done) & (self._batch <= last)
            yield self._fold(wanted, last), last / target
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

    def _fold(self, wanted: pl.Expr, progress: int) -> int:
        """Fold the records that are wanted; returns their number."""
        entity = self._program.view.source.entity
        records = read_records(self._tables, self._program, self._version, wanted)
        known = records[entity.name].unique()
        keys = encode_keys(entity, known.to_list())
        events = extract(self._program, records, codes_of(records[entity.name], known))
        space = _space(self._program)
        values = fold(self._program, self._online.get(space, keys), events)
        folded = dict(zip(keys, values, strict=True))
        self._online.write(space, folded, progress=progress, token=self._token)
        return records.height
