"""Events into online features, and reads of them, in the embedded store and in Redis."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import redis

import penstock as ps
from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.adapters.redis import RedisOnlineStore
from penstock.algebra import Events, compile_view, fold
from penstock.features import OnlineReader, space_of
from penstock.testing.ports import free_port
from penstock.testing.redis_server import redis_server

from .figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.ports import OnlineStore

ENTITIES, BATCH = 10_000, 1_000
HOUR_US = 3_600_000_000
START_US = 400 * 24 * HOUR_US
COLUMNS = [f"f{i}" for i in range(10)]
FLOORS = {"embedded": 50_000, "Redis": 40_000}


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    if shutil.which("redis-server") is None:
        raise SystemExit("bench events needs redis-server; install it.")
    rounds, calls = (60, 300) if quick else (300, 2_000)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder)
        with redis_server(home / "redis", port, "--save", ""):
            url = f"redis://127.0.0.1:{port}"
            stores: dict[str, OnlineStore] = {
                "embedded": LmdbOnlineStore(home / "online"),
                "Redis": RedisOnlineStore(url),
            }
            figures = [_events(name, store, rounds) for name, store in stores.items()]
            figures += _reads(stores["Redis"], port, calls)
            for store in stores.values():
                store.close()
    return figures


def _events(name: str, store: OnlineStore, rounds: int) -> Figure:
    """Fold and store batches of a thousand events, as a refresh does it, durable one by one."""
    view = _view("tiles", [ps.sum, ps.mean, ps.min, ps.max], ("1h", "1d", "7d"))
    program, space = compile_view(view), space_of(view)
    rng = np.random.default_rng(7)
    times: list[float] = []
    for number in range(1, rounds + 1):
        keys = rng.integers(0, ENTITIES, BATCH)
        # Thirty days go by in all rounds, so that tiles fall out of the windows too.
        at = START_US + number * (30 * 24 * HOUR_US // rounds) + np.arange(BATCH)
        start = time.perf_counter()
        known, codes = np.unique(keys, return_inverse=True)
        encoded = [int(key).to_bytes(8, "big") for key in known]
        events = Events(codes=codes.astype(np.int64), times=at,
                        values=(np.ones(BATCH), rng.normal(size=BATCH)))  # fmt: skip
        folded = fold(program, store.get(space, encoded), events)
        store.write(space, dict(zip(encoded, folded, strict=True)), progress=number)
        times.append(time.perf_counter() - start)
    rates = BATCH / np.array(times[len(times) // 3 :])
    return Figure(
        what=f"{name}: events/s, 3 windows x 5 aggregates, durable batches of 1,000",
        ours=float(np.median(rates)),
        unit="1/s",
        budget=FLOORS[name],
        spread=(float(rates.min()), float(rates.max())),
        note=f"{ENTITIES:,} entities, 30 days of events",
    )


def _reads(store: OnlineStore, port: int, calls: int) -> list[Figure]:
    view = ps.FeatureView("plain", source=_source(), features=[ps.last(c) for c in COLUMNS])
    program, space = compile_view(view), space_of(view)
    rng = np.random.default_rng(3)
    keys = [number.to_bytes(8, "big") for number in range(ENTITIES)]
    codes = np.arange(ENTITIES)
    values = tuple(rng.normal(size=ENTITIES) for _ in COLUMNS)
    events = Events(codes=codes, times=np.full(ENTITIES, START_US), values=values)
    packed = fold(program, [None] * ENTITIES, events)
    store.write(space, dict(zip(keys, packed, strict=True)), progress=1)
    figures: list[Figure] = []
    with contextlib.closing(redis.Redis(port=port, db=1)) as bare:
        bare.mset(dict(zip(keys, packed, strict=True)))
        for entities, budget in ((1, 1.3), (100, 1.5)):
            figures.append(_read(store, view, bare, keys, entities, budget, calls))
    return figures


def _read(  # noqa: PLR0913, PLR0917 - what is read, beside what, how often, within what
    store: OnlineStore,
    view: ps.FeatureView,
    bare: redis.Redis,
    keys: list[bytes],
    entities: int,
    budget: float,
    calls: int,
) -> Figure:
    reader, space = OnlineReader(store, [view]), space_of(view)
    rng = np.random.default_rng(5)
    mine: list[float] = []
    theirs: list[float] = []
    fetched: list[float] = []
    for _ in range(calls):
        asked = rng.integers(0, ENTITIES, entities).tolist()
        wanted = [keys[number] for number in asked]
        start = time.perf_counter()
        reader.read(asked, START_US)
        middle = time.perf_counter()
        if entities == 1:
            bare.get(wanted[0])
        else:
            bare.mget(wanted)
        end = time.perf_counter()
        store.get(space, wanted)
        fetched.append(time.perf_counter() - end)
        theirs.append(end - middle)
        mine.append(middle - start)
    plural = "entity" if entities == 1 else "entities"
    return Figure(
        what=f"Redis: 10 features of {entities} {plural}, p50",
        ours=float(np.median(mine)) * 1e6,
        unit="us",
        baseline=float(np.median(theirs)) * 1e6,
        baseline_name="bare GET" if entities == 1 else "bare MGET",
        budget=budget,
        note="the bare call fetches the same bytes and makes nothing of them; fetching them takes "
        f"our store {float(np.median(fetched)) * 1e6:.0f} us, the rest makes numbers of them",
    )


def _view(
    name: str, makers: list[Callable[..., ps.Aggregate]], windows: tuple[str, ...]
) -> ps.FeatureView:
    features = [make("f0", over=over) for over in windows for make in makers]
    return ps.FeatureView(
        name, source=_source(), features=[*features, *(ps.count(over=over) for over in windows)]
    )


def _source() -> ps.Source:
    return ps.Source(
        "events",
        entity=ps.Entity("id", dtype=ps.Int64),
        timestamp="ts",
        schema={"id": ps.Int64, "ts": ps.Timestamp} | dict.fromkeys(COLUMNS, ps.Float64),
    )
