"""Stored features, joined to a spine as of its times."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from penstock.algebra import compile_view
from penstock.errors import NotReadyError

from .offline import check_spine, spine_times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.ports import Tables
    from penstock.spec import FeatureView

__all__ = [
    "AT",
    "COMPUTED",
    "CURRENT",
    "STORED",
    "StoredState",
    "UpdateResult",
    "compact_stored",
    "newest_rows",
    "stored_features",
    "stored_state",
    "table_of",
]

AT = "at"
COMPUTED = "_computed_batch"
ROW = "_row"

CURRENT = "current"
"""The writer whose number is the batch up to which every row is right."""

STORED = "features/"
"""How names of tables with stored features begin."""

COMPACTED = "compacted"
"""The writer whose number is that of the last append before a compaction."""

COMPACT_AFTER = 20
"""Appends after which a table's files are merged."""

FINGERPRINT = re.compile(r"-[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True)
class UpdateResult:
    """What a run did that brings what is kept of a view up to date.

    Attributes:
        view: Name of the view.
        table: The table that it keeps.
        last_batch: The raw batch up to which everything kept is right now.
        computed: Rows or days that were not there before.
        recomputed: Those that new records changed, or could have.
        kept: Those that were there and stayed as they were.
    """

    view: str
    table: str
    last_batch: int
    computed: int = 0
    recomputed: int = 0
    kept: int = 0


class StoredState(NamedTuple):
    """What is stored of a view.

    Attributes:
        table: The table.
        version: Its version.
        first_us: Time of its first row, in microseconds since 1970 UTC.
        last_us: Time of its last row.
        right_to: Every row is right up to this raw batch.
        last_batch: The last raw batch that any row contains.
    """

    table: str
    version: int
    first_us: int
    last_us: int
    right_to: int
    last_batch: int


def table_of(view: FeatureView) -> str:
    """Name of the table with a view's stored features; a changed view has another."""
    return f"{STORED}{view.name}-{compile_view(view).fingerprint.hex()}"


def stored_state(
    tables: Tables, view: FeatureView, versions: Mapping[str, int] | None = None
) -> StoredState:
    """What is stored of a view.

    Args:
        tables: Where stored features are.
        view: The view.
        versions: Version to look at, by name of the table; the newest where it is not named.

    Raises:
        NotReadyError: Nothing is stored of the view as it is declared now; says whether something
            is of another declaration.
    """
    table = table_of(view)
    version = (versions or {}).get(table, tables.version(table))
    if version is None:
        raise _missing(tables, view)
    settled = tables.applied(table, CURRENT, version=version)
    at, batch = pl.col(AT).dt.epoch("us"), pl.col(COMPUTED)
    columns = [at.min(), at.max().alias("last"), batch.min(), batch.max().alias("newest")]
    rows = tables.scan(table, version=version, columns=[AT, COMPUTED])
    first_us, last_us, least, most = rows.select(columns).collect().row(0)
    if first_us is None:
        raise _missing(tables, view)
    right_to, last = max(settled, least), max(settled, most)
    return StoredState(table, version, first_us, last_us, right_to, last)


def _missing(tables: Tables, view: FeatureView) -> NotReadyError:
    found = [name for name in tables.names(f"{STORED}{view.name}-") if _is_of(name, view)]
    others = [name for name in found if name != table_of(view)]
    hint = f"Run 'penstock features backfill {view.name}' first."
    kept = f" What is stored in {', '.join(others)} is of another version of it." if others else ""
    return NotReadyError(
        f"Nothing is stored of view {view.name!r} as it is declared now.{kept} {hint}",
        view=view.name,
        table=table_of(view),
        others=others,
    )


def _is_of(table: str, view: FeatureView) -> bool:
    return FINGERPRINT.fullmatch(table.removeprefix(f"{STORED}{view.name}")) is not None


def compact_stored(tables: Tables, table: str) -> bool:
    """Merge the files of a table of stored features once there have been many appends.

    Killed before it is noted, it is done again, which changes nothing.

    Args:
        tables: Where the table is; the caller holds its lock.
        table: Its name.

    Returns:
        Whether it was done now.
    """
    appends = tables.applied(table, table)
    if appends - tables.applied(table, COMPACTED) < COMPACT_AFTER:
        return False
    tables.compact(table)
    empty = tables.scan(table).limit(0).collect()
    tables.append(table, empty, app=COMPACTED, number=appends)
    return True


def newest_rows(
    tables: Tables,
    view: FeatureView,
    wanted: pl.Expr,
    *,
    columns: Sequence[str],
    version: int | None = None,
) -> pl.LazyFrame:
    """The stored rows that are wanted, each as it was computed last.

    Args:
        tables: Where they are.
        view: The view.
        wanted: Which rows; pushed down to the files.
        columns: Columns wanted beside the key, ``at`` and ``_computed_batch``.
        version: Version of the table; the newest when left out.
    """
    key = view.source.entity.name
    wide = [key, AT, *columns, COMPUTED]
    rows = tables.scan(table_of(view), version=version, columns=wide).filter(wanted)
    return rows.sort(COMPUTED).unique([key, AT], keep="last")


def stored_features(
    tables: Tables,
    view: FeatureView,
    spine: pl.DataFrame,
    *,
    version: int | None = None,
    max_age_us: int | None = None,
) -> pl.DataFrame:
    """Join a view's stored features to a spine: of each entity, the newest row not after ``at``.

    Only the spine's entities and times, and the columns needed, are read from the files.

    Args:
        tables: Where the stored features are.
        view: The view.
        spine: A row per value wanted, with a column for the key of the view's entity and ``at``
            (``Datetime``, with a time zone); other columns are kept.
        version: Version of the table with the stored features; the newest when left out.
        max_age_us: How long before ``at`` the stored row may be; any time when left out.

    Returns:
        The spine's rows, all of them in their order, and a column ``view.feature`` for each
        feature; null where no row of the entity is stored at or before ``at``, or none so young.
        Between two stored
        times the values are those of the earlier one; ``point_in_time`` computes them anew.

    Raises:
        InputError: The spine lacks a column, has one of another type or a null in ``at``, or has a
            feature's column already.
        NotReadyError: Nothing is stored of the view as it is declared now.
        NotFoundError: There is no such version.
    """
    at_us = spine_times(spine)
    check_spine(spine, view)
    key = view.source.entity.name
    if tables.version(table_of(view)) is None:
        raise _missing(tables, view)
    # Under a time-to-live a row is true while it is younger than that.
    ages = [view.ttl_us - 1] if view.ttl_us else []
    ages += [] if max_age_us is None else [max_age_us]
    oldest = timedelta(microseconds=min(ages)) if ages else None
    asked = spine.select(pl.col(key), pl.Series(AT, at_us).cast(pl.Datetime("us", "UTC")))
    known = asked[key].drop_nulls().unique()
    wanted = pl.col(key).is_in(known.implode())
    if len(asked):
        wanted &= pl.col(AT) <= asked[AT].max()
        if oldest is not None:
            wanted &= pl.col(AT) >= pl.lit(asked[AT].min()) - pl.lit(oldest)
    newest = newest_rows(tables, view, wanted, columns=view.names, version=version)
    rows = newest.drop(COMPUTED).collect()
    found = (
        asked.with_row_index(ROW)
        .sort(AT)
        .join_asof(rows.sort(AT), on=AT, by=key, tolerance=oldest, check_sortedness=False)
        .sort(ROW)
    )
    return spine.with_columns(found.select(view.names))
