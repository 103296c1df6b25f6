"""Joins, online reads and event ingestion beside Feast 0.67, which runs in its own environment.

PENSTOCK_BENCH_FEAST names the interpreter of that environment:

    python3.11 -m venv feast && feast/bin/pip install 'feast[redis]==0.67.0'
    PENSTOCK_BENCH_FEAST=feast/bin/python python -m bench feast
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

import penstock as ps
from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileLocks
from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.features import OnlineReader, point_in_time, refresh

from .figure import Figure, timed
from .join import COLUMNS, ENTITIES, make_events, make_spine, stored
from .project import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERPRETER = "PENSTOCK_BENCH_FEAST"
PEER = Path(__file__).with_name("peers") / "feast_side.py"
MICRO_BATCH = 1_000
NOW_US = 40 * 24 * 3_600_000_000


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    interpreter = os.environ.get(INTERPRETER)
    if not interpreter:
        raise SystemExit(f"{INTERPRETER} names no interpreter.{(__doc__ or '').partition('.')[2]}")
    events, points = (100_000, 10_000) if quick else (1_000_000, 100_000)
    runs, calls = (1, 500) if quick else (3, 2_000)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder)
        raw, spine = make_events(events, COLUMNS), make_spine(points)
        raw.write_parquet(home / "events.parquet")
        spine.write_parquet(home / "spine.parquet")
        (home / "sizes.json").write_text(json.dumps({"runs": runs, "calls": calls}))
        theirs = _theirs(interpreter, home)
        mine = _ours(home, raw, spine, runs=runs, calls=calls)
    return _figures(mine, theirs, events=events, points=points)


def _theirs(interpreter: str, home: Path) -> dict[str, float]:
    with _redis(home) as port:
        done = subprocess.run(
            [interpreter, str(PEER), str(home), str(port)],
            capture_output=True, text=True, check=False,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"Feast failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def _redis(home: Path) -> Iterator[int]:
    """A Redis of our own, which keeps nothing."""
    server = shutil.which("redis-server")
    if server is None:
        raise SystemExit("bench feast needs redis-server; install it.")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(home)]
    with subprocess.Popen([server, *options], stdout=subprocess.DEVNULL) as child:
        try:
            time.sleep(0.5)
            yield port
        finally:
            child.terminate()
            child.wait(10)


def _ours(
    home: Path, raw: pl.DataFrame, spine: pl.DataFrame, *, runs: int, calls: int
) -> dict[str, float]:
    source = ps.Source(
        "events",
        entity=ps.Entity("id", dtype=ps.Int64),
        timestamp="ts",
        schema={"id": ps.Int64, "ts": ps.Timestamp} | dict.fromkeys(COLUMNS, ps.Float64),
    )
    view = ps.FeatureView("last", source=source, features=[ps.last(name) for name in COLUMNS])
    tables = DeltaTables(home / "tables")
    tables.append("raw/events", stored(raw), app="raw/events", number=1)
    rows = point_in_time(tables, [view], spine).height
    joins = [timed(lambda: point_in_time(tables, [view], spine)) for _ in range(runs)]
    store = LmdbOnlineStore(home / "online")
    locks = FileLocks(home / "locks")
    refresh(tables, store, locks, view)
    folds: list[float] = []
    for number in range(2, 12):
        tables.append("raw/events", _fresh(number), app="raw/events", number=number)
        folds.append(timed(lambda: refresh(tables, store, locks, view)))
    reader = OnlineReader(store, [view])
    reads = {entities: _read(reader, entities, calls) for entities in (1, 100)}
    store.close()
    return {
        "join_s": statistics.median(joins),
        "join_rows": rows,
        "fold_per_s": MICRO_BATCH / statistics.median(folds),
        "read_1_us": reads[1],
        "read_100_us": reads[100],
    }


def _fresh(number: int) -> pl.DataFrame:
    """A thousand events of a thousand entities, newer than all before."""
    rng = np.random.default_rng(number)
    frame = {
        "id": (np.arange(MICRO_BATCH) + number * MICRO_BATCH) % ENTITIES,
        "ts": np.full(MICRO_BATCH, NOW_US + number),
    } | {name: rng.normal(size=MICRO_BATCH) for name in COLUMNS}
    stamped = pl.DataFrame(frame).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    return stored(stamped, number)


def _read(reader: OnlineReader, entities: int, calls: int) -> float:
    rng = np.random.default_rng(5)
    spent: list[float] = []
    for _ in range(max(calls // entities, 20)):
        keys = rng.integers(0, ENTITIES, entities).tolist()
        start = time.perf_counter()
        reader.read(keys, NOW_US)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[5:]) * 1e6


def _figures(
    mine: dict[str, float], theirs: dict[str, float], *, events: int, points: int
) -> list[Figure]:
    lost = points - int(theirs["join_rows"])
    figures = [
        Figure(
            what=f"as of a time: {points:,} points x {events:,} rows x {len(COLUMNS)} columns",
            ours=mine["join_s"], unit="s", baseline=theirs["join_s"],
            baseline_name="Feast 0.67, its default engine", budget=1 / 30,
            note=f"Penstock returns {int(mine['join_rows']):,} rows, Feast {points - lost:,}: "
            f"{lost:,} of the rows that were asked for are missing there",
        ),
    ]  # fmt: skip
    for kind in ("sqlite", "redis"):
        figures += [
            Figure(
                what=f"read 10 features of {entities} entit{'y' if entities == 1 else 'ies'}, p50",
                ours=mine[f"read_{entities}_us"], unit="us",
                baseline=theirs[f"read_{kind}_{entities}_us"], baseline_name=f"Feast on {kind}",
            )
            for entities in (1, 100)
        ]  # fmt: skip
        figures.append(
            Figure(
                what="events into the online store, batches of 1,000", ours=mine["fold_per_s"],
                unit="1/s", baseline=theirs[f"push_{kind}_per_s"],
                baseline_name=f"Feast push to {kind}, which only overwrites",
            )
        )  # fmt: skip
    return figures
