"""Profiles of features, day by day, as they are stored.

The profiles of a view are the table ``profiles/<view>-<fingerprint>``: a row for each day and
column, with ``_computed_batch``, the last raw batch that the row's values contain. Tables only
grow; of the rows of one day, those of the append that came last count. A day whose records were all
deleted has rows without points, which nobody is shown.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from penstock.algebra import Spread

from .profilable import meaning_of, profiled
from .stored import COMPUTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from penstock.ports import Tables
    from penstock.spec import View

__all__ = [
    "DAY",
    "SAMPLE",
    "ColumnProfile",
    "newest_days",
    "profile_rows",
    "profile_table",
    "profiles_of",
]

DAY, SAMPLE, TURN = "day", "_sample", "_turn"

SCHEMA: Mapping[str, pl.DataType] = {
    DAY: pl.Date(),
    "feature": pl.String(),
    "points": pl.Int64(),
    "rows": pl.Int64(),
    "nulls": pl.Int64(),
    "mean": pl.Float64(),
    "std": pl.Float64(),
    "least": pl.Float64(),
    "greatest": pl.Float64(),
    "quantiles": pl.List(pl.Float64()),
    "level": pl.Int64(),
    "buckets": pl.List(pl.Int64()),
    "counts": pl.List(pl.Int64()),
    SAMPLE: pl.Int64(),
    TURN: pl.Int64(),
    COMPUTED: pl.Int64(),
}
SPREAD = Spread.__struct_fields__


class ColumnProfile(msgspec.Struct, frozen=True, kw_only=True):
    """How the values of a feature's column lie on a day.

    They are its values as of the records of that day: at each time, of that day in UTC, at which a
    record of an entity is known, the value for that entity.

    Attributes:
        feature: Full name of the column.
        day: The day, in UTC.
        points: How many distinct (entity, time) the day has.
        spread: How the values lie, at all of these, or at a sample.
        batch: The last raw batch that the values contain.
    """

    feature: str
    day: date
    points: int
    spread: Spread
    batch: int

    @property
    def null_rate(self) -> float:
        """The share of the values that are null."""
        return self.spread.nulls / self.spread.rows if self.spread.rows else 0.0


def profile_table(view: View) -> str:
    """Name of the table with a view's profiles; a changed view has another.

    Args:
        view: What of a view is profiled.
    """
    return f"profiles/{view.name}-{meaning_of(view)}"


def profiles_of(tables: Tables, view: View, *, days: int = 0) -> list[ColumnProfile]:
    """The profiles that are stored of a view as it is declared now, by day, then in its order.

    Args:
        tables: Where they are.
        view: The view.
        days: Only the newest so many of the days that have one; all when 0.

    Returns:
        The profiles; nothing where the view was never profiled, or no feature of it can be.
    """
    found = profiled(view)
    if found is None or tables.version(profile_table(found.view)) is None:
        return []
    table = profile_table(found.view)
    newest = newest_days(tables, found.view).filter(pl.col("points") > 0).sort(DAY)
    newest = newest.tail(days) if days else newest
    rows = tables.scan(table).join(newest.lazy(), on=[DAY, TURN], how="semi").collect()
    order = {name: place for place, name in enumerate(view.names)}
    profiles = [_profile(row) for row in rows.iter_rows(named=True)]
    return sorted(profiles, key=lambda one: (one.day, order[one.feature]))


def newest_days(tables: Tables, view: View) -> pl.DataFrame:
    """Each profiled day: ``day``, ``points``, and the batch, sample and turn of what counts."""
    columns = [DAY, "points", COMPUTED, SAMPLE, TURN]
    every = tables.scan(profile_table(view), columns=columns).unique()
    return every.sort(TURN).unique(DAY, keep="last").collect()


def profile_rows(profiles: Iterable[ColumnProfile], *, sample: int, turn: int) -> pl.DataFrame:
    """Profiles as rows of their table.

    Args:
        profiles: The profiles.
        sample: How many points a day they were to be computed at, at most.
        turn: Number of the append.
    """
    rows = [
        {
            DAY: one.day,
            "feature": one.feature,
            "points": one.points,
            **{name: getattr(one.spread, name) for name in SPREAD},
            SAMPLE: sample,
            TURN: turn,
            COMPUTED: one.batch,
        }
        for one in profiles
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def _profile(row: dict[str, Any]) -> ColumnProfile:
    spread: dict[str, Any] = {
        name: tuple(row[name]) if isinstance(row[name], list) else row[name] for name in SPREAD
    }
    return ColumnProfile(
        feature=row["feature"],
        day=row[DAY],
        points=row["points"],
        spread=Spread(**spread),
        batch=row[COMPUTED],
    )
