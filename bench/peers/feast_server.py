"""A Feast repository for ``feast serve``, made by an interpreter of its own.

Usage: ``python feast_server.py FOLDER EVENTS [REDIS]``. One view of ten floats over the events
file, materialised into SQLite, or into the Redis at that ``host:port,db=number``. Nothing of
Penstock is imported.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

COLUMNS = [f"f{i}" for i in range(10)]
CONFIG = """\
project: bench
provider: local
registry: registry.db
online_store: ONLINE
offline_store: {type: file}
entity_key_serialization_version: 3
"""


def main(folder: Path, events: Path, redis: str | None) -> None:
    """Declare, apply and materialise."""
    folder.mkdir()
    online = "{type: sqlite, path: online.db}"
    if redis:
        online = f'{{type: redis, connection_string: "{redis}"}}'
    (folder / "feature_store.yaml").write_text(CONFIG.replace("ONLINE", online))
    store = FeatureStore(repo_path=str(folder))
    entity = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="last", entities=[entity], ttl=timedelta(0), online=True,
        schema=[Field(name=name, dtype=Float64) for name in COLUMNS],
        source=FileSource(path=str(events), timestamp_field="ts"),
    )  # fmt: skip
    store.apply([entity, view])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    store.materialize(start, datetime(2030, 1, 1, tzinfo=UTC))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
