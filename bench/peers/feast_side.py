"""Feast at the same work, run by an interpreter of its own that has ``feast[redis]==0.67.0``.

Usage: ``python feast_side.py FOLDER REDIS_PORT``. FOLDER has ``events.parquet``,
``spine.parquet`` and ``sizes.json``; what was measured is printed as one JSON object. Nothing of
Penstock is imported.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.data_source import PushMode, PushSource
from feast.types import Float64

COLUMNS = [f"f{i}" for i in range(10)]
NAMES = [f"last:{name}" for name in COLUMNS]
ENTITIES = 10_000
LEAST_CALLS = 100
BEFORE_ALL, AFTER_ALL = datetime(1970, 1, 1, tzinfo=UTC), datetime(1971, 1, 1, tzinfo=UTC)


def store_in(folder: Path, online: dict[str, object]) -> FeatureStore:
    """A store with one view of ten floats, over the events and a push source."""
    config = RepoConfig(
        project="bench", provider="local", registry=str(folder / "registry.db"),
        online_store=online, offline_store={"type": "file"}, entity_key_serialization_version=3,
    )  # fmt: skip
    store = FeatureStore(config=config)
    entity = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
    events = FileSource(path=str(folder.parent / "events.parquet"), timestamp_field="ts")
    view = FeatureView(
        name="last", entities=[entity], ttl=timedelta(0), online=True,
        schema=[Field(name=name, dtype=Float64) for name in COLUMNS],
        source=PushSource(name="pushed", batch_source=events),
    )  # fmt: skip
    store.apply([entity, view])
    return store


def join(store: FeatureStore, folder: Path, runs: int) -> dict[str, float]:
    """Seconds and rows of a historical retrieval."""
    spine = pd.read_parquet(folder / "spine.parquet").rename(columns={"at": "event_timestamp"})
    times: list[float] = []
    rows = 0
    for _ in range(runs):
        start = time.perf_counter()
        found = store.get_historical_features(entity_df=spine, features=NAMES).to_df()
        times.append(time.perf_counter() - start)
        rows = len(found)
    return {"join_s": statistics.median(times), "join_rows": rows}


def fill(store: FeatureStore, kind: str) -> dict[str, float]:
    """Seconds until the newest values of all entities are in the online store."""
    start = time.perf_counter()
    store.materialize(BEFORE_ALL, AFTER_ALL)
    found = {f"fill_{kind}_s": time.perf_counter() - start}
    _read(store, list(range(100)))
    return found


def online(store: FeatureStore, kind: str, calls: int) -> dict[str, float]:
    """Events pushed per second in batches of 1,000, and microseconds of reads."""
    rng = np.random.default_rng(7)
    now = pd.Timestamp.now("UTC").floor("us")
    frame = pd.DataFrame(
        {"id": np.arange(ENTITIES), "ts": now}
        | {name: rng.normal(size=ENTITIES) for name in COLUMNS}
    )
    times: list[float] = []
    for start_row in range(0, ENTITIES, 1_000):
        part = frame.iloc[start_row : start_row + 1_000]
        start = time.perf_counter()
        store.push("pushed", part, to=PushMode.ONLINE)
        times.append(time.perf_counter() - start)
    found = {f"push_{kind}_per_s": 1_000 / statistics.median(times)}
    for entities in (1, 100):
        spent = [
            _read(store, rng.integers(0, ENTITIES, entities).tolist())
            for _ in range(max(calls // entities, LEAST_CALLS))
        ]
        took, worked = np.median(spent[5:], axis=0) * 1e6
        found |= {f"read_{kind}_{entities}_us": took, f"read_{kind}_{entities}_cpu_us": worked}
    return found


def _read(store: FeatureStore, keys: list[int]) -> tuple[float, float]:
    """Seconds and processor seconds of a read of these entities; a null is an error."""
    rows = [{"id": key} for key in keys]
    start, worked = time.perf_counter(), time.process_time()
    answer = store.get_online_features(features=NAMES, entity_rows=rows).to_dict()
    spent = time.perf_counter() - start, time.process_time() - worked
    if None in answer["f0"]:
        raise SystemExit("feast answers null for an entity that it was given")
    return spent


def main() -> None:
    """Measure everything."""
    folder, port = Path(sys.argv[1]), sys.argv[2]
    sizes = json.loads((folder / "sizes.json").read_text())
    found: dict[str, float] = {}
    stores: dict[str, dict[str, object]] = {
        "sqlite": {"type": "sqlite", "path": str(folder / "sqlite" / "online.db")},
        "redis": {"type": "redis", "connection_string": f"localhost:{port}"},
    }
    for kind, config in stores.items():
        home = folder / kind
        home.mkdir()
        store = store_in(home, config)
        if kind == "sqlite":
            found |= join(store, folder, sizes["runs"])
        found |= fill(store, kind)
        found |= online(store, kind, sizes["calls"])
        store.teardown()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
