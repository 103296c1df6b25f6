"""Features by key from the embedded store, beside a bare LMDB get."""

from __future__ import annotations

import struct
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb
import numpy as np
import polars as pl

import penstock as ps
from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileLocks
from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.features import OnlineReader, refresh

from .figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.ports import OnlineStore

ENTITIES = 10_000
HOUR_US = 3_600_000_000
COLUMNS = [f"f{i}" for i in range(10)]
PACKED = struct.Struct("<10d")
NOW_US = 30 * 24 * HOUR_US


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    calls = 300 if quick else 2_000
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder)
        plain, windows = declared()
        store = LmdbOnlineStore(home / "online")
        fill(home, store, [plain, windows])
        bare = _bare(home / "bare")
        figures = [
            _figure(store, plain, bare, entities=1, calls=calls, budget_us=20),
            _figure(store, plain, bare, entities=100, calls=calls // 5, budget_us=400),
            _figure(store, windows, bare, entities=1, calls=calls, budget_us=40),
            _figure(store, windows, bare, entities=100, calls=calls // 5, budget_us=1_000),
        ]
        store.close()
        return figures


def declared() -> tuple[ps.FeatureView, ps.FeatureView]:
    """Ten newest values, and fifteen windowed features of one of them."""
    source = ps.Source(
        "events",
        entity=ps.Entity("id", dtype=ps.Int64),
        timestamp="ts",
        schema={"id": ps.Int64, "ts": ps.Timestamp} | dict.fromkeys(COLUMNS, ps.Float64),
    )
    plain = ps.FeatureView("plain", source=source, features=[ps.last(c) for c in COLUMNS])
    makers, windows = (ps.sum, ps.mean, ps.min, ps.max), ("1h", "1d", "7d")
    features = [make("f0", over=over) for over in windows for make in makers]
    counts = [ps.count(over=over) for over in windows]
    return plain, ps.FeatureView("windows", source=source, features=[*features, *counts])


def fill(home: Path, store: OnlineStore, views: list[ps.FeatureView]) -> None:
    """Thirty events per entity over the last seven days."""
    rng = np.random.default_rng(7)
    rows = ENTITIES * 30
    frame = {
        "id": np.repeat(np.arange(ENTITIES), 30),
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
    locks = FileLocks(home / "locks")
    for view in views:
        refresh(tables, store, locks, view)


def _bare(folder: Path) -> Callable[[list[int]], None]:
    """A bare read of ten packed floats per entity."""
    folder.mkdir()
    environment = lmdb.open(str(folder), map_size=1 << 30, sync=False)
    keys = [number.to_bytes(8, "big") for number in range(ENTITIES)]
    rng = np.random.default_rng(3)
    with environment.begin(write=True) as transaction:
        for key in keys:
            transaction.put(key, PACKED.pack(*rng.normal(size=10)))

    def read(numbers: list[int]) -> None:
        with environment.begin(buffers=True) as transaction:
            for number in numbers:
                found = transaction.get(keys[number])
                assert found is not None
                PACKED.unpack(found)

    return read


def _figure(  # noqa: PLR0913 - what is read, beside what, how often, within what
    store: LmdbOnlineStore,
    view: ps.FeatureView,
    bare: Callable[[list[int]], None],
    *,
    entities: int,
    calls: int,
    budget_us: float,
) -> Figure:
    reader = OnlineReader(store, [view])
    rng = np.random.default_rng(5)
    asked = [rng.integers(0, ENTITIES, entities).tolist() for _ in range(calls + 50)]
    mine: list[float] = []
    theirs: list[float] = []
    for keys in asked:
        start = time.perf_counter()
        reader.read(keys, NOW_US)
        middle = time.perf_counter()
        bare(keys)
        theirs.append(time.perf_counter() - middle)
        mine.append(middle - start)
    low, high = np.percentile(mine[50:], [1, 99]) * 1e6
    return Figure(
        what=f"{view.name}: {len(view.features)} features of {entities} "
        f"entit{'y' if entities == 1 else 'ies'}, p50",
        ours=float(np.median(mine[50:])) * 1e6,
        unit="us",
        spread=(float(low), float(high)),
        baseline=float(np.median(theirs[50:])) * 1e6,
        baseline_name="bare LMDB get and unpack of 10 floats",
        budget=budget_us,
        absolute=True,
        note=f"p99 {high:,.0f} us",
    )
