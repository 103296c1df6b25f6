"""Online against batch on hourly candles: every event streamed, every feature compared.

Real candles are read from the folder that PENSTOCK_BENCH_CANDLES names (``BTCUSDT.csv.gz`` and so
on, with the columns Date, Open, High, Low, Close, Volume); without it candles are simulated.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import polars as pl

import penstock as ps
from penstock.cli.demo.simulator import simulate
from penstock.features import OnlineReader, point_in_time, refresh
from penstock.ingest import ingest_log
from penstock.runtime import init_project, open_services

from .figure import Figure

if TYPE_CHECKING:
    from penstock.runtime import LocalServices

CANDLES = "PENSTOCK_BENCH_CANDLES"
COLUMNS = ("open", "high", "low", "close", "volume")
OVER = ("6h", "1d", "7d", "30d")
MICRO_BATCH = 5_000
LATE, LATEST_H = 0.05, 12
CHECKS = 12
TOLERANCE = 1e-9


class Difference(NamedTuple):
    """What a comparison found.

    Attributes:
        compared: Number of values.
        nulls: How many of them are null on both sides.
        unequal: How many differ by more than 1e-9 of themselves, or are null on one side only.
        worst: Greatest relative difference.
    """

    compared: int
    nulls: int
    unequal: int
    worst: float


def declared() -> tuple[ps.Source, list[ps.FeatureView]]:
    """Candles, and sixty features of them."""
    symbol = ps.Entity("symbol")
    candles = ps.Source(
        "candles",
        entity=symbol,
        timestamp="ts",
        schema={"symbol": ps.String, "ts": ps.Timestamp} | dict.fromkeys(COLUMNS, ps.Float64),
        expect=[ps.unique("symbol", "ts")],
        known_after="1h",
    )
    derive = {
        "ret": ps.col("close") / ps.col("open") - 1,
        "range": (ps.col("high") - ps.col("low")) / ps.col("open"),
        "traded": ps.col("close") * ps.col("volume"),
    }
    up = ps.col("ret") > 0
    views = [
        ps.FeatureView(
            f"moves_{over}",
            source=candles,
            derive=derive,
            features=[
                ps.mean("ret", over=over), ps.std("ret", over=over),
                ps.min("ret", over=over), ps.max("ret", over=over),
                ps.mean("ret", over=over, where=up), ps.count(over=over, where=up),
                ps.max("high", over=over), ps.min("low", over=over),
                ps.mean("range", over=over), ps.std("range", over=over),
                ps.sum("volume", over=over), ps.mean("traded", over=over),
                ps.last("close", over=over), ps.count(over=over),
            ],
        )
        for over in OVER
    ]  # fmt: skip
    ever = ps.FeatureView(
        "ever",
        source=candles,
        derive=derive,
        features=[ps.last("close"), ps.count(), ps.max("high"), ps.mean("ret")],
    )
    return candles, [*views, ever]


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    events = _arrivals(_candles(hours=4_000 if quick else 37_000))
    source, views = declared()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        init_project(Path(folder))
        with open_services(Path(folder)) as services:
            _publish(services, source, events)
            ingest_s, fold_s, found = _stream(services, source, views, events)
    features = sum(len(view.features) for view in views)
    symbols = events["symbol"].n_unique()
    kind = "real" if os.environ.get(CANDLES) else "simulated"
    what = f"{events.height:,} events of {symbols} symbols, {kind}, {features} features"
    note = (
        f"{found.compared:,} values compared at {CHECKS} moments, {found.nulls:,} of them null on "
        f"both sides; greatest relative difference {found.worst:.1e}. Events come up to "
        f"{LATEST_H} h late, one in a hundred comes twice"
    )
    return [
        Figure(what=f"{what}: online values unlike batch", ours=found.unequal, unit="values",
               budget=0, note=note),
        Figure(what=f"{what}: into the raw table", ours=events.height / ingest_s, unit="1/s"),
        Figure(what=f"{what}: into {len(views)} views online", ours=events.height / fold_s,
               unit="1/s"),
    ]  # fmt: skip


def _stream(
    services: LocalServices, source: ps.Source, views: list[ps.FeatureView], events: pl.DataFrame
) -> tuple[float, float, Difference]:
    """Ingest and fold micro-batch by micro-batch, comparing now and then and at the end."""
    ingest_s = fold_s = 0.0
    found = Difference(0, 0, 0, 0.0)
    turns = -(-events.height // MICRO_BATCH)
    checked = set(np.linspace(0, turns - 1, min(CHECKS, turns)).astype(int).tolist())
    keys = sorted(events["symbol"].unique().to_list())
    for turn in range(turns):
        start = time.perf_counter()
        ingest_log(services, source, limit=MICRO_BATCH)
        middle = time.perf_counter()
        for view in views:
            refresh(services.tables, services.online, services.leases, view)
        ingest_s, fold_s = ingest_s + middle - start, fold_s + time.perf_counter() - middle
        if turn in checked:
            one = _compare(services, views, keys)
            found = Difference(
                found.compared + one.compared, found.nulls + one.nulls,
                found.unequal + one.unequal, max(found.worst, one.worst),
            )  # fmt: skip
    return ingest_s, fold_s, found


def _compare(services: LocalServices, views: list[ps.FeatureView], keys: list[str]) -> Difference:
    reader = OnlineReader(services.online, views)
    online, at_us = reader.read(keys, 0)
    times = pl.Series(at_us).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    spine = pl.DataFrame({"symbol": keys, "at": times})
    batch = point_in_time(services.tables, views, spine).select(
        pl.col(name).cast(pl.Float64).fill_null(np.nan) for name in reader.names
    )
    offline = batch.to_numpy()
    nulls = np.isnan(online) & np.isnan(offline)
    with np.errstate(all="ignore"):
        away = np.abs(online - offline) / np.maximum(np.abs(offline), 1e-300)
    away = np.where(nulls | (online == offline), 0.0, np.where(np.isnan(away), np.inf, away))
    return Difference(
        online.size, int(nulls.sum()), int((away > TOLERANCE).sum()), float(away.max())
    )


def _publish(services: LocalServices, source: ps.Source, events: pl.DataFrame) -> None:
    rows = events.with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_dicts()
    encode = msgspec.json.Encoder().encode
    for start in range(0, len(rows), MICRO_BATCH):
        payloads = [encode(row) for row in rows[start : start + MICRO_BATCH]]
        services.log.publish(source.topic, payloads)


def _arrivals(candles: pl.DataFrame) -> pl.DataFrame:
    """The candles in the order they arrive: some hours late, some twice."""
    rng = np.random.default_rng(7)
    size = candles.height
    late_h = pl.Series(np.where(rng.random(size) < LATE, rng.integers(1, LATEST_H, size), 0))
    placed = candles.with_columns(
        (pl.col("ts") + pl.duration(hours=pl.lit(late_h))).alias("_placed")
    )
    again = placed.sample(fraction=0.01, seed=7).with_columns(
        pl.col("_placed") + pl.duration(hours=3)
    )
    return pl.concat([placed, again]).sort("_placed", maintain_order=True).drop("_placed")


def _candles(*, hours: int) -> pl.DataFrame:
    named = os.environ.get(CANDLES)
    if named:
        frames = {
            path.name.removesuffix(".csv.gz"): pl.read_csv(path, try_parse_dates=True)
            for path in sorted(Path(named).glob("*.csv.gz"))
        }
        if not frames:
            raise SystemExit(f"{CANDLES}={named} has no file like BTCUSDT.csv.gz.")
    else:
        frames = dict(simulate(hours=hours, change_at=hours // 2))
    parts = [
        frame.select(
            pl.lit(symbol).alias("symbol"),
            pl.col("Date").cast(pl.Datetime("us", "UTC")).alias("ts"),
            *(pl.col(name.capitalize()).cast(pl.Float64).alias(name) for name in COLUMNS),
        )
        for symbol, frame in frames.items()
    ]
    return pl.concat(parts).sort("ts", "symbol")
