"""Point-in-time features against bare Polars and a bare numpy kernel."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

import penstock as ps
from penstock.adapters.delta import DeltaTables
from penstock.features import point_in_time

from .figure import Figure, alternate, apart, compared

COLUMNS = [f"f{i}" for i in range(10)]
DAY_US = 86_400_000_000
ENTITIES = 10_000
HOT, HEAT = 100, 0.9
WINDOWS_MB = 1.5 * 1024
WINDOWS_US = {"1h": 3_600_000_000, "1d": DAY_US, "7d": 7 * DAY_US}


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    runs = 3 if quick else 5
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder)
        figures = [_as_of(home, points=100_000, events=1_000_000, runs=runs, budget=1.25)]
        if not quick:
            figures.append(_as_of(home, points=1_000_000, events=10_000_000, runs=runs, budget=1.3))
        points, events = (100_000, 1_000_000) if quick else (1_000_000, 10_000_000)
        figures.append(_windows(home, points=points, events=events, runs=runs))
        figures.append(_hot(home, points=points, events=events, runs=runs))
        return [*figures, *_memory(home, points=points, events=events)]


def _newest() -> ps.FeatureView:
    source = ps.Source(
        "events",
        entity=ps.Entity("id", dtype=ps.Int64),
        timestamp="ts",
        schema={"id": ps.Int64, "ts": ps.Timestamp} | dict.fromkeys(COLUMNS, ps.Float64),
    )
    return ps.FeatureView("last", source=source, features=tuple(ps.last(c) for c in COLUMNS))


def _as_of(folder: Path, *, points: int, events: int, runs: int, budget: float) -> Figure:
    view = _newest()
    raw = make_events(events, COLUMNS)
    spine = make_spine(points)
    tables = DeltaTables(_tables_of(folder, events))
    tables.append("raw/events", stored(raw), app="raw/events", number=1)
    parquet = _parquet_of(folder, events)
    raw.write_parquet(parquet)
    del raw

    def ours() -> pl.DataFrame:
        return point_in_time(tables, [view], spine)

    def bare() -> pl.DataFrame:
        return _bare_join(parquet, spine)

    check, expected = ours(), bare()
    _agree(check["last.last_f0"].sum(), expected["f0"].sum())
    return compared(
        f"as of a time: {points:,} points x {events:,} rows x {len(COLUMNS)} columns",
        alternate(ours, bare, runs=runs if events < 10_000_000 else 3),
        unit="s",
        scale=1,
        baseline_name="bare Polars scan_parquet + join_asof",
        budget=budget,
        note="from the raw table to a finished frame, rows in the order asked",
    )


def _tables_of(folder: Path, events: int) -> Path:
    return folder / f"as-of-{events}"


def _parquet_of(folder: Path, events: int) -> Path:
    return folder / f"events-{events}.parquet"


def _bare_join(parquet: Path, spine: pl.DataFrame) -> pl.DataFrame:
    right = pl.scan_parquet(parquet).sort("ts").collect()
    return spine.sort("at").join_asof(
        right, left_on="at", right_on="ts", by="id", strategy="backward", check_sortedness=False
    )


def _memory(folder: Path, *, points: int, events: int) -> list[Figure]:
    """Peak resident memory of one computation each, in a process of its own."""
    size = f"{points:,} points x {events:,}"
    ours = apart(_join_of, folder, points, events).peak_mb
    bare = apart(_bare_of, folder, points, events).peak_mb
    windows = apart(_windows_of, folder, points, events).peak_mb
    return [
        Figure(
            what=f"as of a time, {size} rows: peak memory",
            ours=ours,
            unit="MB",
            baseline=bare,
            baseline_name="bare Polars",
            budget=1.5,
        ),
        Figure(
            what=f"windows, {size} events: peak memory",
            ours=windows,
            unit="MB",
            budget=WINDOWS_MB,
        ),
    ]


def _join_of(folder: Path, points: int, events: int) -> None:
    point_in_time(DeltaTables(_tables_of(folder, events)), [_newest()], make_spine(points))


def _bare_of(folder: Path, points: int, events: int) -> None:
    _bare_join(_parquet_of(folder, events), make_spine(points))


def _windows_of(folder: Path, points: int, events: int) -> None:
    assert events
    point_in_time(DeltaTables(folder / "windows"), [windowed()], make_spine(points))


def windowed() -> ps.FeatureView:
    source = ps.Source(
        "ticks",
        entity=ps.Entity("id", dtype=ps.Int64),
        timestamp="ts",
        schema={"id": ps.Int64, "ts": ps.Timestamp, "x": ps.Float64},
    )
    makers = (ps.sum, ps.mean, ps.min, ps.max)
    features = [make("x", over=over) for over in WINDOWS_US for make in makers]
    features += [ps.count("x", over=over) for over in WINDOWS_US]
    return ps.FeatureView("win", source=source, features=tuple(features))


def _windows(folder: Path, *, points: int, events: int, runs: int) -> Figure:
    view = windowed()
    raw = make_events(events, ["x"])
    spine = make_spine(points)
    tables = DeltaTables(folder / "windows")
    tables.append("raw/ticks", stored(raw), app="raw/ticks", number=1)

    def ours() -> pl.DataFrame:
        return point_in_time(tables, [view], spine)

    def bare() -> dict[str, np.ndarray]:
        return numpy_kernel(tables.scan("raw/ticks").collect(), spine)

    check, expected = ours(), bare()
    _agree(check["win.sum_x_7d"].sum(), expected["sum_7d"].sum())
    _agree(check["win.max_x_1d"].sum(), np.nansum(expected["max_1d"]))
    return compared(
        f"windows: {points:,} points x {events:,} events x 15 columns",
        alternate(ours, bare, runs=runs if events < 10_000_000 else 3),
        unit="s",
        scale=1,
        baseline_name="bare numpy sort + searchsorted + reduceat",
        budget=1.3,
        note="1 h, 1 d and 7 d; count, sum, mean, min and max; from the raw table to a frame",
    )


def _hot(folder: Path, *, points: int, events: int, runs: int) -> Figure:
    """The same windows where few entities have nearly all of the events, and of the points."""
    view = windowed()
    spine, hot_spine = make_spine(points), _heated(make_spine(points))
    even = DeltaTables(folder / "windows")
    hot = DeltaTables(folder / "hot")
    raw = _heated(make_events(events, ["x"]))
    hot.append("raw/ticks", stored(raw), app="raw/ticks", number=1)
    del raw
    return compared(
        f"windows: the same, {HOT} entities with {HEAT:.0%} of the events and points",
        alternate(
            lambda: point_in_time(hot, [view], hot_spine),
            lambda: point_in_time(even, [view], spine),
            runs=runs if events < 10_000_000 else 3,
        ),
        unit="s",
        scale=1,
        baseline_name=f"{ENTITIES:,} entities alike",
        budget=1.3,
    )


def _heated(frame: pl.DataFrame) -> pl.DataFrame:
    """Most rows of a frame given to few entities."""
    rng = np.random.default_rng(13)
    ids = frame["id"].to_numpy().copy()
    chosen = rng.random(len(ids)) < HEAT
    ids[chosen] = rng.integers(0, HOT, int(chosen.sum()))
    return frame.with_columns(pl.Series("id", ids))


def numpy_kernel(events: pl.DataFrame, spine: pl.DataFrame) -> dict[str, np.ndarray]:
    ids = events["id"].to_numpy()
    times = events["ts"].dt.epoch("us").to_numpy()
    span = int(times.max()) + 8 * DAY_US
    keys = ids * span + times
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], np.append(events["x"].to_numpy()[order], 0.0)
    at = spine["at"].dt.epoch("us").to_numpy()
    base = spine["id"].to_numpy() * span
    asked = np.argsort(base + at)  # ascending runs: reduceat also walks the gaps between them
    at, base = at[asked], base[asked]
    high = np.searchsorted(keys, base + at, side="right")
    columns: dict[str, np.ndarray] = {}
    for name, over in WINDOWS_US.items():
        hop = 300_000_000 if over <= DAY_US // 2 else 3_600_000_000
        lower = np.maximum((at - over) // hop * hop, -1)
        low = np.searchsorted(keys, base + lower, side="right")
        empty = high <= low
        bounds = np.stack([low, np.maximum(high, low + 1)], axis=1).ravel()
        bounds = np.minimum(bounds, len(values) - 1)
        count = high - low
        total = np.where(empty, 0.0, np.add.reduceat(values, bounds)[::2])
        columns[f"count_{name}"], columns[f"sum_{name}"] = count, total
        columns[f"mean_{name}"] = total / np.where(empty, np.nan, count)
        for kind, reduce in (("min", np.minimum), ("max", np.maximum)):
            found = reduce.reduceat(values, bounds)[::2]
            columns[f"{kind}_{name}"] = np.where(empty, np.nan, found)
    return columns


def make_events(rows: int, columns: list[str]) -> pl.DataFrame:
    """Random events of ten thousand entities over thirty days, by time."""
    rng = np.random.default_rng(7)
    times = np.sort(rng.integers(0, 30 * DAY_US, rows))
    frame: dict[str, object] = {"id": rng.integers(0, ENTITIES, rows), "ts": times}
    frame |= {name: rng.normal(size=rows) for name in columns}
    return pl.DataFrame(frame).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))


def stored(raw: pl.DataFrame, number: int = 1) -> pl.DataFrame:
    """The frame as ingestion stores it, as the batch of that number."""
    return raw.with_columns(
        pl.lit(number, pl.Int64).alias("_batch"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"),
        pl.lit("bench-1").alias("_batch_id"),
        pl.col("ts").alias("_arrived_at"),
    )


def make_spine(points: int) -> pl.DataFrame:
    """Random points of those entities."""
    rng = np.random.default_rng(11)
    frame = {
        "id": rng.integers(0, ENTITIES, points),
        "at": rng.integers(8 * DAY_US, 30 * DAY_US, points),
    }
    return pl.DataFrame(frame).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))


def _agree(ours: object, expected: object) -> None:
    """Refuse to time two computations that do not give the same."""
    np.testing.assert_allclose(float(str(ours)), float(str(expected)), rtol=1e-6)
