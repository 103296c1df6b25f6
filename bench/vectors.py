"""Precomputed vectors beside the views they are made of, from LMDB and from Redis."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

import penstock as ps
from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileLocks
from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.adapters.redis import RedisOnlineStore
from penstock.features import OnlineReader, refresh, refresh_vectors
from penstock.testing.redis_server import redis_server

from .figure import Figure, alternate, compared
from .project import free_port

if TYPE_CHECKING:
    from penstock.ports import OnlineStore

ENTITIES, EVENTS = 300, 400
PARTITIONS = 4
HOUR_US = 3_600_000_000
NOW_US = 30 * 24 * HOUR_US
COLUMNS = [f"f{i}" for i in range(5)]


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    source = ps.Source(
        "events",
        entity=ps.Entity("id", dtype=ps.Int64),
        timestamp="ts",
        schema={"id": ps.Int64, "ts": ps.Timestamp} | dict.fromkeys(COLUMNS, ps.Float64),
    )
    makers = (ps.mean, ps.min, ps.max)
    views = [
        ps.FeatureView(
            f"of_{name}",
            source=source,
            features=[make(name, over=over) for over in ("1h", "1d", "7d") for make in makers],
        )
        for name in COLUMNS
    ]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder, ExitStack() as stack:
        home = Path(folder)
        tables = _records(home)
        stores: dict[str, OnlineStore] = {"LMDB": LmdbOnlineStore(home / "online")}
        if shutil.which("redis-server"):
            port = free_port()
            stack.enter_context(redis_server(home / "redis", port, "--save", ""))
            stores["Redis"] = RedisOnlineStore(f"redis://127.0.0.1:{port}")
        for name, store in stores.items():
            stack.callback(store.close)
            locks = FileLocks(home / "locks" / name)
            for count in (1, PARTITIONS):
                for view in views:
                    refresh(tables, store, locks, view, partitions=count)
                refresh_vectors(tables, store, locks, views[:1], NOW_US)
                refresh_vectors(tables, store, locks, views, NOW_US)
                where = name if count == 1 else f"{name}, {count} partitions"
                for some in (views[:1], views):
                    figures += [_figure(where, store, some, n, quick=quick) for n in (1, 100)]
    return figures


def _records(home: Path) -> DeltaTables:
    """Events over the last seven days: most hours of an entity have some."""
    rng = np.random.default_rng(7)
    rows = ENTITIES * EVENTS
    frame = {
        "id": np.repeat(np.arange(ENTITIES), EVENTS),
        "ts": NOW_US - rng.integers(0, 7 * 24 * HOUR_US, rows),
        "_batch": np.ones(rows, dtype=np.int64),
        "_row": np.arange(rows),
        "_batch_id": ["bench-1"] * rows,
        "_arrived_at": np.full(rows, NOW_US),
    } | {name: rng.normal(size=rows) for name in COLUMNS}
    stamps = pl.col("ts", "_arrived_at").cast(pl.Datetime("us", "UTC"))
    tables = DeltaTables(home / "tables")
    tables.append(
        "raw/events", pl.DataFrame(frame).with_columns(stamps), app="raw/events", number=1
    )
    return tables


def _figure(
    name: str, store: OnlineStore, views: list[ps.FeatureView], entities: int, *, quick: bool
) -> Figure:
    calls = (200 if quick else 1_000) // (1 if entities == 1 else 5)
    rng = np.random.default_rng(5)
    asked = [rng.choice(ENTITIES, entities, replace=False).tolist() for _ in range(calls)]
    plain, ready = OnlineReader(store, views), OnlineReader(store, views, vectors=True)
    np.testing.assert_allclose(plain.read(asked[0], NOW_US)[0], ready.read(asked[0], NOW_US)[0])

    def read(reader: OnlineReader) -> None:
        for keys in asked:
            reader.read(keys, NOW_US)

    mine, theirs = alternate(lambda: read(ready), lambda: read(plain), runs=3)
    what = f"{len(views)} view{'s' if len(views) > 1 else ''}, {len(ready.names)} windowed features"
    return compared(
        f"{name}: {what} of {entities} entit{'y' if entities == 1 else 'ies'}",
        ([one / calls for one in mine], [one / calls for one in theirs]),
        unit="us",
        scale=1e6,
        baseline_name="the views",
        budget=None,
    )
