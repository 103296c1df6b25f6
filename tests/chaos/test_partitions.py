"""Several stream processes that are killed and stopped while events arrive: each once, exactly."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

import penstock as ps
from penstock.control import partition_states
from penstock.features import OnlineReader, layout_of, lock_of, marks_of, point_in_time, space_of
from penstock.ingest import accept_events
from penstock.plan import apply
from penstock.records import Batch, Lease
from penstock.runtime import init_project, open_services
from penstock.testing.ports import free_port
from penstock.testing.redis_server import need_redis, redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from penstock.runtime import LocalServices

PARTITIONS = 4
KILLS = 6
EVENTS = 60
PATIENCE_S = 90.0
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = "abcdefghijklmnop"

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
SPACE = space_of(VIEW)


class Events:
    """Sends events and knows how many."""

    def __init__(self, services: LocalServices) -> None:
        self._services = services
        self.sent = 0

    def send(self) -> None:
        """Sixty events: one in ten is bad, and one comes twice."""
        rows: list[dict[str, object]] = [
            {
                "symbol": KEYS[(self.sent + index) % len(KEYS)],
                "ts": (BEGIN + timedelta(seconds=self.sent + index)).isoformat(),
                # Eighths: their sums are the same to the last bit in whatever order.
                "price": float(index % 10) / 8,
            }
            for index in range(EVENTS - 1)
        ]
        body = "\n".join(json.dumps(row) for row in [*rows, rows[1]]).encode()
        accept_events(self._services, SOURCE, body, "application/x-ndjson")
        self.sent += EVENTS


def wait_until(told: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not told():
        assert time.monotonic() < deadline, "it did not come to it in time"
        time.sleep(0.02)


@pytest.fixture(params=["lmdb", "redis"])
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[LocalServices]:
    init_project(tmp_path)
    settings = [f"stream_partitions = {PARTITIONS}", "stream_wait_ms = 20"]
    with ExitStack() as stack:
        if request.param == "redis":
            need_redis()
            port = free_port()
            stack.enter_context(redis_server(tmp_path / "redis", port, "--save", ""))
            settings.append(f'online_url = "redis://127.0.0.1:{port}/0"')
        (tmp_path / "penstock.toml").write_text("\n".join(settings))
        opened = stack.enter_context(open_services(tmp_path))
        project = ps.Project("ticks", declarations=[VIEW])
        apply(opened.metadata, project, actor="tester", now=opened.clock.now())
        yield opened


@contextmanager
def streaming(services: LocalServices, **settings: object) -> Generator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "penstock.cli", "stream", "--home", str(services.home)]
    environment = {f"PENSTOCK_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, env={**os.environ, **environment}
    )  # fmt: skip
    with process as stream:
        try:
            yield stream
        finally:
            stream.send_signal(signal.SIGCONT)
            stream.terminate()


def stop(services: LocalServices, process: subprocess.Popen[bytes]) -> None:
    """Stop a process anywhere but in a write to SQLite: nobody takes a lock from a stopped one."""
    while True:
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.01)
        try:
            for path in services.home.rglob("*.db"):
                with closing(sqlite3.connect(path, timeout=0.1, isolation_level=None)) as database:
                    database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.01)
        else:
            return


def owners(services: LocalServices) -> list[int]:
    """The process that has each partition, 0 for none."""
    found = [services.metadata.read(Lease, lock_of(SPACE, slot)) for slot in range(PARTITIONS)]
    return [one.process_id if one is not None and one.holder else 0 for one in found]


def is_fresh(services: LocalServices, sent: int) -> bool:
    """Whether every event is in a stored batch, and every partition holds every batch."""
    batches = services.metadata.find(Batch, where={"state": "stored"})
    if sum(batch.read for batch in batches) != sent:
        return False
    partitions = layout_of(services.online, SPACE).partitions
    return set(marks_of(services.online, SPACE, partitions)) == {batches[-1].number}


def check(services: LocalServices, sent: int) -> None:
    groups = sent // EVENTS
    good = groups * sum(index % 10 > 0 for index in range(EVENTS - 1))
    raw = services.tables.scan("raw/ticks").collect()
    assert raw.height == raw.select("symbol", "ts").unique().height == good
    batches = services.metadata.find(Batch)
    assert [batch.number for batch in batches] == list(range(1, len(batches) + 1))
    assert sum(batch.read for batch in batches) == sent
    assert sum(batch.duplicates for batch in batches) == groups
    at = int((BEGIN + timedelta(days=30)).timestamp() * 1e6)
    times = np.where(np.arange(len(KEYS)) % 2, at, 0)
    values, as_of = OnlineReader(services.online, [VIEW]).read([*KEYS], times)
    spine = pl.DataFrame({"symbol": [*KEYS], "at": as_of}).with_columns(
        pl.col("at").cast(pl.Datetime("us", "UTC"))
    )
    expected = point_in_time(services.tables, [VIEW], spine).select(VIEW.names)
    assert pl.DataFrame(values, schema=list(VIEW.names)).equals(
        expected.cast(pl.Float64).fill_null(float("nan"))
    )


@pytest.mark.slow
def test_any_of_two_may_be_killed_at_any_moment(services: LocalServices) -> None:
    dice = random.Random(7)  # noqa: S311 - when to kill, nothing secret
    events = Events(services)
    with ExitStack() as lives:
        living = [lives.enter_context(streaming(services)) for _ in range(2)]
        events.send()
        wait_until(lambda: is_fresh(services, events.sent))
        for _ in range(KILLS):
            for _ in range(dice.randrange(1, 4)):
                events.send()
                time.sleep(dice.uniform(0.0, 0.1))
            victim = dice.randrange(2)
            living[victim].kill()
            living[victim].wait()
            # The other takes everything over while the killed one is away.
            wait_until(lambda: is_fresh(services, events.sent))
            assert set(owners(services)) == {living[1 - victim].pid}
            living[victim] = lives.enter_context(streaming(services))
        wait_until(lambda: set(owners(services)) == {one.pid for one in living})
        events.send()
        wait_until(lambda: is_fresh(services, events.sent))
    assert owners(services) == [0] * PARTITIONS, "who stops in good order lets go"
    check(services, events.sent)


@pytest.mark.slow
def test_a_stopped_process_is_replaced_and_writes_nothing_when_it_goes_on(
    services: LocalServices,
) -> None:
    events = Events(services)
    with streaming(services) as stopped, ExitStack() as others:
        for _ in range(4):
            events.send()
            wait_until(lambda: is_fresh(services, events.sent))
        # More than it can take in at once: it is stopped in the middle of something.
        for _ in range(10):
            events.send()
        time.sleep(0.1)
        stop(services, stopped)
        tokens = {lease.name: lease.token for lease in services.metadata.find(Lease)}
        other = others.enter_context(streaming(services))
        wait_until(lambda: set(owners(services)) == {other.pid})
        wait_until(lambda: is_fresh(services, events.sent))
        after = {lease.name: lease.token for lease in services.metadata.find(Lease)}
        assert all(after[name] > tokens[name] for name in tokens if name.startswith("online/"))
        stopped.send_signal(signal.SIGCONT)
        for _ in range(4):
            events.send()
            wait_until(lambda: is_fresh(services, events.sent))
        wait_until(lambda: set(owners(services)) == {other.pid, stopped.pid})
        events.send()
        wait_until(lambda: is_fresh(services, events.sent))
    check(services, events.sent)


@pytest.mark.slow
def test_another_number_of_partitions_under_load(services: LocalServices) -> None:
    """Each start wants another number; one start is killed while it builds."""
    events = Events(services)
    dice = random.Random(3)  # noqa: S311 - when to kill, nothing secret
    with streaming(services, stream_partitions=1):
        for _ in range(3):
            events.send()
        wait_until(lambda: is_fresh(services, events.sent))
        assert layout_of(services.online, SPACE).partitions == 1
        reader = OnlineReader(services.online, [VIEW])
        before = reader.read_settled([*KEYS], 0).seen
        for count in (3, 2, 5):
            with streaming(services, stream_partitions=count) as stream:
                time.sleep(dice.uniform(0.3, 1.5))
                stream.kill()
            with streaming(services, stream_partitions=count):
                while layout_of(services.online, SPACE).partitions != count:
                    events.send()
                    time.sleep(0.2)
                    now = reader.read_settled([*KEYS], 0).seen
                    pairs = zip(before, now, strict=True)
                    assert all(old["recent"] <= new["recent"] for old, new in pairs)
                    before = now
                wait_until(lambda: is_fresh(services, events.sent))
                states = list(partition_states(services))
                assert [one.of for one in states] == [count] * count
                assert {one.waiting for one in states} == {0}
    check(services, events.sent)
