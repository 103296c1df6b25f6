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
RATED = ps.FeatureView(
    "rated",
    source=MERCHANTS,
    features=[ps.mean("risk", over="7d"), ps.std("risk", over="30d"), ps.count(over="7d")],
)
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
            raw = _raw(others, 1)
            services.tables.append("raw/merchants", raw, app="raw/merchants", number=1)
            return [
                *_found(services, others, rows, rounds),
                _ingested(services, "plain", _with_columns("completed"), rows, rounds),
                _ingested(services, "bare", _with_features("rated_payments"), rows, rounds),
                _growing(services, others, rows, rounds),
            ]


def _merchants(rows: int, *, seed: int = 7) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    keys = pl.Series("merchant", rng.integers(0, KEYS, rows)).cast(pl.String)
    since = pl.Series("since", START_US + rng.integers(0, 300 * DAY_US, rows)).cast(SINCE)
    risk = pl.Series("risk", rng.normal(size=rows))
    category = pl.Series("category", rng.integers(0, 50, rows)).cast(pl.String)
    return pl.DataFrame([keys, since, risk, category]).sort("since")


def _raw(others: pl.DataFrame, number: int) -> pl.DataFrame:
    return others.with_columns(
        pl.lit(number, dtype=pl.Int64).alias("_batch"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"),
        pl.lit(f"merchants-{number}").alias("_batch_id"),
        pl.lit(START_US).cast(SINCE).alias("_arrived_at"),
    )


def _with_columns(name: str) -> Source:
    return _payments(name, ps.Lookup(MERCHANTS, on="merchant", columns=COLUMNS))


def _with_features(name: str) -> Source:
    named = ("mean_risk_7d", "std_risk_30d", "count_7d")
    return _payments(name, ps.Lookup(RATED, on="merchant", columns={one: one for one in named}))


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
    # Of two of one time the later arrival counts, so whoever joins reads by what that is told.
    table = services.tables.scan("raw/merchants", columns=[*others.columns, "_batch", "_row"])
    mine: list[float] = []
    theirs: list[float] = []

    def measured(lookups: Lookups | None, number: int) -> None:
        records = _batch(number)
        start = time.perf_counter()
        (lookups or Lookups(services.tables)).complete(source, records, upto={})
        middle = time.perf_counter()
        if lookups is None:
            own = pl.col("merchant").is_in(records["merchant"].unique().implode())
            _bare(table.filter(own).collect().sort("since", "_batch", "_row"), records)
        else:
            _bare(others, records)
        theirs.append(time.perf_counter() - middle)
        mine.append(middle - start)

    for number in range(rounds // 3):
        measured(None, number)
    first = _figure(f"first batch of 1,000 into {rows:,} records", mine, theirs,
                    "its merchants read from the file, then joined")  # fmt: skip
    kept, mine, theirs = Lookups(services.tables), [], []
    for number in range(rounds):
        measured(kept, number)
    later = _figure(f"later batches of 1,000 into {rows:,} records", mine[2:], theirs[2:],
                    "all kept in memory, sorted by time; ours read and sorted all of them once, "
                    f"for the second batch, in {mine[1] * 1e3:,.0f} ms")  # fmt: skip
    return [first, later]


def _growing(services: LocalServices, others: pl.DataFrame, rows: int, rounds: int) -> Figure:
    """The values of a batch when the other source has grown by one since the last."""
    source = _payments("payments", ps.Lookup(MERCHANTS, on="merchant", columns=COLUMNS))
    kept = Lookups(services.tables)
    mine: list[float] = []
    theirs: list[float] = []
    for number in range(2, rounds + 2):
        new = _merchants(BATCH, seed=number)
        raw = _raw(new, number)
        services.tables.append("raw/merchants", raw, app="raw/merchants", number=number)
        records = _batch(number)
        start = time.perf_counter()
        kept.complete(source, records, upto={})
        middle = time.perf_counter()
        others = pl.concat([others, new]).sort("since")
        _bare(others, records)
        theirs.append(time.perf_counter() - middle)
        mine.append(middle - start)
    return _figure(f"the same, when 1,000 of the {rows:,} are new each time", mine[2:], theirs[2:],
                   "the new ones appended, all sorted and joined")  # fmt: skip


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


def _ingested(
    services: LocalServices, name: str, completed: Source, rows: int, rounds: int
) -> Figure:
    """Whole micro-batches of a topic, with a lookup and without it."""
    plain, lookups = _payments(name), Lookups(services.tables)
    times: dict[str, list[float]] = {plain.name: [], completed.name: []}
    for number in range(rounds):
        lines = _batch(number).with_columns(pl.col("ts").dt.to_string("iso:strict"))
        body = "\n".join(map(json.dumps, lines.to_dicts())).encode()
        for source in (plain, completed):
            accept_events(services, source, body, "application/x-ndjson")
            start = time.perf_counter()
            ingest_log(services, source, lookups=lookups)
            times[source.name].append(time.perf_counter() - start)
    mine, theirs = times[completed.name][3:], times[plain.name][3:]
    what = "3 features of" if completed.lookups[0].view else "2 columns of"
    return Figure(
        what=f"a micro-batch of 1,000 messages, completed with {what} {rows:,} records",
        ours=float(np.median(mine)) * 1e3,
        unit="ms",
        baseline=float(np.median(theirs)) * 1e3,
        baseline_name="without the lookup",
        budget=1.5,
        spread=(min(mine) * 1e3, max(mine) * 1e3),
        note=f"from the log to the raw table; {BATCH / float(np.median(mine)):,.0f} records/s; the "
        f"first took {times[completed.name][0] * 1e3:,.0f} ms, the second, which reads all, "
        f"{times[completed.name][1] * 1e3:,.0f}",
    )
