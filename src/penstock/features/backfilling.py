"""Stored features: computed once at many times, and again only where new records change them.

A view's stored features are the table ``features/<view>-<fingerprint>``: the entity's key, ``at``,
a column per feature, and ``_computed_batch``, the last raw batch that the row's values contain.
Tables only grow, so a row that is computed again is appended again; of rows with one key and one
time, that of the greatest ``_computed_batch`` counts.

What holds at every moment, so also after a kill: each row is what ``point_in_time`` gives from the
raw batches up to its ``_computed_batch``; and the greatest number of the writer ``current`` is a
batch up to which every row is right, whatever it says itself. A row is stale when a record of a
batch after both is in one of its windows. A backfill finds the stale and the missing rows from the
tables alone, appends them piece by piece, and says ``current`` last; killed anywhere and run again,
it finds what is left. After every twenty appends the table's files are merged.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from penstock.errors import ConflictError, InputError

from .offline import MEMORY_BYTES, newest_version, point_in_time, raw_table
from .points import DAY_US, Points, between, stale_rows
from .stored import AT, COMPUTED, CURRENT, UpdateResult, compact_stored, newest_rows, table_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.ports import Locks, Tables
    from penstock.spec import FeatureView

    from .parts import Parts
    from .points import Wanted

__all__ = ["BackfillResult", "backfill"]

CHUNK_ROWS = 1_000_000
"""Rows looked at and computed at once, unless a single day has more to look at."""


class BackfillResult(UpdateResult):
    """What a backfill did, counted in rows."""


def backfill(  # noqa: PLR0913 - two ports and what to do with them
    tables: Tables,
    locks: Locks,
    view: FeatureView,
    wanted: Wanted,
    *,
    chunk_rows: int = CHUNK_ROWS,
    memory_bytes: int = MEMORY_BYTES,
    parts: Parts | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> BackfillResult:
    """Bring a view's stored features up to the newest raw batch, and add what is missing.

    Every row that is stored already is brought up to date, also outside the times wanted now; of
    those, only rows are computed again that a record of a new batch can change: rows of its entity
    whose windows reach it. Doing it again changes nothing.

    Args:
        tables: Where the raw table is, and where the features go.
        locks: One backfill at a time holds ``features/<table>``.
        view: The view.
        wanted: At which times rows are wanted.
        chunk_rows: Rows to look at and to compute at once, unless a day has more to look at.
        memory_bytes: What computing may take, as in ``point_in_time``.
        parts: What computes the parts of the entities, where they are computed in parts.
        progress: Told what is being done and the share that is done.

    Raises:
        NotReadyError: The source has no records yet.
        InputError: The end is not after the beginning.
        UnavailableError: Another process is filling the table.
        ConflictError: Another process wrote to the table meanwhile.
        UserCodeError: A function of the user failed.
    """
    if wanted.until_us <= wanted.from_us:
        raise InputError(
            "The end of a backfill has to be after its beginning. Give a later --to.",
            view=view.name,
        )
    table, name = table_of(view), raw_table(view)
    with locks.hold(f"features/{table}"), parts or nullcontext():
        # The number first, the version after it: so the version holds every batch up to it.
        target = tables.applied(name, name)
        points = Points(tables, view, newest_version(tables, view), target)
        how = _How(memory_bytes, parts, progress or _quiet)
        work = _Work(tables, points, table, target, how)
        result = BackfillResult(view=view.name, table=table, last_batch=target)
        for part in work.run(wanted, chunk_rows):
            result = replace(
                result,
                computed=result.computed + part.computed,
                recomputed=result.recomputed + part.recomputed,
                kept=result.kept + part.kept,
            )
        work.settle()
        compact_stored(tables, table)
    return result


class _How(NamedTuple):
    """What computing may take, by what it is done, and who is told how far it has come."""

    memory_bytes: int
    parts: Parts | None
    progress: Callable[[str, float], None]


@dataclass(frozen=True)
class _Part:
    """What was done with the rows of some days."""

    computed: int = 0
    recomputed: int = 0
    kept: int = 0


class _Work:
    """A backfill from one version of the raw table."""

    def __init__(self, tables: Tables, points: Points, table: str, target: int, how: _How) -> None:
        self._tables = tables
        self._points = points
        self._view = points.view
        self._table = table
        self._target = target
        self._how = how
        self._key = points.view.source.entity.name
        self._done = tables.applied(table, CURRENT)

    def run(self, wanted: Wanted, chunk_rows: int) -> Iterator[_Part]:
        """Find and compute what is missing or stale, some days at a time; yields what was done."""
        there = self._stored_days()
        days = dict(self._points.days(wanted))
        for day, count in there.items():
            days[day] = days.get(day, 0) + count
        changes = self._points.changes(self._right_up_to()) if there else None
        total, behind = max(sum(days.values()), 1), 0
        tell = self._how.progress
        for low_us, high_us, count in _chunks(days, chunk_rows):
            points, part = self._look(wanted, changes, low_us, high_us)
            for start in range(0, len(points), chunk_rows):
                rows = points[start : start + chunk_rows]
                first, span = start / len(points), len(rows) / len(points)
                begin = (behind + count * first) / total
                self._write(rows, _between(tell, begin, count * span / total))
            behind += count
            tell(f"features of {self._view.name}", behind / total)
            yield part

    def settle(self) -> None:
        """Say that every row is right up to the target; only after all of them are."""
        if self._tables.version(self._table) is None:
            return
        if self._target > self._done:
            empty = self._tables.scan(self._table).limit(0).collect()
            self._tables.append(self._table, empty, app=CURRENT, number=self._target)

    def _stored_days(self) -> dict[int, int]:
        """How many rows are stored, by day."""
        if self._tables.version(self._table) is None:
            return {}
        rows = self._tables.scan(self._table, columns=[self._key, AT]).unique()
        day = pl.col(AT).dt.epoch("us") // DAY_US
        return dict(rows.group_by(day.alias("day")).len().collect().iter_rows())

    def _right_up_to(self) -> int:
        """A batch up to which every row is right: what was settled, or all rows contain."""
        least = self._tables.scan(self._table, columns=[COMPUTED]).min().collect().item()
        return max(self._done, int(least or 0))

    def _look(
        self, wanted: Wanted, changes: pl.DataFrame | None, low_us: int, high_us: int
    ) -> tuple[pl.DataFrame, _Part]:
        """The points to compute between two times, ordered by time and key."""
        missing = self._points.wanted(wanted, low_us, high_us)
        if changes is None:
            return missing.sort(AT, self._key), _Part(computed=len(missing))
        own = between(low_us, high_us)
        stored = newest_rows(self._tables, self._view, own, columns=[]).collect()
        missing = missing.join(stored, on=[self._key, AT], how="anti")
        stale = stale_rows(self._view, stored, changes, self._done)
        points = pl.concat([missing, stale.select(missing.columns)]).sort(AT, self._key)
        part = _Part(len(missing), len(stale), len(stored) - len(stale))
        return points, part

    def _write(self, points: pl.DataFrame, progress: Callable[[str, float], None]) -> None:
        """Compute rows and append them, in one commit."""
        frame = point_in_time(
            self._tables,
            [self._view],
            points,
            versions={raw_table(self._view): self._points.version},
            batches={self._view.name: self._target},
            memory_bytes=self._how.memory_bytes,
            parts=self._how.parts,
            progress=progress,
        ).with_columns(pl.lit(self._target, dtype=pl.Int64).alias(COMPUTED))
        number = self._tables.applied(self._table, self._table) + 1
        if not self._tables.append(self._table, frame, app=self._table, number=number):
            raise ConflictError(
                f"Another process wrote to {self._table!r} while its lock was held here. "
                "Run the backfill again; what is stored is whole.",
                table=self._table,
            )


def _chunks(days: dict[int, int], chunk_rows: int) -> Iterator[tuple[int, int, int]]:
    """Runs of days with at most so many rows, or of one day: first and end time, and the rows.

    One more row would be another piece, for which all the records are read again.
    """
    run: list[int] = []
    rows = 0
    for day in sorted(days):
        if run and rows + days[day] > chunk_rows:
            yield run[0] * DAY_US, (run[-1] + 1) * DAY_US, rows
            run, rows = [], 0
        run.append(day)
        rows += days[day]
    if run:
        yield run[0] * DAY_US, (run[-1] + 1) * DAY_US, rows


def _between(
    progress: Callable[[str, float], None], start: float, span: float
) -> Callable[[str, float], None]:
    """Tells the share of a stretch as that of the whole."""
    return lambda what, share: progress(what, start + share * span)


def _quiet(what: str, share: float) -> None:
    """Nobody wants to know."""
