"""Profiles computed once for each day, and again only for days that new records change.

What holds at every moment, so also after a kill: the rows of a day are the profile of its points
from the raw batches up to their ``_computed_batch``; and the greatest number of the writer
``current`` is a batch up to which every profiled day is right, whatever it says itself. A day is
stale when what a batch after both brought or took away is of that day, or is in a window of one of
the points that are sampled. A run finds the stale and the missing days from the tables alone,
appends them some days at a time, and says ``current`` last; killed anywhere and run again, it finds
what is left.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from penstock.algebra import hashes_of, spreads_of
from penstock.errors import ConflictError, InputError, NotReadyError

from .offline import ARRIVAL, MEMORY_BYTES, newest_version, point_in_time, raw_table
from .points import DAY_US, Points, Wanted, known_span, stale_rows
from .profilable import profiled, require_profiled
from .profiles import SAMPLE, ColumnProfile, newest_days, profile_rows, profile_table
from .stored import AT, COMPUTED, UpdateResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from penstock.ports import Locks, Tables
    from penstock.spec import View

    from .profilable import Profiled

__all__ = ["PROFILE_DAYS", "PROFILE_SAMPLE", "ProfileResult", "profile", "profiled_to"]

PROFILE_DAYS = 30
PROFILE_SAMPLE = 10_000
CHUNK_ROWS = 500_000
"""Values of a column computed at once, unless a single day has more."""

LOOK_ROWS = 2_000_000
"""Points looked at at once to choose the sample, unless a single day has more."""

CURRENT = "current"
DAY, POINTS, HASH = "_day", "_points", "_hash"
EPOCH = date(1970, 1, 1)


class ProfileResult(UpdateResult):
    """What a run did, counted in days."""


def profile(  # noqa: PLR0913 - two ports and what to do with them
    tables: Tables,
    locks: Locks,
    view: View,
    *,
    days: int = PROFILE_DAYS,
    sample: int = PROFILE_SAMPLE,
    chunk_rows: int = CHUNK_ROWS,
    memory_bytes: int = MEMORY_BYTES,
    progress: Callable[[str, float], None] | None = None,
) -> ProfileResult:
    """Profile the newest days of a view, and bring the days that are profiled up to date.

    A day's points are the distinct (entity, time) at which records are known on that day, in UTC.
    Where there are more than ``sample``, those whose hash is least: the same points whoever asks,
    so that a day computed again differs by what changed and not by chance. Doing it again changes
    nothing.

    Args:
        tables: Where the raw table is, and where the profiles go.
        locks: One run at a time holds ``features/<table>``.
        view: The view; of an on-demand view, the features that are computed from those of one
            source.
        days: Up to the newest record, so many days are wanted; days without records have none.
            Those that were profiled before are kept up to date too.
        sample: At most so many points of a day are computed.
        chunk_rows: Points to compute at once, unless a single day has more.
        memory_bytes: What computing may take, as in ``point_in_time``.
        progress: Told what is being done and the share that is done.

    Raises:
        NotReadyError: The source has no records yet.
        InputError: No day or no point is wanted, or no feature of the view can be profiled.
        UnavailableError: Another process is profiling the view.
        ConflictError: Another process wrote to the table meanwhile.
        UserCodeError: A function of the user failed.
    """
    if days < 1 or sample < 1:
        raise InputError(
            f"A profile takes at least one day and one point a day, not days={days} and "
            f"sample={sample}.",
            days=days,
            sample=sample,
        )
    subject = require_profiled(view)
    table, name = profile_table(subject.view), raw_table(subject.base[0])
    with locks.hold(f"features/{table}"):
        # The number first, the version after it: so the version holds every batch up to it.
        target = tables.applied(name, name)
        points = Points(tables, subject.base[0], newest_version(tables, subject.base[0]), target)
        work = _Work(tables, subject, points, target, _Effort(sample, chunk_rows, memory_bytes))
        missing, stale, kept = work.look(_last_day(tables, subject), days)
        total = max(len(missing) + len(stale), 1)
        done = 0
        for some in _chunks(sorted([*missing, *stale]), work.days_at_once):
            work.write(some)
            done += len(some)
            if progress is not None:
                progress(f"profile of {view.name}", done / total)
        work.settle()
    return ProfileResult(
        view=view.name,
        table=table,
        last_batch=target,
        computed=len(missing),
        recomputed=len(stale),
        kept=kept,
    )


def profiled_to(tables: Tables, view: View) -> int:
    """The raw batch up to which every profiled day of a view is right; 0 before any.

    Args:
        tables: Where the profiles are.
        view: The view.
    """
    found = profiled(view)
    return tables.applied(profile_table(found.view), CURRENT) if found else 0


class _Effort(NamedTuple):
    """How much is computed: points of a day, points at once, and what that may take."""

    sample: int
    chunk_rows: int
    memory_bytes: int


class _Work:
    """A run over one version of the raw table.

    Attributes:
        days_at_once: How many days to compute at once.
    """

    def __init__(
        self, tables: Tables, subject: Profiled, points: Points, target: int, effort: _Effort
    ) -> None:
        self._tables = tables
        self._points = points
        self._view, self._base = subject
        self._key = points.view.source.entity.name
        self._table = profile_table(self._view)
        self._target = target
        self._sample = effort.sample
        self._memory_bytes = effort.memory_bytes
        self.days_at_once = max(effort.chunk_rows // effort.sample, 1)
        self._done = tables.applied(self._table, CURRENT)

    def look(self, last_day: int | None, days: int) -> tuple[list[int], list[int], int]:
        """Which days are missing, which are stale, and how many are neither.

        Days are counted from 1970.
        """
        stored = self._stored()
        missing: list[int] = []
        if last_day is not None:
            low = last_day - days + 1
            wanted = Wanted(from_us=low * DAY_US, until_us=(last_day + 1) * DAY_US)
            missing = [day for day in self._points.days(wanted) if day not in stored]
        other = [day for day, (_, sample) in stored.items() if sample != self._sample]
        rest = {day: batch for day, (batch, sample) in stored.items() if sample == self._sample}
        stale = [*other, *self._stale(rest)]
        return missing, stale, len(stored) - len(stale)

    def write(self, days: Sequence[int]) -> None:
        """Profile some days and append them, in one commit."""
        sampled = self._sampled(days)
        frame = point_in_time(
            self._tables,
            [self._view],
            sampled.select(self._key, AT),
            versions={raw_table(self._points.view): self._points.version},
            batches={view.name: self._target for view in self._base},
            memory_bytes=self._memory_bytes,
        )
        turn = self._tables.applied(self._table, self._table) + 1
        rows = profile_rows(self._profiles(days, sampled, frame), sample=self._sample, turn=turn)
        if not self._tables.append(self._table, rows, app=self._table, number=turn):
            raise ConflictError(
                f"Another process wrote to {self._table!r} while its lock was held here. "
                "Profile the view again; what is stored is whole.",
                table=self._table,
            )

    def settle(self) -> None:
        """Say that every profiled day is right up to the target; only after all of them are."""
        if self._tables.version(self._table) is not None and self._target > self._done:
            empty = self._tables.scan(self._table).limit(0).collect()
            self._tables.append(self._table, empty, app=CURRENT, number=self._target)

    def _stored(self) -> dict[int, tuple[int, int]]:
        """The batch and the size of sample of each profiled day."""
        if self._tables.version(self._table) is None:
            return {}
        rows = newest_days(self._tables, self._view).select("day", COMPUTED, SAMPLE)
        return {(day - EPOCH).days: (batch, sample) for day, batch, sample in rows.iter_rows()}

    def _stale(self, stored: dict[int, int]) -> set[int]:
        """The days that a record of a newer batch can have changed."""
        right = {day: max(batch, self._done) for day, batch in stored.items()}
        oldest = min(right.values(), default=self._target)
        if oldest >= self._target:
            return set()
        changes = self._points.changes(oldest)
        changed = _day_of(changes).to_numpy()
        batches = changes[ARRIVAL[0]].to_numpy()
        newer = {day: changed[batches > batch] for day, batch in right.items()}
        of_day = {day for day, days in newer.items() if (days == day).any()}
        after = [day for day, days in newer.items() if day not in of_day and (days < day).any()]
        return of_day | self._reached(sorted(after), right, changes)

    def _reached(
        self, days: Sequence[int], right: dict[int, int], changes: pl.DataFrame
    ) -> set[int]:
        """The days of which a change is in a window of a point that is sampled."""
        found: set[int] = set()
        for some in _chunks(days, self.days_at_once):
            batch = pl.col(DAY).replace_strict(right, return_dtype=pl.Int64).alias(COMPUTED)
            rows = self._sampled(some).select(self._key, AT, DAY, batch)
            for view in self._base:
                found |= set(stale_rows(view, rows, changes, self._done)[DAY])
        return found

    def _sampled(self, days: Sequence[int]) -> pl.DataFrame:
        """The points of some days that are computed: key, ``at``, the day, and ``_points`` of it.

        Ordered by time and key.
        """
        first, last = min(days), max(days)
        wanted = Wanted(from_us=first * DAY_US, until_us=(last + 1) * DAY_US)
        sizes = self._points.days(wanted)
        frames = [self._between(low, high) for low, high in _runs(days, sizes)]
        return pl.concat(frames).sort(AT, self._key)

    def _between(self, first: int, last: int) -> pl.DataFrame:
        """The points from the one day to the other that are computed."""
        wanted = Wanted(from_us=first * DAY_US, until_us=(last + 1) * DAY_US)
        every = self._points.wanted(wanted, wanted.from_us, wanted.until_us)
        every = every.with_columns(_day_of(every)).with_columns(pl.len().over(DAY).alias(POINTS))
        many = every.filter(pl.col(POINTS) > self._sample)
        at_us = many[AT].dt.epoch("us").to_numpy()
        mixed = pl.Series(hashes_of(many[self._key]).view(np.int64) ^ at_us)
        hashed = many.with_columns(pl.Series(HASH, hashes_of(mixed))).sort(HASH)
        chosen = hashed.group_by(DAY).head(self._sample).select(every.columns)
        return pl.concat([every.filter(pl.col(POINTS) <= self._sample), chosen])

    def _profiles(
        self, days: Sequence[int], sampled: pl.DataFrame, frame: pl.DataFrame
    ) -> Iterator[ColumnProfile]:
        """The profile of each day and column."""
        found = sampled.group_by(DAY).agg(pl.len(), pl.first(POINTS))
        # A day without points, whose records were deleted, says so from now on.
        asked = pl.DataFrame({DAY: pl.Series(sorted(days), dtype=pl.Int64)})
        sizes = asked.join(found, on=DAY, how="left", maintain_order="left").fill_null(0)
        high = sizes["len"].cast(pl.Int64).cum_sum().to_numpy()
        low = np.concatenate([[0], high[:-1]])
        dates = [EPOCH + timedelta(days=day) for day in sizes[DAY]]
        for name in self._view.names:
            values = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
            spreads = spreads_of(values, low, high)
            for day, points, spread in zip(dates, sizes[POINTS], spreads, strict=True):
                yield ColumnProfile(
                    feature=name, day=day, points=points, spread=spread, batch=self._target
                )


def _last_day(tables: Tables, subject: Profiled) -> int | None:
    """The day of the newest record, counted from 1970.

    None where all were deleted that there were when the view was profiled.

    Raises:
        NotReadyError: The source has no records yet, nor had any.
    """
    try:
        return known_span(tables, subject.base[0])[1] // DAY_US
    except NotReadyError:
        if tables.version(profile_table(subject.view)) is None:
            raise
        return None


def _day_of(points: pl.DataFrame) -> pl.Series:
    """The day of each point, counted from 1970."""
    return (points[AT].dt.epoch("us") // DAY_US).alias(DAY)


def _chunks(days: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(days), size):
        yield days[start : start + size]


def _runs(days: Sequence[int], sizes: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """First and last of runs of days with nothing between them, each of about so many points."""
    run: list[int] = []
    for day in sorted(days):
        whole = sum(sizes.get(one, 0) for one in run) >= LOOK_ROWS
        between = run and any(sizes.get(one, 0) for one in range(run[-1] + 1, day))
        if run and (whole or between):
            yield run[0], run[-1]
            run = []
        run.append(day)
    if run:
        yield run[0], run[-1]
