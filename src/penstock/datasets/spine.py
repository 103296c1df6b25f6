"""Spines: the rows at which features are wanted, from the records of a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from penstock.errors import NotReadyError
from penstock.ingest import raw_name, remaining_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.ports import Tables
    from penstock.spec import Source

__all__ = ["AT", "ORDER", "read_records", "spine_of"]

AT = "at"
"""Column of the time at which a record is known, and so its features are wanted."""

ORDER = ("_batch", "_row")
"""Columns of a raw table that say in which order its records arrived."""


def spine_of(
    tables: Tables, source: Source, versions: Mapping[str, int] | None = None
) -> pl.DataFrame:
    """The spine of a source: one row per record that has not been deleted.

    Args:
        tables: Where the raw table is.
        source: The source.
        versions: Version to read, by table name; the newest where none is named.

    Returns:
        The entity's key, ``at`` (Datetime us, UTC: when the record is known), ``_batch`` and
        ``_row`` (Int64), ordered by time, key and arrival.

    Raises:
        NotReadyError: Nothing was ingested yet.
    """
    frame = read_records(tables, source, versions, columns=())
    return frame.select(source.entity.name, AT, *ORDER)


def read_records(
    tables: Tables,
    source: Source,
    versions: Mapping[str, int] | None = None,
    *,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """The records of a source that count, with their ``at``, in the order of ``spine_of``.

    Args:
        tables: Where the raw table is.
        source: The source.
        versions: As for ``spine_of``.
        columns: Columns wanted beside the key, the timestamp and the order; all when left out.

    Raises:
        NotReadyError: Nothing was ingested yet.
    """
    name, key, stamp = raw_name(source), source.entity.name, source.timestamp
    if tables.version(name) is None:
        raise NotReadyError(
            f"The source {source.name!r} has no records yet. Run 'penstock ingest {source.name}'.",
            source=source.name,
        )
    wanted = source.columns if columns is None else columns
    chosen = list(dict.fromkeys([key, stamp, *wanted, *ORDER]))
    version = (versions or {}).get(name)
    frame = remaining_records(tables, source, version=version, columns=chosen).collect()
    known = pl.col(stamp) + pl.duration(microseconds=source.known_after_us)
    return frame.with_columns(known.alias(AT)).sort(AT, key, *ORDER)
