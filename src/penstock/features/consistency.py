"""Whether the online store says what the raw tables say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

from penstock.algebra import NEVER_US
from penstock.errors import NotReadyError
from penstock.ingest import remaining_records
from penstock.records import FeatureCheck

from .offline import MEMORY_BYTES, newest_version
from .reader import OnlineReader
from .rounding import ROUNDING, expected_features

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.algebra import FloatArray, IntArray
    from penstock.ports import OnlineStore, Tables
    from penstock.spec import FeatureView

    from .rounding import Expected

__all__ = ["check_online", "compare_columns"]


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
    ones) have to be equal, floating sums to 1e-9 of what they are rounded from, each value by
    itself; null has to meet null.

    Args:
        tables: Where the raw table is.
        online: The online store.
        view: The view.
        at_us: The time the features are asked for, int64 microseconds since 1970 UTC; for every
            second entity it is the time of its newest event instead, or the view's horizon, where
            there is either.
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
    # Of whom nothing is stored, any time tells the same; without a horizon none was given.
    told_us = np.where(found.as_of_us == NEVER_US, at_us, found.as_of_us)
    times = pl.Series("at", told_us).cast(pl.Datetime("us", "UTC"))
    spine = pl.DataFrame({key: pl.Series(keys, dtype=every.dtype), "at": times})
    expected = expected_features(tables, [view], spine, batches=batches, memory_bytes=memory_bytes)
    return compare_columns(reader.names, found.values, expected, keys)


def compare_columns(
    names: Sequence[str],
    seen: FloatArray,
    expected: Expected,
    keys: Sequence[str | int],
    *,
    ids: Sequence[str] = (),
) -> list[FeatureCheck]:
    """Compare values with those of the batch engine, column by column and each by itself.

    A value differs where it is further from what it should be than rounding may have moved it, or
    where a null meets a value.

    Args:
        names: Full names of the columns.
        seen: The values, float64 of shape (rows, columns) with NaN for null.
        expected: What they should be.
        keys: The entity of each row.
        ids: The score of each row, where they are of scores.
    """
    return [
        _compared(name, keys, ids, seen[:, place], expected) for place, name in enumerate(names)
    ]


def _compared(
    name: str,
    keys: Sequence[str | int],
    ids: Sequence[str],
    seen: FloatArray,
    expected: Expected,
) -> FeatureCheck:
    batch, room = expected.values[name], expected.room[name]
    alike = (seen == batch) | (np.isnan(seen) & np.isnan(batch))
    apart = np.where(alike, 0.0, np.abs(seen - batch))
    apart = np.where(np.isnan(apart), np.inf, apart)
    wrong = ~alike & ((apart > room) | np.isinf(apart))
    size = np.maximum(np.nan_to_num(np.abs(batch)), np.where(np.isinf(room), 0.0, room) / ROUNDING)
    away = apart / np.where(size == 0.0, 1.0, size)
    found = FeatureCheck(feature=name, compared=len(keys), mismatches=int(wrong.sum()), worst=0.0)
    if not len(keys):
        return found
    # A value that differs goes before one that rounding has moved as far.
    worst = int(np.where(wrong, away, -1.0).argmax() if wrong.any() else away.argmax())
    return msgspec.structs.replace(
        found,
        worst=float(away[worst]) if np.isfinite(away[worst]) else None,
        key=keys[worst] if wrong.any() else None,
        prediction_id=ids[worst] if wrong.any() and ids else "",
    )
