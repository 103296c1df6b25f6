"""What it costs to complete records from another source, beside ``join_asof`` of bare Polars."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

import penstock as ps
from penstock.ingest import Lookups, accept_events, ingest_log
from penstock.runtime import open_services

from .figure import Figure

if TYPE_CHECKING:
    from penstock.runtime import LocalServices
    from penstock.spec import Source

KEYS, BATCH = 100_000, 1_000
DAY_US = 86_400_000_000
START_US = 20_000 * DAY_US
SINCE = pl.Datetime("us", "UTC")

MERCHANTS = ps.Source(
    "merchants",
    entity=ps.Entity("merchant"),
    timestamp="since",
    schema={"merchant": ps.String, "since": ps.Timestamp, "risk": ps.Float64,
            "category": ps.String},
)  # fmt: skip
SCHEMA = {"user": ps.String, "ts": ps.Timestamp, "merchant": ps.String, "amount": ps.Float64}
COLUMNS = {"risk": "risk", "category": "category"}


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    rows, rounds = (200_000, 20) if quick else (1_000_000, 60)
    others = _merchants(rows)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder)
        (home / ".penstock").mkdir()
        with open_services(home) as services:
            raw = _raw(others)
            services.tables.append("raw/merchants", raw, app="raw/merchants", number=1)
            return [
                *_found(services, others, rows, rounds),
                _ingested(services, rows, rounds),
            ]


def _merchants(rows: int) -> pl.DataFrame:
    rng = np.random.default_rng(7)
    keys = pl.Series("merchant", rng.integers(0, KEYS, rows)).cast(pl.String)
    since = pl.Series("since", START_US + rng.integers(0, 300 * DAY_US, rows)).cast(SINCE)
    risk = pl.Series("risk", rng.normal(size=rows))
    category = pl.Series("category", rng.integers(0, 50, rows)).cast(pl.String)
    return pl.DataFrame([keys, since, risk, category]).sort("since")


def _raw(others: pl.DataFrame) -> pl.DataFrame:
    return others.with_columns(
        pl.lit(1, dtype=pl.Int64).alias("_batch"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"),
        pl.lit("merchants-1").alias("_batch_id"),
        pl.lit(START_US).cast(SINCE).alias("_arrived_at"),
    )


def _payments(name: str, *lookups: ps.Lookup) -> Source:
    return ps.Source(name, entity=ps.Entity("user"), timestamp="ts", schema=SCHEMA, lookups=lookups)


def _batch(number: int) -> pl.DataFrame:
    rng = np.random.default_rng(number)
    ts = START_US + 200 * DAY_US + number * BATCH * 1_000_000 + np.arange(BATCH) * 1_000_000
    return pl.DataFrame(
        {
            "user": pl.Series(rng.integers(0, 10_000, BATCH)).cast(pl.String),
            "ts": pl.Series(ts).cast(SINCE),
            "merchant": pl.Series(rng.integers(0, KEYS, BATCH)).cast(pl.String),
            "amount": rng.normal(size=BATCH),
        }
    )


def _found(services: LocalServices, others: pl.DataFrame, rows: int, rounds: int) -> list[Figure]:
    """The values of a batch: the first, which reads the files; and one after many others."""
    source = _payments("payments", ps.Lookup(MERCHANTS, on="merchant", columns=COLUMNS))
    table = services.tables.scan("raw/merchants", columns=others.columns)
    cold, warm, bare_cold, bare_warm = [], [], [], []
    for number in range(rounds // 5):
        records = _batch(number)
        start = time.perf_counter()
        Lookups(services.tables).complete(source, records, upto={})
        middle = time.perf_counter()
        _bare(table.sort("since").collect(), records)
        bare_cold.append(time.perf_counter() - middle)
        cold.append(middle - start)
    kept = Lookups(services.tables)
    for number in range(rounds):
        records = _batch(number)
        start = time.perf_counter()
        kept.complete(source, records, upto={})
        middle = time.perf_counter()
        _bare(others, records)
        bare_warm.append(time.perf_counter() - middle)
        warm.append(middle - start)
    return [
        _figure(f"first batch of 1,000 into {rows:,} records", cold, bare_cold, "read and joined"),
        _figure(f"later batches of 1,000 into {rows:,} records", warm[2:], bare_warm[2:],
                "kept in memory, sorted by time"),
    ]  # fmt: skip


def _bare(others: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    return records.sort("ts").join_asof(
        others, left_on="ts", right_on="since", by="merchant", check_sortedness=False
    )


def _figure(what: str, mine: list[float], theirs: list[float], note: str) -> Figure:
    return Figure(
        what=what,
        ours=float(np.median(mine)) * 1e3,
        unit="ms",
        baseline=float(np.median(theirs)) * 1e3,
        baseline_name="bare join_asof",
        budget=1.3,
        spread=(min(mine) * 1e3, max(mine) * 1e3),
        note=f"the baseline: {note}",
    )


def _ingested(services: LocalServices, rows: int, rounds: int) -> Figure:
    """Whole micro-batches of a topic, with the lookup and without it."""
    lookup = ps.Lookup(MERCHANTS, on="merchant", columns=COLUMNS)
    plain, completed = _payments("plain"), _payments("completed", lookup)
    lookups = Lookups(services.tables)
    times: dict[str, list[float]] = {"plain": [], "completed": []}
    for number in range(rounds):
        lines = _batch(number).with_columns(pl.col("ts").dt.to_string("iso:strict"))
        body = "\n".join(map(json.dumps, lines.to_dicts())).encode()
        for source in (plain, completed):
            accept_events(services, source, body, "application/x-ndjson")
            start = time.perf_counter()
            ingest_log(services, source, lookups=lookups)
            times[source.name].append(time.perf_counter() - start)
    mine, theirs = times["completed"][3:], times["plain"][3:]
    return Figure(
        what=f"a micro-batch of 1,000 messages, completed from {rows:,} records",
        ours=float(np.median(mine)) * 1e3,
        unit="ms",
        baseline=float(np.median(theirs)) * 1e3,
        baseline_name="without the lookup",
        budget=1.5,
        spread=(min(mine) * 1e3, max(mine) * 1e3),
        note="from the log to the raw table",
    )
