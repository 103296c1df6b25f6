"""Events into online features by one consumer and by two, in the embedded store and in Redis.

Every consumer has one core to itself, so that the second adds one: a single consumer would else use
what the other has left, and nothing would be seen of what sharing costs or brings.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import psutil

import penstock as ps
from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileLocks
from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.adapters.redis import RedisOnlineStore
from penstock.features import built_to, marks_of, refresh, space_of
from penstock.plan import apply
from penstock.records import Batch
from penstock.runtime import init_project, open_services
from penstock.testing.ports import free_port
from penstock.testing.redis_server import redis_server

from .figure import Figure

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

    from penstock.ports import OnlineStore
    from penstock.runtime import LocalServices

ENTITIES, BATCH = 10_000, 1_000
DAY_US = 24 * 3_600_000_000
WINDOWS = ("1h", "1d", "7d")
PATIENCE_S = 120.0
FOLDED = (
    f"events/s; {ENTITIES:,} entities, 3 windows x 5 aggregates, each batch of {BATCH:,} durable "
    "in each partition before the next"
)
STREAMED = "events/s through 'penstock stream': taken in by one process, folded by all"


class Way(NamedTuple):
    """How the work is done.

    Attributes:
        consumers: Processes.
        partitions: Of the view.
        redis: Address; empty for the embedded store.
        apart: Whether each process has an embedded store of its own.
    """

    consumers: int
    partitions: int
    redis: str = ""
    apart: bool = False

    @property
    def words(self) -> str:
        """It in words."""
        store = "Redis" if self.redis else "embedded"
        who = f"{self.consumers} consumer" + "s" * (self.consumers > 1)
        parts = f"{self.partitions} partition" + "s" * (self.partitions > 1)
        return f"{store}, {who}, {parts}" + ", an environment each" * self.apart


class Rates(NamedTuple):
    """Events in a second.

    Attributes:
        by_clock: That went by.
        by_processor: That the busiest consumer was at work: on a machine that has other work too,
            this tells more.
    """

    by_clock: float
    by_processor: float


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    if shutil.which("redis-server") is None:
        raise SystemExit("bench partitions needs redis-server; install it.")
    batches, events, rounds = (30, 20_000, 1) if quick else (60, 50_000, 2)
    figures: list[Figure] = []
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder)
        for name, count in (("first", 1), ("all", batches)):
            _ingest(DeltaTables(home / name), count)
        with redis_server(home / "redis", port, "--save", ""):
            url = f"redis://127.0.0.1:{port}/0"
            ways = [
                Way(consumers, partitions, redis)
                for redis in ("", f"{url}#fold-")
                for consumers, partitions in ((1, 1), (1, 2), (2, 2))
            ]
            ways.insert(3, Way(2, 2, apart=True))
            for number, way in enumerate(ways):
                taken = [_folded(way, home, f"{number}-{n}", batches) for n in range(rounds)]
                figures += _figures(f"{way.words}: raw table to online", FOLDED, taken)
            for redis, consumers in itertools.product(("", f"{url}#stream-"), (1, 2)):
                way = Way(consumers, 2, redis)
                name = f"{consumers}{bool(redis)}"
                taken = [_streamed(way, home / f"{name}-{n}", n, events) for n in range(rounds)]
                figures += _figures(f"{way.words}: event log to online", STREAMED, taken)
    return figures


def _figures(what: str, note: str, taken: list[Rates]) -> list[Figure]:
    shown = (
        (what, [one.by_clock for one in taken]),
        (f"{what}, by processor time", [one.by_processor for one in taken]),
    )
    return [
        Figure(
            what=name,
            ours=statistics.median(rates),
            unit="1/s",
            spread=(min(rates), max(rates)),
            note=note,
        )
        for name, rates in shown
    ]


def _folded(way: Way, home: Path, name: str, batches: int) -> Rates:
    """Fold batches that are in the raw table, each in a durable transaction of its own."""
    folder = home / name
    os.environ["POLARS_MAX_THREADS"] = "1"  # read by the consumers, which have one core
    context = multiprocessing.get_context("spawn")
    ready, spent = context.Barrier(way.consumers + 1), context.Queue()
    children = [
        context.Process(target=_consume, args=(ready, spent, home, folder, way, number, batches))
        for number in range(way.consumers)
    ]
    for child in children:
        child.start()
    ready.wait()
    start = time.perf_counter()
    ready.wait()
    took_s = time.perf_counter() - start
    busiest_s = max(spent.get() for _ in children)
    for child in children:
        child.join()
    return Rates((batches - 1) * BATCH / took_s, (batches - 1) * BATCH / busiest_s)


def _consume(  # noqa: PLR0913, PLR0917 - a process is given all it needs
    ready: Barrier,
    spent: Queue[float],
    home: Path,
    folder: Path,
    way: Way,
    number: int,
    batches: int,
) -> None:
    """Build from the first batch, then fold the others, in the partitions of one consumer."""
    psutil.Process().cpu_affinity([number])
    store: OnlineStore
    if way.redis:
        store = RedisOnlineStore(f"{way.redis}{folder.name}")
    else:
        store = LmdbOnlineStore(folder / (f"online-{number}" if way.apart else "online"))
    locks, view = FileLocks(folder / "locks"), _view(_source())
    own = range(number, way.partitions, way.consumers)
    before_s = 0.0
    for name, rows in (("first", BATCH), ("all", 1)):
        tables, before_s = DeltaTables(home / name), time.process_time()
        refresh(
            tables, store, locks, view, chunk_rows=rows,
            partitions=way.partitions, slots=lambda _, __: own,
        )  # fmt: skip
        ready.wait()
    spent.put(time.process_time() - before_s)
    marks = marks_of(store, space_of(view), way.partitions)
    assert all(marks[slot] == batches for slot in own)
    store.close()


def _streamed(way: Way, home: Path, turn: int, events: int) -> Rates:
    """Events on the log, through as many ``penstock stream`` as there are consumers."""
    init_project(home)
    settings = [f"stream_partitions = {way.partitions}"]
    if way.redis:
        settings.append(f'online_url = "{way.redis}{way.consumers}-{turn}"')
    (home / "penstock.toml").write_text("\n".join(settings))
    source = _source()
    with open_services(home) as services, ExitStack() as stack:
        project = ps.Project("bench", declarations=[_view(source)])
        apply(services.metadata, project, actor="bench", now=services.clock.now())
        command = [sys.executable, "-m", "penstock.cli", "stream", "--home", str(home)]
        processes: list[psutil.Process] = []
        for number in range(way.consumers):
            process = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            processes.append(psutil.Process(process.pid))
            processes[-1].cpu_affinity([number])
            stack.callback(process.terminate)
        _publish(services, source, BATCH, seed=0)
        _wait(services, BATCH)
        time.sleep(3.0)  # until the processes have shared out what there is
        _publish(services, source, events, seed=1)
        start, before_s = time.perf_counter(), [_spent_s(one) for one in processes]
        _wait(services, BATCH + events)
        took_s = time.perf_counter() - start
        pairs = zip(processes, before_s, strict=True)
        busiest_s = max(_spent_s(one) - before for one, before in pairs)
    return Rates(events / took_s, events / busiest_s)


def _spent_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _publish(services: LocalServices, source: ps.Source, count: int, *, seed: int) -> None:
    rows = _events(count, seed).with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
    payloads = [json.dumps(row).encode() for row in rows.iter_rows(named=True)]
    for start in range(0, count, 10_000):
        services.log.publish(source.topic, payloads[start : start + 10_000])


def _wait(services: LocalServices, events: int) -> None:
    """Until so many events are in every partition."""
    space, end_s = space_of(_view(_source())), time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        batches = services.metadata.find(Batch, where={"state": "stored"})
        read = sum(batch.read for batch in batches)
        if read == events and built_to(services.online, space) == batches[-1].number:
            return
        time.sleep(0.05)
    raise SystemExit("bench partitions: the stream did not come to an end in time.")


def _ingest(tables: DeltaTables, batches: int) -> None:
    for number in range(1, batches + 1):
        rows = _events(BATCH, number).with_columns(
            pl.lit(number, dtype=pl.Int64).alias("_batch"),
            pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"),
            pl.lit(str(number)).alias("_batch_id"),
            pl.col("ts").alias("_arrived_at"),
        )
        tables.append("raw/ticks", rows, app="raw/ticks", number=number)


def _events(count: int, seed: int) -> pl.DataFrame:
    """Thirty days of events, in the order of their times."""
    rng = np.random.default_rng(seed)
    day = 400 * DAY_US + (seed % 30) * DAY_US
    times = np.sort(day + rng.integers(0, DAY_US, count))
    return pl.DataFrame(
        {
            "id": rng.integers(0, ENTITIES, count),
            "ts": pl.Series(times).cast(pl.Datetime("us", "UTC")),
            "x": rng.normal(size=count),
        }
    )


def _source() -> ps.Source:
    return ps.Source(
        "ticks",
        entity=ps.Entity("id", dtype=ps.Int64),
        timestamp="ts",
        schema={"id": ps.Int64, "ts": ps.Timestamp, "x": ps.Float64},
    )


def _view(source: ps.Source) -> ps.FeatureView:
    makers = (ps.sum, ps.mean, ps.min, ps.max)
    features = [make("x", over=over) for over in WINDOWS for make in makers]
    counts = [ps.count(over=over) for over in WINDOWS]
    return ps.FeatureView("tiles", source=source, features=[*features, *counts])
