"""Stored features, joined to a spine as of its times."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from penstock.algebra import compile_view
from penstock.errors import NotReadyError

from .offline import check_spine, spine_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ports import Tables
    from penstock.spec import FeatureView

__all__ = ["AT", "COMPUTED", "newest_rows", "stored_features", "table_of"]

AT = "at"
COMPUTED = "_computed_batch"
ROW, ASKED = "_row", "_asked_at"


def table_of(view: FeatureView) -> str:
    """Name of the table with a view's stored features; a changed view has another."""
    return f"features/{view.name}-{compile_view(view).fingerprint.hex()}"


def newest_rows(
    tables: Tables, view: FeatureView, wanted: pl.Expr, *, columns: Sequence[str]
) -> pl.LazyFrame:
    """The stored rows that are wanted, each as it was computed last.

    Args:
        tables: Where they are.
        view: The view.
        wanted: Which rows; pushed down to the files.
        columns: Columns wanted beside the key, ``at`` and ``_computed_batch``.
    """
    key = view.source.entity.name
    rows = tables.scan(table_of(view), columns=[key, AT, *columns, COMPUTED]).filter(wanted)
    return rows.sort(COMPUTED).unique([key, AT], keep="last")


def stored_features(tables: Tables, view: FeatureView, spine: pl.DataFrame) -> pl.DataFrame:
    """Join a view's stored features to a spine: of each entity, the newest row not after ``at``.

    Only the spine's entities and times, and the columns needed, are read from the files.

    Args:
        tables: Where the stored features are.
        view: The view.
        spine: A row per value wanted, with a column for the key of the view's entity and ``at``
            (``Datetime``, with a time zone); other columns are kept.

    Returns:
        The spine's rows, all of them in their order, and a column ``view.feature`` for each
        feature; null where no row of the entity is stored at or before ``at``. Between two stored
        times the values are those of the earlier one; ``point_in_time`` computes them anew.

    Raises:
        InputError: The spine lacks a column, has one of another type or a null in ``at``, or has a
            feature's column already.
        NotReadyError: Nothing is stored of the view as it is declared now.
    """
    at_us = spine_times(spine)
    check_spine(spine, view)
    key, table = view.source.entity.name, table_of(view)
    if tables.version(table) is None:
        raise NotReadyError(
            f"Nothing is stored of view {view.name!r} as it is declared now. "
            f"Run 'penstock features backfill {view.name}' first.",
            view=view.name,
            table=table,
        )
    asked = spine.select(pl.col(key), pl.Series(AT, at_us).cast(pl.Datetime("us", "UTC")))
    known = asked[key].drop_nulls().unique()
    wanted = pl.col(key).is_in(known.implode())
    if len(asked):
        wanted &= pl.col(AT) <= asked[AT].max()
        if view.ttl_us:
            ttl = pl.duration(microseconds=view.ttl_us)
            wanted &= pl.col(AT) > pl.lit(asked[AT].min()) - ttl
    rows = newest_rows(tables, view, wanted, columns=view.names).drop(COMPUTED).collect()
    # Under a time-to-live a row is true while it is younger than that.
    younger = timedelta(microseconds=view.ttl_us - 1) if view.ttl_us else None
    found = (
        asked.with_row_index(ROW)
        .sort(AT)
        .join_asof(rows.sort(AT), on=AT, by=key, tolerance=younger, check_sortedness=False)
        .sort(ROW)
    )
    return spine.with_columns(found.select(view.names))
