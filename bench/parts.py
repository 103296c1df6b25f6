"""Parts of a computation as tasks of the executor: two workers against one, and against none."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import penstock as ps
from penstock.adapters.delta import DeltaTables
from penstock.adapters.processes import ProcessExecutor
from penstock.features import Parts, point_in_time

from .figure import Figure, alternate, compared
from .join import WINDOWS_US, make_events, make_spine, stored

if TYPE_CHECKING:
    import polars as pl

SHARES = 8
"""How many parts there are, whoever computes them."""


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    points, events = (100_000, 1_000_000) if quick else (500_000, 5_000_000)
    source = ps.Source(
        "ticks",
        entity=ps.Entity("id", dtype=ps.Int64),
        timestamp="ts",
        schema={"id": ps.Int64, "ts": ps.Timestamp, "x": ps.Float64},
    )
    makers = (ps.sum, ps.mean, ps.min, ps.max)
    features = [make("x", over=over) for over in WINDOWS_US for make in makers]
    view = ps.FeatureView("win", source=source, features=features)
    spine = make_spine(points)
    with (
        tempfile.TemporaryDirectory(prefix="penstock-bench-") as name,
        closing(ProcessExecutor(1)) as one,
        closing(ProcessExecutor(2)) as two,
    ):
        folder = Path(name)
        tables = DeltaTables(folder / "tables")
        raw = stored(make_events(events, ["x"]))
        tables.append("raw/ticks", raw, app="raw/ticks", number=1)
        work = _Work(tables, view, spine, folder / "parts", _share_bytes(events))
        expected = work.here()
        for executor, at_once in ((one, 1), (two, 2)):
            if not work.there(executor, at_once).equals(expected):
                raise AssertionError("the values differ: nothing was measured")
        what = f"{points:,} points x {events:,} events x {len(features)} columns, {SHARES} parts"
        runs = 3
        note = "the same parts and the same bits; each run with fresh files"
        return [
            compared(
                f"two workers: {what}",
                alternate(lambda: work.there(two, 2), lambda: work.there(one, 1), runs=runs),
                unit="s",
                scale=1,
                baseline_name="one worker",
                budget=None,
                note=note,
            ),
            compared(
                f"two workers: {what}",
                alternate(lambda: work.there(two, 2), work.here, runs=runs),
                unit="s",
                scale=1,
                baseline_name="this process, with a thread for each core",
                budget=None,
                note=note,
            ),
        ]


class _Work:
    """One computation, here or there."""

    def __init__(
        self,
        tables: DeltaTables,
        view: ps.FeatureView,
        spine: pl.DataFrame,
        folder: Path,
        share_bytes: int,
    ) -> None:
        self._tables = tables
        self._view = view
        self._spine = spine
        self._folder = folder
        self._share_bytes = share_bytes

    def here(self) -> pl.DataFrame:
        return point_in_time(
            self._tables, [self._view], self._spine, memory_bytes=self._share_bytes
        )

    def there(self, executor: ProcessExecutor, at_once: int) -> pl.DataFrame:
        with Parts(executor, self._folder, at_once=at_once) as parts:
            return point_in_time(
                self._tables,
                [self._view],
                self._spine,
                memory_bytes=self._share_bytes * at_once,
                parts=parts,
            )


def _share_bytes(events: int) -> int:
    """The memory with which the events are computed in so many parts."""
    columns, column_bytes = 6, 32
    return events * columns * column_bytes // SHARES + 1
