"""kill -9 of the stream process while events arrive: nothing lost or doubled, features exact."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

import penstock as ps
from penstock.features import OnlineReader, point_in_time, space_of
from penstock.ingest import accept_events
from penstock.plan import apply
from penstock.records import Batch
from penstock.runtime import init_project, open_services

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from penstock.runtime import LocalServices

KILLS = 3
GROUPS = 3
EVENTS = 50
PATIENCE_S = 60.0
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

SOURCE = ps.Source(
    "ticks",
    entity=ps.Entity("symbol"),
    timestamp="ts",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "price": ps.Float64},
    expect=[ps.positive("price"), ps.unique("symbol", "ts")],
)
VIEW = ps.FeatureView(
    "recent",
    source=SOURCE,
    features=[ps.last("price"), ps.count(over="1h"), ps.mean("price", over="6h"), ps.count()],
)


def group(number: int) -> bytes:
    """Fifty events of three symbols: one in ten is bad, and one comes twice."""
    rows: list[dict[str, object]] = [
        {
            "symbol": "abc"[index % 3],
            "ts": (BEGIN + timedelta(minutes=number * EVENTS + index)).isoformat(),
            "price": float(index % 10),
        }
        for index in range(EVENTS - 1)
    ]
    return "\n".join(json.dumps(row) for row in [*rows, rows[1]]).encode()


def wait_until(told: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not told():
        assert time.monotonic() < deadline, "it did not come to it in time"
        time.sleep(0.02)


def progress(services: LocalServices) -> int:
    """Events whose batch is stored."""
    batches = services.metadata.find(Batch, where={"state": "stored"})
    return sum(batch.read for batch in batches)


@pytest.mark.slow
def test_events_are_in_once_however_often_the_stream_is_killed(tmp_path: Path) -> None:
    init_project(tmp_path)
    dice = random.Random(7)  # noqa: S311 - when to kill, nothing secret
    with open_services(tmp_path) as services:
        project = ps.Project("ticks", declarations=[VIEW])
        apply(services.metadata, project, actor="tester", now=services.clock.now())
        for life in range(KILLS):
            with streaming(tmp_path) as stream:
                taken = progress(services)
                send(services, life, pause_s=dice.uniform(0.0, 0.1))
                wait_until(lambda: progress(services) > taken)  # noqa: B023 - called before the next
                time.sleep(dice.uniform(0.0, 0.3))
                stream.kill()
        with streaming(tmp_path):
            # Twice, so that new batches meet features that hold older ones.
            for life in (KILLS, KILLS + 1):
                send(services, life, pause_s=0.0)
                wait_until(lambda: progress(services) == (life + 1) * GROUPS * EVENTS)  # noqa: B023
                wait_until(lambda: is_fresh(services))
        check(services, (KILLS + 2) * GROUPS)


@contextmanager
def streaming(home: Path) -> Generator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "penstock.cli", "stream", "--home", str(home)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as stream:
        try:
            yield stream
        finally:
            stream.terminate()


def send(services: LocalServices, life: int, *, pause_s: float) -> None:
    for number in range(life * GROUPS, (life + 1) * GROUPS):
        accept_events(services, SOURCE, group(number), "application/x-ndjson")
        time.sleep(pause_s)


def is_fresh(services: LocalServices) -> bool:
    """Whether the online features hold every stored batch."""
    newest = services.tables.applied("raw/ticks", "raw/ticks")
    return services.online.progress(space_of(VIEW)) == newest


def check(services: LocalServices, groups: int) -> None:
    raw = services.tables.scan("raw/ticks").collect()
    bad = services.tables.scan("quarantine/ticks").collect()
    good = groups * sum(index % 10 > 0 for index in range(EVENTS - 1))
    assert raw.height == raw.select("symbol", "ts").unique().height == good
    assert bad.height == groups * sum(index % 10 == 0 for index in range(EVENTS - 1))
    batches = services.metadata.find(Batch)
    assert sum(batch.read for batch in batches) == groups * EVENTS
    assert sum(batch.duplicates for batch in batches) == groups
    keys = ["a", "b", "c"]
    at = int((BEGIN + timedelta(days=30)).timestamp() * 1e6)
    values, as_of = OnlineReader(services.online, [VIEW]).read(keys, at)
    spine = pl.DataFrame({"symbol": keys, "at": as_of}).with_columns(
        pl.col("at").cast(pl.Datetime("us", "UTC"))
    )
    expected = point_in_time(services.tables, [VIEW], spine).select(VIEW.names)
    assert pl.DataFrame(values, schema=list(VIEW.names)).equals(
        expected.cast(pl.Float64).fill_null(float("nan"))
    )
