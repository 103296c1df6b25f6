"""Whether the online store says what the raw tables say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

from penstock.errors import NotReadyError
from penstock.ingest import remaining_records
from penstock.records import FeatureCheck
from penstock.spec import FeatureView

from .offline import MEMORY_BYTES, newest_version, point_in_time
from .reader import OnlineReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.algebra import BoolArray, FloatArray, IntArray
    from penstock.ports import OnlineStore, Tables
    from penstock.spec import View

__all__ = ["check_online", "compare_columns"]

NEVER_US = int(np.iinfo(np.int64).min)
TOLERANCE = 1e-9
"""How far two ways to a floating sum may be apart, as a share of a column's typical size."""


def check_online(  # noqa: PLR0913 - two ports, what to look at, and how much of it
    tables: Tables,
    online: OnlineStore,
    view: FeatureView,
    *,
    at_us: int,
    sample: int = 500,
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
) -> list[FeatureCheck]:
    """Read a sample of entities online, compute them again from the raw table, and compare.

    Values that need no rounding (counts, least and greatest, first and last ones, the approximate
    ones) have to be equal, floating sums to 1e-9; null has to meet null.

    Args:
        tables: Where the raw table is.
        online: The online store.
        view: The view.
        at_us: The time the features are asked for, int64 microseconds since 1970 UTC; for every
            second entity it is the time of its newest event instead.
        sample: Number of entities; all where there are fewer.
        seed: Which ones.
        memory_bytes: What computing may take, as in ``point_in_time``.

    Raises:
        NotReadyError: The source has no records yet, or the view has not been built.
        StateError: The online store is damaged.
    """
    reader = OnlineReader(online, [view])
    key = view.source.entity.name
    version = newest_version(tables, view)
    known = remaining_records(tables, view.source, version=version, columns=[key])
    every = known.unique().collect()[key]
    keys = every.sort().sample(min(sample, len(every)), seed=seed).to_list()
    if not keys:
        source = view.source.name
        raise NotReadyError(f"The source {source!r} has no records yet.", source=source)
    # Every second one as of its newest event, when no window has run empty.
    asked_us = np.where(np.arange(len(keys)) % 2, NEVER_US, at_us)
    found = reader.read_settled(keys, asked_us)
    batches: Mapping[str, int | IntArray] = found.progress
    if found.by_row:
        batches = {view.name: np.array([row[view.name] for row in found.by_row])}
    times = pl.Series("at", found.as_of_us).cast(pl.Datetime("us", "UTC"))
    spine = pl.DataFrame({key: pl.Series(keys, dtype=every.dtype), "at": times})
    again = point_in_time(tables, [view], spine, batches=batches, memory_bytes=memory_bytes)
    expected = again.select(
        pl.col(name).cast(pl.Float64).fill_null(np.nan) for name in reader.names
    ).to_numpy()
    return compare_columns([view], reader.names, found.values, expected, keys)


def compare_columns(  # noqa: PLR0913 - two sides and what names their rows and columns
    views: Sequence[View],
    names: Sequence[str],
    seen: FloatArray,
    expected: FloatArray,
    keys: Sequence[str | int],
    *,
    ids: Sequence[str] = (),
) -> list[FeatureCheck]:
    """Compare values with those of the batch engine, column by column.

    Values that need no rounding have to be equal, floating sums to 1e-9 of the column's typical
    size; null has to meet null.

    Args:
        views: The views the columns are of.
        names: Full names of the columns.
        seen: The values, float64 of shape (rows, columns) with NaN for null.
        expected: What they should be, likewise.
        keys: The entity of each row.
        ids: The score of each row, where they are of scores.
    """
    exact = {
        f"{view.name}.{name}"
        for view in views
        if isinstance(view, FeatureView)  # what is computed on demand is rounded once more
        for feature in view.features
        if feature.is_exact
        for name in feature.names
    }
    return [
        _compared(name, keys, ids, (seen[:, place], expected[:, place]), exact=name in exact)
        for place, name in enumerate(names)
    ]


def _compared(
    name: str,
    keys: Sequence[str | int],
    ids: Sequence[str],
    sides: tuple[FloatArray, FloatArray],
    *,
    exact: bool,
) -> FeatureCheck:
    seen, batch = sides
    held = np.abs(batch[~np.isnan(batch)])
    typical = float(np.sqrt(np.mean(held * held))) if len(held) else 0.0
    alike: BoolArray = (seen == batch) | (np.isnan(seen) & np.isnan(batch))
    away = np.where(alike, 0.0, np.abs(seen - batch) / (typical or 1.0))
    away = np.where(np.isnan(away), np.inf, away)
    wrong = ~alike if exact else away > TOLERANCE
    found = FeatureCheck(feature=name, compared=len(keys), mismatches=int(wrong.sum()), worst=0.0)
    if not len(keys):
        return found
    worst = int(away.argmax())
    return msgspec.structs.replace(
        found,
        worst=float(away[worst]) if np.isfinite(away[worst]) else None,
        key=keys[worst] if wrong.any() else None,
        prediction_id=ids[worst] if wrong.any() and ids else "",
    )
