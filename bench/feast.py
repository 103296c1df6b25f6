"""Joins, fills, online reads and events beside Feast 0.67, which runs in its own environment.

The embedded store stands beside Feast's SQLite, Redis beside Feast's Redis: one server for both.

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
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

import penstock as ps
from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileLocks
from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.adapters.redis import RedisOnlineStore
from penstock.features import OnlineReader, point_in_time, refresh
from penstock.testing.redis_server import redis_server

from .figure import Figure, timed
from .join import COLUMNS, ENTITIES, make_events, make_spine, stored
from .project import free_port

if TYPE_CHECKING:
    from penstock.ports import OnlineStore

INTERPRETER = "PENSTOCK_BENCH_FEAST"
PEER = Path(__file__).with_name("peers") / "feast_side.py"
PAIRS = {"sqlite": ("embedded", "SQLite"), "redis": ("Redis", "Redis")}
"""Where the features are, ours and Feast's, by the name of Feast's store."""
BUDGET_POINTS, BUDGET = 100_000, 1 / 30
LEAST_CALLS = 100
MICRO_BATCH = 1_000
NOW_US = 40 * 24 * 3_600_000_000


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    interpreter = os.environ.get(INTERPRETER)
    if not interpreter:
        how = (__doc__ or "").partition("\n\n")[2]
        raise SystemExit(f"{INTERPRETER} names no interpreter.\n{how}")
    events, points = (100_000, 10_000) if quick else (1_000_000, 100_000)
    runs, calls = (1, 500) if quick else (3, 2_000)
    if shutil.which("redis-server") is None:
        raise SystemExit("bench feast needs redis-server; install it.")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder)
        raw, spine = make_events(events, COLUMNS), make_spine(points)
        raw.write_parquet(home / "events.parquet")
        spine.write_parquet(home / "spine.parquet")
        (home / "sizes.json").write_text(json.dumps({"runs": runs, "calls": calls}))
        with redis_server(home / "redis-server", port, "--save", ""):
            theirs = _theirs(interpreter, home, port)
            mine = _ours(home, port, raw, spine, runs=runs, calls=calls)
    return _figures(mine, theirs, events=events, points=points)


def _theirs(interpreter: str, home: Path, port: int) -> dict[str, float]:
    done = subprocess.run(
        [interpreter, str(PEER), str(home), str(port)],
        capture_output=True, text=True, check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"Feast failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _ours(  # noqa: PLR0913 - where, over what, how often
    home: Path, port: int, raw: pl.DataFrame, spine: pl.DataFrame, *, runs: int, calls: int
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
    found: dict[str, float] = {"join_s": statistics.median(joins), "join_rows": rows}
    locks = FileLocks(home / "locks")
    with (
        closing(LmdbOnlineStore(home / "online")) as lmdb,
        closing(RedisOnlineStore(f"redis://127.0.0.1:{port}/1")) as redis,
    ):
        stores: dict[str, OnlineStore] = {"sqlite": lmdb, "redis": redis}
        folds: dict[str, list[float]] = {kind: [] for kind in stores}
        for kind, store in stores.items():
            found[f"fill_{kind}_s"] = timed(partial(refresh, tables, store, locks, view))
        for number in range(2, 12):
            tables.append("raw/events", _fresh(number), app="raw/events", number=number)
            for kind, store in stores.items():
                folds[kind].append(timed(partial(refresh, tables, store, locks, view)))
        for kind, store in stores.items():
            found[f"push_{kind}_per_s"] = MICRO_BATCH / statistics.median(folds[kind])
            reader = OnlineReader(store, [view])
            for entities in (1, 100):
                name = f"read_{kind}_{entities}"
                took, worked = np.median(_read(reader, entities, calls), axis=0) * 1e6
                found |= {f"{name}_us": took, f"{name}_cpu_us": worked}
    return found


def _fresh(number: int) -> pl.DataFrame:
    """A thousand events of a thousand entities, newer than all before."""
    rng = np.random.default_rng(number)
    frame = {
        "id": (np.arange(MICRO_BATCH) + number * MICRO_BATCH) % ENTITIES,
        "ts": np.full(MICRO_BATCH, NOW_US + number),
    } | {name: rng.normal(size=MICRO_BATCH) for name in COLUMNS}
    stamped = pl.DataFrame(frame).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    return stored(stamped, number)


def _read(reader: OnlineReader, entities: int, calls: int) -> list[tuple[float, float]]:
    """Seconds, and processor seconds, until there is a dictionary of lists, as Feast is asked."""
    rng = np.random.default_rng(5)
    spent: list[tuple[float, float]] = []
    for _ in range(max(calls // entities, LEAST_CALLS)):
        keys = rng.integers(0, ENTITIES, entities).tolist()
        start, worked = time.perf_counter(), time.process_time()
        values, _ = reader.read(keys, NOW_US)
        answer = dict(zip(reader.names, values.T.tolist(), strict=True))
        spent.append((time.perf_counter() - start, time.process_time() - worked))
        assert len(answer) == len(COLUMNS)
    return spent[5:]


def _figures(
    mine: dict[str, float], theirs: dict[str, float], *, events: int, points: int
) -> list[Figure]:
    lost = points - int(theirs["join_rows"])
    figures = [
        Figure(
            what=f"as of a time: {points:,} points x {events:,} rows x {len(COLUMNS)} columns",
            ours=mine["join_s"], unit="s", baseline=theirs["join_s"],
            baseline_name="Feast 0.67, its default engine",
            budget=BUDGET if points == BUDGET_POINTS else None,
            note=f"Penstock returns {int(mine['join_rows']):,} rows, Feast {points - lost:,}: "
            f"{lost:,} of the rows that were asked for are missing there",
        ),
    ]  # fmt: skip
    for kind, (own, other) in PAIRS.items():
        figures.append(
            Figure(
                what=f"{own}: filled with the newest of {events:,} rows",
                ours=mine[f"fill_{kind}_s"], unit="s", baseline=theirs[f"fill_{kind}_s"],
                baseline_name=f"Feast materialize into {other}",
            )
        )  # fmt: skip
        figures.append(
            Figure(
                what=f"{own}: events, batches of 1,000", ours=mine[f"push_{kind}_per_s"],
                unit="1/s", baseline=theirs[f"push_{kind}_per_s"],
                baseline_name=f"Feast push to {other}, which only overwrites",
            )
        )  # fmt: skip
        figures += [_read_figure(kind, entities, mine, theirs) for entities in (1, 100)]
    return figures


def _read_figure(
    kind: str, entities: int, mine: dict[str, float], theirs: dict[str, float]
) -> Figure:
    (own, other), name = PAIRS[kind], f"read_{kind}_{entities}"
    ours_us, peer_us = mine[f"{name}_cpu_us"], theirs[f"{name}_cpu_us"]
    return Figure(
        what=f"{own}: 10 features of {entities} entit{'y' if entities == 1 else 'ies'}, p50",
        ours=mine[f"{name}_us"], unit="us", baseline=theirs[f"{name}_us"],
        baseline_name=f"Feast on {other}",
        note=f"processor time of the reading process {ours_us:,.0f} us against {peer_us:,.0f}, "
        f"{peer_us / ours_us:.1f} times: there other work on the machine tells least",
    )  # fmt: skip
