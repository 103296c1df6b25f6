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
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.data_source import PushMode, PushSource
from feast.types import Float64

COLUMNS = [f"f{i}" for i in range(10)]
ENTITIES = 10_000


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
        found = store.get_historical_features(
            entity_df=spine, features=[f"last:{name}" for name in COLUMNS]
        ).to_df()
        times.append(time.perf_counter() - start)
        rows = len(found)
    return {"join_s": statistics.median(times), "join_rows": rows}


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
    names = [f"last:{name}" for name in COLUMNS]
    for entities in (1, 100):
        spent: list[float] = []
        for _ in range(max(calls // entities, 20)):
            rows = [{"id": int(key)} for key in rng.integers(0, ENTITIES, entities)]
            start = time.perf_counter()
            answer = store.get_online_features(features=names, entity_rows=rows).to_dict()
            spent.append(time.perf_counter() - start)
            if answer["f0"][0] is None:
                raise SystemExit("feast answers null for an entity that was pushed")
        found[f"read_{kind}_{entities}_us"] = statistics.median(spent[5:]) * 1e6
    return found


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
        found |= online(store, kind, sizes["calls"])
        store.teardown()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
