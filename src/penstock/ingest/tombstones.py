"""The records of a raw table that count: those that no deletion has taken away.

A deletion is in the table ``tombstones/<source>`` before its number is in the raw table, and counts
from then: so a version of the raw table says which deletions it has seen, and pinning the one pins
the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from penstock.algebra import Tombstones

from .columns import POLARS_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ports import Tables
    from penstock.spec import Source

__all__ = [
    "raw_name",
    "raw_records",
    "read_tombstones",
    "remaining_records",
    "tombstone_name",
]

BATCH, ARRIVED = "_batch", "_arrived_at"


def raw_name(source: Source) -> str:
    """Name of the table with a source's records, as they came."""
    return f"raw/{source.name}"


def tombstone_name(source: Source) -> str:
    """Name of the table with a source's deletions."""
    return f"tombstones/{source.name}"


def raw_records(
    tables: Tables,
    source: Source,
    *,
    version: int | None = None,
    columns: Sequence[str] | None = None,
) -> pl.LazyFrame:
    """A source's records, deleted ones too; filters reach the files.

    A column that records are completed with from another source is null in those that were taken in
    before it was declared; so it is in a version of the table from before.

    Args:
        tables: Where the raw table is.
        source: The source.
        version: Version of the raw table; the newest when left out.
        columns: Only these columns; all when left out.

    Raises:
        NotFoundError: There is no such table, version or column.
    """
    name = raw_name(source)
    late = set(source.captured) if columns is None else set(source.captured).intersection(columns)
    if late:
        late -= set(tables.scan(name, version=version).collect_schema())
    if not late:
        return tables.scan(name, version=version, columns=columns)
    empty = [
        pl.lit(None, dtype=POLARS_TYPES[dtype]).alias(column)
        for column, dtype in source.columns.items()
        if column in late
    ]
    if columns is None:
        return tables.scan(name, version=version).with_columns(empty)
    there = [column for column in columns if column not in late]
    return tables.scan(name, version=version, columns=there).with_columns(empty).select(columns)


def read_tombstones(
    tables: Tables, source: Source, *, version: int | None = None, last_batch: int | None = None
) -> Tombstones | None:
    """The deletions that count; none where there are none, as nearly always.

    Args:
        tables: Where they are.
        source: The source.
        version: Version of the raw table; the newest when left out.
        last_batch: Only deletions up to this batch.

    Raises:
        NotFoundError: There is no such version.
    """
    name, raw = tombstone_name(source), raw_name(source)
    if tables.version(name) is None:
        return None
    reached = tables.applied(raw, raw, version=version)
    if last_batch is not None:
        reached = min(reached, last_batch)
    columns = [source.entity.name, source.timestamp, BATCH, ARRIVED]
    found = tables.scan(name, columns=columns).filter(pl.col(BATCH) <= reached).collect()
    return Tombstones(found, source.entity.name, source.timestamp) if found.height else None


def remaining_records(
    tables: Tables,
    source: Source,
    *,
    version: int | None = None,
    last_batch: int | None = None,
    columns: Sequence[str] | None = None,
) -> pl.LazyFrame:
    """A source's records without those that have been deleted; filters reach the files.

    Args:
        tables: Where the raw table is.
        source: The source.
        version: Version of the raw table; the newest when left out.
        last_batch: Deletions after this batch do not count. Records after it are not left out.
        columns: Only these columns; all when left out.

    Raises:
        NotFoundError: There is no such table, version or column.
    """
    name = raw_name(source)
    if version is None:
        version = tables.version(name)
    tombstones = read_tombstones(tables, source, version=version, last_batch=last_batch)
    if tombstones is None or columns is None:
        records = raw_records(tables, source, version=version, columns=columns)
        return records if tombstones is None else tombstones.kept(records)
    needed = list(dict.fromkeys([*columns, source.entity.name, source.timestamp, BATCH]))
    records = raw_records(tables, source, version=version, columns=needed)
    return tombstones.kept(records).select(columns)
