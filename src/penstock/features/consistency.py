"""Whether the online store says what the raw tables say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.errors import NotReadyError

from .offline import newest_version, point_in_time, raw_table
from .reader import OnlineReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.algebra import BoolArray, FloatArray, IntArray
    from penstock.ports import OnlineStore, Tables
    from penstock.spec import FeatureView

__all__ = ["FeatureCheck", "check_online"]

NEVER_US = int(np.iinfo(np.int64).min)
TOLERANCE = 1e-9
"""How far two ways to a floating sum may be apart, as a share of a column's typical size."""


@dataclass(frozen=True, kw_only=True)
class FeatureCheck:
    """What was found of one column.

    Attributes:
        feature: Full name of the column.
        compared: Number of entities.
        mismatches: How many of them differ.
        worst: Greatest difference, as a share of the column's typical size.
        key: The entity of the worst mismatch; none without one.
    """

    feature: str
    compared: int
    mismatches: int
    worst: float
    key: str | int | None

    @property
    def rate(self) -> float:
        """Share of the entities that differ."""
        return self.mismatches / self.compared if self.compared else 0.0


def check_online(  # noqa: PLR0913 - two ports, what to look at, and how much of it
    tables: Tables,
    online: OnlineStore,
    view: FeatureView,
    *,
    at_us: int,
    sample: int = 500,
    seed: int = 0,
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

    Raises:
        NotReadyError: The source has no records yet, or the view has not been built.
        StateError: The online store is damaged.
    """
    reader = OnlineReader(online, [view])
    key = view.source.entity.name
    version = newest_version(tables, view)
    every = tables.scan(raw_table(view), version=version, columns=[key]).unique().collect()[key]
    keys = every.sort().sample(min(sample, len(every)), seed=seed).to_list()
    if not keys:
        source = view.source.name
        raise NotReadyError(f"The source {source!r} has no records yet.", source=source)
    # Every second one as of its newest event, when no window has run empty.
    asked_us = np.where(np.arange(len(keys)) % 2, NEVER_US, at_us)
    values, as_of_us, batches = _read(reader, keys, asked_us)
    times = pl.Series("at", as_of_us).cast(pl.Datetime("us", "UTC"))
    spine = pl.DataFrame({key: pl.Series(keys, dtype=every.dtype), "at": times})
    again = point_in_time(tables, [view], spine, batches=batches)
    expected = again.select(
        pl.col(name).cast(pl.Float64).fill_null(np.nan) for name in reader.names
    ).to_numpy()
    exact = [feature.is_exact for feature in view.features for _ in feature.names]
    return [
        _compared(name, keys, values[:, place], expected[:, place], exact=exact[place])
        for place, name in enumerate(reader.names)
    ]


def _read(
    reader: OnlineReader, keys: Sequence[str | int], at_us: IntArray
) -> tuple[FloatArray, IntArray, Mapping[str, int]]:
    """Values, their times, and the last raw batch they contain."""
    batches = reader.progress()
    values, as_of_us = reader.read(keys, at_us)
    # When a batch was folded in between, the values may be of either side of it: read again.
    while (after := reader.progress()) != batches:
        batches = after
        values, as_of_us = reader.read(keys, at_us)
    return values, as_of_us, batches


def _compared(
    name: str,
    keys: Sequence[str | int],
    online: FloatArray,
    batch: FloatArray,
    *,
    exact: bool,
) -> FeatureCheck:
    held = np.abs(batch[~np.isnan(batch)])
    typical = float(np.sqrt(np.mean(held * held))) if len(held) else 0.0
    alike: BoolArray = (online == batch) | (np.isnan(online) & np.isnan(batch))
    away = np.where(alike, 0.0, np.abs(online - batch) / (typical or 1.0))
    away = np.where(np.isnan(away), np.inf, away)
    wrong = ~alike if exact else away > TOLERANCE
    worst = int(away.argmax())
    return FeatureCheck(
        feature=name,
        compared=len(keys),
        mismatches=int(wrong.sum()),
        worst=float(away[worst]),
        key=keys[worst] if wrong.any() else None,
    )
