"""Stored features: filled once, and brought up to date after a batch that comes late."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileLocks
from penstock.features import Wanted, backfill

from .figure import Figure, alternate, compared, timed
from .join import DAY_US, ENTITIES, make_events, numpy_kernel, stored, windowed

if TYPE_CHECKING:
    import penstock as ps
    from penstock.features import BackfillResult

HOUR_US = DAY_US // 24
LATE_EVENTS, LATE_ENTITIES = 10_000, 100


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    events, hours = (1_000_000, 50) if quick else (10_000_000, 5)
    wanted = Wanted(from_us=8 * DAY_US, until_us=30 * DAY_US, every_us=hours * HOUR_US)
    view = windowed()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder)
        tables, locks = DeltaTables(home / "tables"), FileLocks(home / "locks")
        raw = make_events(events, ["x"])
        tables.append("raw/ticks", stored(raw), app="raw/ticks", number=1)
        spine = _spine(wanted)
        copies = itertools.count()

        def ours() -> BackfillResult:
            """Into a table that is not there yet, beside the same raw table."""
            copy = home / f"copy-{next(copies)}"
            copy.mkdir()
            (copy / "raw").symlink_to(home / "tables" / "raw")
            return backfill(DeltaTables(copy), locks, view, wanted)

        def bare() -> None:
            found = numpy_kernel(tables.scan("raw/ticks").collect(), spine)
            pl.DataFrame(found).write_parquet(home / "bare.parquet")

        size = f"{len(spine):,} rows x 15 columns from {events:,} events"
        assert ours().computed == len(spine)
        filled = compared(
            f"filled: {size}",
            alternate(ours, bare, runs=1 if quick else 3),
            unit="s",
            scale=1,
            baseline_name="bare numpy kernel + write_parquet",
            budget=1.3,
            note="10,000 entities; 1 h, 1 d and 7 d; count, sum, mean, min and max; the rows that "
            "are wanted are found first, and stored in commits of at most a million",
        )
        return [filled, *_again(tables, locks, view, wanted, filled.ours)]


def _again(
    tables: DeltaTables, locks: FileLocks, view: ps.FeatureView, wanted: Wanted, filled_s: float
) -> list[Figure]:
    """With nothing new, and after records that come days late for a hundredth of the entities."""
    whole = backfill(tables, locks, view, wanted).computed
    idle_s = timed(lambda: backfill(tables, locks, view, wanted))
    late = make_events(LATE_EVENTS, ["x"]).with_columns(pl.col("id") % LATE_ENTITIES)
    late = late.with_columns(pl.col("ts").dt.offset_by("11d")).filter(pl.col("ts") < _at(14))
    tables.append("raw/ticks", stored(late, 2), app="raw/ticks", number=2)
    results: list[BackfillResult] = []
    late_s = timed(lambda: results.append(backfill(tables, locks, view, wanted)))
    (result,) = results
    assert result.computed == 0
    told = f"{len(late):,} late events of {LATE_ENTITIES} entities"
    return [
        _beside("again, with nothing new", idle_s, filled_s, ""),
        _beside(
            f"after {told}",
            late_s,
            filled_s,
            f"{result.recomputed:,} of {whole:,} rows are computed again, those they can change",
        ),
    ]


def _beside(what: str, ours_s: float, filled_s: float, note: str) -> Figure:
    return Figure(
        what=what, ours=ours_s, unit="s", baseline=filled_s, baseline_name="filled anew", note=note
    )


def _spine(wanted: Wanted) -> pl.DataFrame:
    """Every entity at every time: each has a record before the first."""
    first = -(-wanted.from_us // wanted.every_us) * wanted.every_us
    times = pl.DataFrame({"at": range(first, wanted.until_us, wanted.every_us)})
    ids = pl.DataFrame({"id": range(ENTITIES)})
    return times.join(ids, how="cross").with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))


def _at(day: int) -> pl.Expr:
    return pl.lit(day * DAY_US).cast(pl.Datetime("us", "UTC"))
