"""At which (entity, time) features are to be stored, and which of them new records change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

from penstock.algebra import window_start
from penstock.errors import NotReadyError
from penstock.ingest import read_tombstones, remaining_records

from .offline import ARRIVAL, newest_version, raw_table
from .stored import AT, COMPUTED

if TYPE_CHECKING:
    from penstock.algebra import IntArray
    from penstock.ports import Tables
    from penstock.spec import FeatureView

__all__ = ["DAY_US", "Points", "Wanted", "between", "known_span", "stale_rows"]

DAY_US = 86_400_000_000
SOURCE_AT = "_source_at"
ENDS = "_ends"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """At which times rows are wanted, in microseconds since 1970 UTC.

    Attributes:
        from_us: From this time on.
        until_us: Before this time.
        every_us: At the multiples of this since 1970, for each entity from its first record on; 0
            for the times at which the source's records are known.
    """

    from_us: int
    until_us: int
    every_us: int = 0


class Points:
    """The points of a view's source, from one version of its raw table and the batches up to one.

    Args:
        tables: Where the raw table is.
        view: The view.
        version: The version of the raw table.
        target: The last batch.

    Attributes:
        view: The view.
        version: The version of the raw table.
    """

    def __init__(self, tables: Tables, view: FeatureView, version: int, target: int) -> None:
        self._tables = tables
        self.view = view
        self.version = version
        self._target = target
        self._key = view.source.entity.name
        self._columns = [self._key, view.source.timestamp, ARRIVAL[0]]
        self._entities: pl.DataFrame | None = None

    def days(self, wanted: Wanted) -> dict[int, int]:
        """At most so many points are wanted on each day since 1970."""
        if not wanted.every_us:
            day = pl.col(AT).dt.epoch("us") // DAY_US
            own = self._records().filter(between(wanted.from_us, wanted.until_us))
            return dict(own.group_by(day.alias("day")).len().collect().iter_rows())
        entities = self._known()
        if entities.is_empty():
            return {}
        first_us = max(wanted.from_us, int(entities[AT].dt.epoch("us").to_numpy().min()))
        times = _grid(wanted, first_us, wanted.until_us)
        days, counts = np.unique(times // DAY_US, return_counts=True)
        return {
            int(day): int(count) * len(entities) for day, count in zip(days, counts, strict=True)
        }

    def wanted(self, wanted: Wanted, low_us: int, high_us: int) -> pl.DataFrame:
        """The points wanted between two times: key and ``at``, each once."""
        low_us, high_us = max(low_us, wanted.from_us), min(high_us, wanted.until_us)
        if not wanted.every_us:
            own = self._records().filter(between(low_us, high_us))
            return own.select(self._key, AT).unique().collect()
        times = pl.Series(AT, _grid(wanted, low_us, high_us)).cast(pl.Datetime("us", "UTC"))
        known = self._known().rename({AT: SOURCE_AT})
        every = known.join(times.to_frame(), how="cross").filter(pl.col(AT) >= pl.col(SOURCE_AT))
        return every.select(self._key, AT)

    def changes(self, after: int) -> pl.DataFrame:
        """What the batches after one brought or took away: key, ``at`` when known, ``_batch``."""
        brought = self._records().filter(pl.col(ARRIVAL[0]) > after).unique().collect()
        stones = read_tombstones(
            self._tables, self.view.source, version=self.version, last_batch=self._target
        )
        if stones is None:
            return brought
        taken = stones.between(after, self._target).hits(self._raw())
        taken = taken.with_columns(pl.col(ENDS).alias(ARRIVAL[0]))
        return pl.concat([brought, self._known_at(taken).unique().collect()])

    def _known(self) -> pl.DataFrame:
        """The entities, each with the time its first record is known."""
        if self._entities is None:
            self._entities = self._records().group_by(self._key).agg(pl.col(AT).min()).collect()
        return self._entities

    def _records(self) -> pl.LazyFrame:
        """The records that count: key, ``at`` when known, and ``_batch``."""
        records = remaining_records(
            self._tables,
            self.view.source,
            version=self.version,
            last_batch=self._target,
            columns=self._columns,
        )
        return self._known_at(records.filter(pl.col(ARRIVAL[0]) <= self._target))

    def _raw(self) -> pl.LazyFrame:
        """All records, those that were deleted too."""
        name = raw_table(self.view)
        return self._tables.scan(name, version=self.version, columns=self._columns)

    def _known_at(self, records: pl.LazyFrame) -> pl.LazyFrame:
        source = self.view.source
        known = pl.col(source.timestamp) + pl.duration(microseconds=source.known_after_us)
        return records.select(pl.col(self._key), known.alias(AT), pl.col(ARRIVAL[0]))


def known_span(tables: Tables, view: FeatureView) -> tuple[int, int]:
    """When the first and the last record of a view's source are known, in microseconds.

    Args:
        tables: Where the raw table is.
        view: The view.

    Raises:
        NotReadyError: The source has no records yet.
    """
    source, version = view.source, newest_version(tables, view)
    stamp = pl.col(source.timestamp).dt.epoch("us") + source.known_after_us
    records = remaining_records(tables, source, version=version, columns=[source.timestamp])
    span = records.select(stamp.min().alias("first"), stamp.max().alias("last")).collect()
    first_us, last_us = span.row(0)
    if first_us is None:
        raise NotReadyError(
            f"The source {source.name!r} has no records yet. Run 'penstock ingest {source.name}'.",
            source=source.name,
        )
    return first_us, last_us


def stale_rows(
    view: FeatureView, stored: pl.DataFrame, changes: pl.DataFrame, done: int
) -> pl.DataFrame:
    """The stored rows that a change can have changed: it is in one of their windows.

    Args:
        view: The view.
        stored: Key, ``at`` and ``_computed_batch`` of the rows.
        changes: Key, ``at`` and ``_batch`` of what new batches brought or took away.
        done: Up to this batch, every row is right.
    """
    key, batch = view.source.entity.name, ARRIVAL[0]
    found = [stored[:0]]
    contained = pl.max_horizontal(pl.col(COMPUTED), pl.lit(done, dtype=pl.Int64))
    for (upto,), rows in stored.group_by(contained.alias("_upto")):
        newer = changes.filter(pl.col(batch) > upto).select(
            key, pl.col(AT), pl.col(AT).alias(SOURCE_AT)
        )
        ordered = rows.select(stored.columns).sort(AT)
        near = ordered.join_asof(newer.sort(AT), on=AT, by=key, check_sortedness=False)
        start_us = pl.Series("start", _starts(view, ordered[AT].dt.epoch("us").to_numpy()))
        inside = near[SOURCE_AT].dt.epoch("us") > start_us
        found.append(ordered.filter(inside.fill_null(value=False)))
    return pl.concat(found)


def _starts(view: FeatureView, at_us: IntArray) -> IntArray:
    """The time after which a record is in the longest of the windows asked at each time."""
    starts = at_us - view.ttl_us if view.ttl_us else np.full(len(at_us), np.iinfo(np.int64).max)
    for feature in view.features:
        if not feature.over:
            return np.full(len(at_us), np.iinfo(np.int64).min)
        if feature.hop_us:
            start = window_start(at_us, feature.over_us, feature.hop_us)
        else:
            start = at_us - feature.over_us
        starts = np.minimum(starts, start)
    return starts


def _grid(wanted: Wanted, low_us: int, high_us: int) -> IntArray:
    every_us = wanted.every_us
    first = -(-low_us // every_us) * every_us
    return np.arange(first, high_us, every_us, dtype=np.int64)


def between(low_us: int, high_us: int) -> pl.Expr:
    """Whether ``at`` is from the one time on and before the other, in microseconds."""
    return (pl.col(AT) >= _instant(low_us)) & (pl.col(AT) < _instant(high_us))


def _instant(time_us: int) -> pl.Expr:
    return pl.lit(time_us).cast(pl.Datetime("us", "UTC"))
