"""The records of a source kept in memory, in order, for what looks into it again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from penstock.algebra import NEVER_US, Keyed

from .columns import POLARS_TYPES
from .tombstones import raw_name, read_tombstones, remaining_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ports import Tables
    from penstock.spec import Source

__all__ = ["KEPT_BYTES", "KeptRecords", "keyed_records"]

BATCH, ROW = "_batch", "_row"
KEPT_BYTES = 256 << 20
CELL_BYTES = 24
"""What a cell takes, text and the order included."""


def keyed_records(  # noqa: PLR0913 - which records, and what of them
    tables: Tables,
    source: Source,
    columns: Sequence[str],
    *,
    after: int = 0,
    last: int,
    keys: pl.Series | None = None,
    span_us: tuple[int, int] | None = None,
) -> Keyed:
    """The records of some batches that count as of the last of them, in the order of keys.

    Args:
        tables: Where the raw table is.
        source: The source; it may have no records yet.
        columns: Columns wanted beside the key, the timestamp and the order of arrival.
        after: Only batches after this one.
        last: Only batches up to this one, and only deletions up to it count.
        keys: Only records of these keys; of all when left out.
        span_us: Only records that come to be known after the first of these times and by the second
            of them; at any time when left out.
    """
    key, stamp = source.entity.name, source.timestamp
    wide = list(dict.fromkeys([key, stamp, BATCH, ROW, *columns]))
    if not last:
        types = {name: POLARS_TYPES[dtype] for name, dtype in source.columns.items()}
        types |= {BATCH: pl.Int64(), ROW: pl.Int64()}
        nothing = pl.DataFrame(schema={name: types[name] for name in wide})
        return Keyed(nothing, key, stamp, source.known_after_us)
    wanted = (pl.col(BATCH) > after) & (pl.col(BATCH) <= last)
    if keys is not None:
        wanted &= pl.col(key).is_in(keys.drop_nulls().unique().implode())
    if span_us is not None:
        wanted &= pl.col(stamp) <= _instant(span_us[1] - source.known_after_us)
        if span_us[0] > NEVER_US:
            wanted &= pl.col(stamp) > _instant(span_us[0] - source.known_after_us)
    records = remaining_records(tables, source, last_batch=last, columns=wide)
    return Keyed(records.filter(wanted).collect(), key, stamp, source.known_after_us)


def _instant(time_us: int) -> pl.Expr:
    return pl.lit(time_us).cast(pl.Datetime("us", "UTC"))


class KeptRecords:
    """The records of a source up to a batch, a few columns of them. Not safe across threads.

    They are kept in parts, older ones before newer ones, each more than twice as large as the next:
    so a new batch is sorted among few records, and all are sorted again only when they have become
    half as many more.

    Args:
        tables: Where the raw table is.
        source: The source.
        columns: The columns that are wanted.
        most_bytes: About how much they may take.
    """

    def __init__(
        self, tables: Tables, source: Source, columns: Sequence[str], most_bytes: int = KEPT_BYTES
    ) -> None:
        self._tables = tables
        self._source = source
        self._columns = columns
        self._most = most_bytes // ((len(columns) + 4) * CELL_BYTES)
        self._parts: tuple[Keyed, ...] = ()
        self._upto = 0

    def parts(self, last: int) -> tuple[Keyed, ...] | None:
        """The records that count as of a batch, older ones first.

        Args:
            last: The batch.

        Returns:
            At least one part; None where they would be too many, where there are none yet, and
            where later ones are in already.
        """
        if not last or last < self._upto:
            return None
        if last > self._upto:
            if not self._parts and self._size() > self._most:
                return None
            self._parts = self._with_new(last)
            self._upto = last
        if sum(part.records.height for part in self._parts) > self._most:
            self._parts, self._upto = (), 0
            return None
        return self._parts

    def _size(self) -> int:
        records = self._tables.scan(raw_name(self._source), columns=[BATCH])
        return int(records.select(pl.len()).collect().item())

    def _with_new(self, last: int) -> tuple[Keyed, ...]:
        """The parts with the records and the deletions of the batches up to one."""
        source = self._source
        new = keyed_records(self._tables, source, self._columns, after=self._upto, last=last)
        parts: list[Keyed] = []
        for part in (*self._without_deleted(last), new):
            parts.append(part)
            while len(parts) > 1 and parts[-2].records.height <= 2 * parts[-1].records.height:
                both = pl.concat([each.records for each in parts[-2:]])
                parts[-2:] = [self._keyed(both)]
        return tuple(parts)

    def _without_deleted(self, last: int) -> tuple[Keyed, ...]:
        stones = read_tombstones(self._tables, self._source, last_batch=last)
        if stones is None or not self._parts:
            return self._parts
        newer = stones.between(self._upto, last)
        if newer.frame.is_empty():
            return self._parts
        left = (newer.kept(part.records.lazy()).collect() for part in self._parts)
        return tuple(
            part if records.height == part.records.height else self._keyed(records)
            for part, records in zip(self._parts, left, strict=True)
        )

    def _keyed(self, records: pl.DataFrame) -> Keyed:
        source = self._source
        return Keyed(records, source.entity.name, source.timestamp, source.known_after_us)
