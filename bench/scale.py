"""What a hundred thousand entities cost, and how the cost grows from 1e4 to 1e6.

Files into the raw table, that into the online store, reads in process and through one serving
process (needs wrk), and a sample computed again. What is written with ``--json`` is drawn by
``python -m bench.scale_picture``.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

import numpy as np
import polars as pl
import psutil

from penstock.control import check_reads, check_view
from penstock.features import OnlineReader, refresh
from penstock.ingest import ingest_files
from penstock.plan import Catalogue
from penstock.runtime import open_services

from .figure import Figure, apart, peak_mb
from .load import need_wrk, script, wrk
from .project import ask, echoing, run, serving, token_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.ports import OnlineStore

    from .figure import Apart
    from .load import Load
    from .project import Server

OVER_US = 7 * 24 * 3_600_000_000
EVENTS_EACH = 10
COLUMNS = [f"f{i}" for i in range(5)]
FILE_ROWS = 1_000_000
READ, ROUNDS = 1_000, 50
CHECKED = 2_000
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
QUICK_SIZES = (10_000, 30_000, 100_000)
CONNECTIONS = 16
ROWS = {1: 20_000, 100: 500}
"""How many requests there are to choose from, by the entities of each; few would stay in caches."""
FEW = 1_000
LOADED, BUILT = "files into the raw table", "into the online store"
READ_AT_ONCE, READ_ALONE = "read 1,000 at once", "the same without LMDB's gets"
HTTP = {1: "a request for 1 over HTTP", 100: "a request for 100 over HTTP"}
SERVING, PEAK = "memory of the serving process", "peak memory of loading, serving and checking"
MEASURED = 100_000
MEMORY_MB = 4 * 1024
LINEAR = 1.3
"""How much more than in proportion an entity may cost where there are many."""
DECLARED = """
import penstock as ps

columns = [f"f{i}" for i in range(5)]
events = ps.Source(
    "events", entity=ps.Entity("id", dtype=ps.Int64), timestamp="ts",
    schema={"id": ps.Int64, "ts": ps.Timestamp} | dict.fromkeys(columns, ps.Float64),
    batch=ps.Files("data/*.parquet"))
wide = ps.FeatureView(
    "wide", source=events,
    features=[make(name, over=over) for over in ("1d", "7d") for name in columns
              for make in (ps.mean, ps.max)])
all20 = ps.FeatureService("all20", features=[wide])
"""


class Work(NamedTuple):
    """What a stage took once its process had done the same for a thousand entities.

    Attributes:
        seconds: How long.
        cpu_s: Processor time, of all threads: what else the machine does tells less on it.
        found: What the stage returned.
    """

    seconds: float
    cpu_s: float
    found: int


class Reads(NamedTuple):
    """Processor time of reads of a thousand entities at once in process, in microseconds of one.

    Attributes:
        whole_us: Of the whole read.
        store_us: What LMDB's own gets take of them.
    """

    whole_us: float
    store_us: float

    @property
    def own_us(self) -> float:
        """Without LMDB's gets."""
        return self.whole_us - self.store_us


class Asked(NamedTuple):
    """What wrk saw of requests alike.

    Attributes:
        load: Of the serving process.
        floor: Of an echo of the same bytes.
        cpu_us: Processor time of the serving process for a request, in microseconds.
    """

    load: Load
    floor: Load
    cpu_us: float


class Checked(NamedTuple):
    """What a sample said that was computed again from the raw table.

    Attributes:
        compared: How many values there were.
        unlike: How many of them differ.
    """

    compared: int
    unlike: int


class Cost(NamedTuple):
    """What one size cost.

    Attributes:
        entities: How many.
        ingest: From the files into the raw table.
        build: From there into the online store.
        reads: Reads in process.
        asked: Reads over HTTP, by the entities of a request.
        check: A sample computed again while the server runs: how many values differ.
        answered: A few of the rows that the server answered.
        serving_mb: Greatest resident size of the serving process.
    """

    entities: int
    ingest: Apart[Work]
    build: Apart[Work]
    reads: Reads
    asked: dict[int, Asked]
    check: Apart[Work]
    answered: Checked
    serving_mb: float

    @property
    def peak_mb(self) -> float:
        """Of whatever runs at one time: serving goes on while the check runs."""
        together = self.serving_mb + self.check.peak_mb
        return max(self.ingest.peak_mb, self.build.peak_mb, together)


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    need_wrk("scale")
    seconds = 2 if quick else 5
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        few = _made(Path(folder) / "few", FEW)
        costs = [cost_of(entities, few, seconds) for entities in (QUICK_SIZES if quick else SIZES)]
    figures: list[Figure] = []
    for place, cost in enumerate(costs):
        figures += _figures(cost, costs[0] if place else None)
    return figures


def cost_of(entities: int, few: Path, seconds: int) -> Cost:
    """Load, serve and check one size, each in processes of its own."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = _made(Path(folder) / "home", entities)
        warm = shutil.copytree(few, Path(folder) / "few")
        ingest, build = (apart(_work, stage, warm, home) for stage in (_ingest, _build))
        reads = apart(_read, home, entities).found
        with serving(home) as server:
            asked = _ask(home, server, entities, seconds)
            check = apart(_work, _check, warm, home)
            serving_mb = peak_mb(server.process_id)
        answered = apart(_check_answers, home).found  # written at the end of the server
    return Cost(entities, ingest, build, reads, asked, check, answered, serving_mb)


def _made(home: Path, entities: int) -> Path:
    """A project that has taken nothing in, and its files."""
    home.mkdir()
    run(home, "init")
    (home / "project.py").write_text(DECLARED, encoding="utf-8")
    run(home, "apply")
    apart(_write_files, home, entities)
    return home


def _work(stage: Callable[[Path], int], warm: Path, home: Path) -> Work:
    stage(warm)
    start, cpu = time.perf_counter(), time.process_time()
    found = stage(home)
    return Work(time.perf_counter() - start, time.process_time() - cpu, found)


def _write_files(home: Path, entities: int) -> None:
    """Ten events per entity over the last seven days, as they came: a million in a file."""
    rng = np.random.default_rng(7)
    rows, now_us = entities * EVENTS_EACH, time.time_ns() // 1_000
    (home / "data").mkdir()
    for number, start in enumerate(range(0, rows, FILE_ROWS)):
        places = np.arange(start, min(start + FILE_ROWS, rows))
        ages_us = (1 - (places + rng.random(len(places))) / rows) * OVER_US
        frame: dict[str, object] = {"id": places % entities, "ts": now_us - ages_us.astype("int64")}
        frame |= {name: rng.normal(size=len(places)) for name in COLUMNS}
        stamped = pl.DataFrame(frame).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
        stamped.write_parquet(home / "data" / f"{number:03}.parquet")


def _ingest(home: Path) -> int:
    """How many files were taken in."""
    with open_services(home) as services:
        return len(ingest_files(services, Catalogue.load(services.metadata).source("events")))


def _build(home: Path) -> int:
    """How many records were folded in."""
    with open_services(home) as services:
        view = Catalogue.load(services.metadata).view("wide")
        now_us = services.clock.now_us()
        built = refresh(services.tables, services.online, services.leases, view, now_us=now_us)
        return built.records


def _check(home: Path) -> int:
    """Compute a sample again from the raw table; how many values differ."""
    with open_services(home) as services:
        view = Catalogue.load(services.metadata).view("wide")
        report = check_view(services, view, at_us=services.clock.now_us(), sample=CHECKED)
    return sum(check.mismatches for check in report.checks)


def _check_answers(home: Path) -> Checked:
    """Compute again what the server has answered."""
    with open_services(home) as services:
        service = Catalogue.load(services.metadata).feature_service("all20")
        report = check_reads(services, service, from_us=0, to_us=services.clock.now_us())
    assert report is not None
    return Checked(
        sum(check.compared for check in report.checks),
        sum(check.mismatches for check in report.checks),
    )


def _read(home: Path, entities: int) -> Reads:
    with open_services(home) as services:
        view = Catalogue.load(services.metadata).view("wide")
        reader = OnlineReader(services.online, [view])
        return _reads(services.online, reader, entities, services.clock.now_us())


def _reads(store: OnlineStore, reader: OnlineReader, entities: int, now_us: int) -> Reads:
    """Whole reads, and the store's gets alone.

    Each is asked for keys that the other has not just brought to the processor's caches.
    """
    rng = np.random.default_rng(5)
    times: tuple[list[float], list[float]] = [], []
    with mock.patch.object(store, "look", wraps=store.look) as looked:
        for _ in range(ROUNDS):
            reader.read(rng.integers(0, entities, READ).tolist(), now_us)
    asks = [one.args[0] for one in looked.call_args_list]
    for asked in asks:
        keys = rng.integers(0, entities, READ).tolist()
        calls: tuple[Callable[[], object], ...] = (
            partial(reader.read, keys, now_us),
            partial(store.look, asked),
        )
        for found, call in zip(times, calls, strict=True):
            start = time.process_time()
            call()
            found.append(time.process_time() - start)
    return Reads(*(float(np.median(found)) * 1e6 / READ for found in times))


def _ask(home: Path, server: Server, entities: int, seconds: int) -> dict[int, Asked]:
    """Ask the serving process, and an echo before it."""
    token = token_of(home)
    url = f"{server.url}/v1/features/all20"
    rng = np.random.default_rng(5)
    found: dict[int, Asked] = {}
    for each, count in ROWS.items():
        rows = rng.integers(0, entities, (count, each)).tolist()
        bodies = [{"entities": {"id": row}} for row in rows]
        lua = script(home / "asked.lua", bodies, token)
        answer = home / "answer.json"
        answer.write_bytes(ask(url, bodies[0], token))
        with echoing(answer) as echo:
            floor = wrk(echo, lua, CONNECTIONS, seconds)
        before = _cpu_s(server)
        load = wrk(url, lua, CONNECTIONS, seconds)
        spent = _cpu_s(server) - before
        found[each] = Asked(load, floor, spent / (load.requests_per_s * seconds) * 1e6)
    return found


def _cpu_s(server: Server) -> float:
    times = psutil.Process(server.process_id).cpu_times()
    return float(times.user + times.system)


def _figures(cost: Cost, least: Cost | None) -> list[Figure]:
    what, at = f"{cost.entities:,} entities x 20 features", cost.entities
    beside = f"per entity of {least.entities:,}" if least else ""
    budget = LINEAR if least else None
    figures: list[Figure] = []
    for curve, ours, theirs in (
        (LOADED, cost.ingest, least and least.ingest),
        (BUILT, cost.build, least and least.build),
    ):
        figures.append(
            Figure(
                what=f"{what}: {curve}, per entity", ours=ours.found.cpu_s / at * 1e6, unit="us",
                baseline=theirs.found.cpu_s / least.entities * 1e6 if least and theirs else None,
                baseline_name=beside, budget=budget, curve=curve, at=at,
                note=f"processor time; {EVENTS_EACH} events each; {ours.found.seconds:.2f} s and "
                f"{ours.peak_mb:,.0f} MB in all",
            )
        )  # fmt: skip
    return [
        *figures,
        Figure(what=f"{what}: {READ_AT_ONCE}, per entity", ours=cost.reads.whole_us, unit="us",
               baseline=cost.reads.store_us, baseline_name="LMDB's own gets of as many",
               curve=READ_AT_ONCE, at=at, note="processor time in process"),
        Figure(what=f"{what}: {READ_ALONE}", ours=cost.reads.own_us, unit="us",
               baseline=least.reads.own_us if least else None, baseline_name=beside,
               budget=budget, curve=READ_ALONE, at=at),
        *_served(cost),
        Figure(what=f"{what}: {CHECKED:,} of them again from the raw table",
               ours=cost.check.found.cpu_s, unit="s",
               note="processor time"),
        Figure(what=f"{what}: values of those that are others online", unit="values",
               ours=cost.check.found.found, budget=0, note=f"of {CHECKED * 20:,}"),
        Figure(what=f"{what}: values of answers that are others in the raw table", unit="values",
               ours=cost.answered.unlike, budget=0,
               note=f"of {cost.answered.compared:,}, some of each second over HTTP"),
        Figure(what=f"{what}: {SERVING}", ours=cost.serving_mb, unit="MB", curve=SERVING, at=at,
               note="the mapped store among it"),
        Figure(what=f"{what}: {PEAK}", ours=cost.peak_mb, unit="MB", curve=PEAK, at=at,
               budget=MEMORY_MB if cost.entities <= MEASURED else None,
               note=f"building {cost.build.peak_mb:,.0f}; serving {cost.serving_mb:,.0f} and "
               f"checking beside it {cost.check.peak_mb:,.0f}"),
    ]  # fmt: skip


def _served(cost: Cost) -> list[Figure]:
    figures: list[Figure] = []
    for each, found in cost.asked.items():
        curve = HTTP[each]
        figures += [
            Figure(
                what=f"{cost.entities:,} entities x 20 features: {curve}",
                ours=found.load.requests_per_s, unit="1/s", baseline=found.floor.requests_per_s,
                baseline_name="echo on the same server",
                note=f"one worker, {CONNECTIONS} connections; p99 {found.load.p99_ms:.1f} ms, of "
                f"the echo {found.floor.p99_ms:.1f}",
            ),
            Figure(
                what=f"{cost.entities:,} entities x 20 features: {curve}, processor time",
                ours=found.cpu_us, unit="us", curve=curve, at=cost.entities,
            ),
        ]  # fmt: skip
    return figures
