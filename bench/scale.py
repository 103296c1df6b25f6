"""What a hundred thousand entities cost, and how the cost grows from 1e4 to 1e6."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

import numpy as np
import polars as pl

import penstock as ps
from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileLocks
from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.features import OnlineReader, point_in_time, refresh

from .figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR_US = 3_600_000_000
NOW_US = 30 * 24 * HOUR_US
EVENTS_EACH = 10
COLUMNS = [f"f{i}" for i in range(5)]
CHUNK = 1_000_000
READ, ROUNDS = 1_000, 50
CHECKED = 2_000
SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (10_000, 100_000)
MEASURED = 100_000
MEMORY_MB = 4 * 1024
LINEAR = 1.3
"""How much more than in proportion an entity may cost where there are many."""


class Cost(NamedTuple):
    """What one size cost.

    Attributes:
        entities: How many.
        fold_s: Seconds from the raw table into the online store.
        read_us: Median microseconds per entity of reads of a thousand at once.
        store_us: What LMDB's own gets take of them.
        check_s: Seconds to compute 2,000 entities again from the raw table.
        unequal: Values of those that differ from the online ones.
        peak_mb: Peak resident memory of the process that did all of it.
    """

    entities: int
    fold_s: float
    read_us: float
    store_us: float
    check_s: float
    unequal: int
    peak_mb: float


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    context = multiprocessing.get_context("spawn")
    costs: list[Cost] = []
    for entities in QUICK_SIZES if quick else SIZES:
        # A process each, so that the peak is that of this size.
        with context.Pool(1) as pool:
            costs.append(pool.apply(cost_of, (entities,)))
    figures: list[Figure] = []
    for place, cost in enumerate(costs):
        figures += _figures(cost, costs[0] if place else None)
    return figures


def cost_of(entities: int) -> Cost:
    """Load, serve and check one size; runs in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder)
        source = ps.Source(
            "events",
            entity=ps.Entity("id", dtype=ps.Int64),
            timestamp="ts",
            schema={"id": ps.Int64, "ts": ps.Timestamp} | dict.fromkeys(COLUMNS, ps.Float64),
        )
        makers = (ps.mean, ps.max)
        features = [m(c, over=over) for over in ("1d", "7d") for c in COLUMNS for m in makers]
        view = ps.FeatureView("wide", source=source, features=features)
        tables = DeltaTables(home / "tables")
        _load(tables, entities)
        store = LmdbOnlineStore(home / "online")
        start = time.perf_counter()
        refresh(tables, store, FileLocks(home / "locks"), view)
        fold_s = time.perf_counter() - start
        reader = OnlineReader(store, [view])
        read_us, store_us = _read(store, reader, entities)
        start = time.perf_counter()
        unequal = _check(tables, reader, view, entities)
        check_s = time.perf_counter() - start
        store.close()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(entities, fold_s, read_us, store_us, check_s, unequal, peak_mb)


def _load(tables: DeltaTables, entities: int) -> None:
    """Ten events per entity over the last seven days, in batches of a million."""
    rng = np.random.default_rng(7)
    rows = entities * EVENTS_EACH
    for number, start in enumerate(range(0, rows, CHUNK), 1):
        size = min(CHUNK, rows - start)
        frame = {
            "id": (start + np.arange(size)) % entities,
            "ts": NOW_US - rng.integers(0, 7 * 24 * HOUR_US, size),
            "_batch": np.full(size, number),
            "_row": np.arange(size),
            "_batch_id": [f"bench-{number}"] * size,
            "_arrived_at": np.full(size, NOW_US),
        } | {name: rng.normal(size=size) for name in COLUMNS}
        stamps = pl.col("ts", "_arrived_at").cast(pl.Datetime("us", "UTC"))
        records = pl.DataFrame(frame).with_columns(stamps)
        tables.append("raw/events", records, app="raw/events", number=number)


def _read(store: LmdbOnlineStore, reader: OnlineReader, entities: int) -> tuple[float, float]:
    """Microseconds per entity: of the whole read, and of the store's gets of the same keys.

    Each is asked for keys that the other has not just brought to the processor's caches.
    """
    rng = np.random.default_rng(5)
    times: tuple[list[float], list[float]] = [], []
    with mock.patch.object(store, "look", wraps=store.look) as looked:
        for _ in range(ROUNDS):
            reader.read(rng.integers(0, entities, READ).tolist(), NOW_US)
    asks = [one.args[0] for one in looked.call_args_list]
    for ask in asks:
        keys = rng.integers(0, entities, READ).tolist()
        calls: tuple[Callable[[], object], ...] = (
            partial(reader.read, keys, NOW_US),
            partial(store.look, ask),
        )
        for found, call in zip(times, calls, strict=True):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
    whole, gets = (float(np.median(found)) * 1e6 / READ for found in times)
    return whole, gets


def _check(tables: DeltaTables, reader: OnlineReader, view: ps.FeatureView, entities: int) -> int:
    """Recompute a sample from the raw table; returns how many values differ."""
    keys = np.random.default_rng(9).choice(entities, CHECKED, replace=False).tolist()
    online, at_us = reader.read(keys, NOW_US)
    times = pl.Series(at_us).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    batch = point_in_time(tables, [view], pl.DataFrame({"id": keys, "at": times}))
    offline = batch.select(pl.col(name).fill_null(np.nan) for name in reader.names).to_numpy()
    close = np.isclose(online, offline, rtol=1e-9, atol=0, equal_nan=True)
    return int((~close).sum())


def _figures(cost: Cost, least: Cost | None) -> list[Figure]:
    what = f"{cost.entities:,} entities x 20 features"
    each = cost.fold_s / cost.entities * 1e6
    less = least.fold_s / least.entities * 1e6 if least else None
    return [
        Figure(what=f"{what}: load, per entity", ours=each, unit="us", baseline=less,
               baseline_name=f"per entity of {least.entities:,}" if least else "",
               budget=LINEAR if least else None,
               note=f"{EVENTS_EACH} events each; {cost.fold_s:.2f} s in all"),
        Figure(what=f"{what}: read 1,000 at once, per entity", ours=cost.read_us, unit="us",
               baseline=cost.store_us, baseline_name="LMDB's own gets of as many"),
        Figure(what=f"{what}: the same without LMDB's gets", ours=cost.read_us - cost.store_us,
               unit="us", baseline=least.read_us - least.store_us if least else None,
               baseline_name=f"per entity of {least.entities:,}" if least else "",
               budget=LINEAR if least else None),
        Figure(what=f"{what}: {CHECKED:,} of them again from the raw table", ours=cost.check_s,
               unit="s", note=f"{cost.unequal} of {CHECKED * 20:,} values differ"),
        Figure(what=f"{what}: peak memory of loading, serving and checking", ours=cost.peak_mb,
               unit="MB", budget=MEMORY_MB if cost.entities <= MEASURED else None),
    ]  # fmt: skip
