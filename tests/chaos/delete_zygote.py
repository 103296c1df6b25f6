"""Ingests, deletes and refreshes in children that are forked ready-made; see ``ingest_zygote``."""

from __future__ import annotations

import sys
from pathlib import Path

import penstock as ps
from penstock.features import refresh
from penstock.ingest import delete_records, ingest_files
from penstock.records import Deletion
from penstock.runtime import open_services
from penstock.testing.zygotes import fork_at_each_line

STEPS = 12
KEYS = ("a", "b", "c")
HOUR_US = 3_600_000_000

READINGS = ps.Source(
    "readings",
    entity=ps.Entity("key"),
    timestamp="ts",
    schema={"key": ps.String, "ts": ps.Timestamp, "x": ps.Float64},
    expect=[ps.unique("key", "ts")],
)
VIEW = ps.FeatureView(
    "v",
    source=READINGS,
    features=[ps.count(name="n"), ps.last("x", name="x"), ps.max("x", over="3h", name="top")],
)


def deletion(step: int) -> Deletion:
    """Deletion number ``step``: now of an entity, now of the record of one time."""
    at_us = None if step % 3 == 0 else step * HOUR_US
    return Deletion(delete_id=f"d-{step}", keys=(KEYS[step % 3],), at_us=at_us)


def work(home: Path) -> None:
    """Take in a file, delete, bring the features up to date; what is done stays as it is."""
    with open_services(home) as services:
        for step in range(STEPS):
            ingest_files(services, READINGS, paths=[home / f"{step:02}.csv"])
            delete_records(services, READINGS, deletion(step))
            if step % 2:
                refresh(services.tables, services.online, services.locks, VIEW, partitions=2)


if __name__ == "__main__":
    fork_at_each_line(lambda: work(Path(sys.argv[1])))
