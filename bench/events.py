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

from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.adapters.redis import RedisOnlineStore
from penstock.algebra import Events, compile_view, fold
from penstock.features import OnlineReader, space_of
from penstock.testing.ports import free_port
from penstock.testing.redis_server import redis_server

from .figure import Figure
from .online import ENTITIES, HOUR_US, NOW_US, declared, fill

if TYPE_CHECKING:
    import penstock as ps
    from penstock.ports import OnlineStore

BATCH = 1_000
START_US = 400 * 24 * HOUR_US
FLOORS = {"embedded": 50_000, "Redis": 40_000}
READ_BUDGETS: dict[int, float] = {1: 1.3, 100: 1.5}
"""How many times a bare call a read of the newest values of so many entities may take."""


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
            figures += _reads(home, port, calls)
            for store in stores.values():
                store.close()
    return figures


def _events(name: str, store: OnlineStore, rounds: int) -> Figure:
    """Fold and store batches of a thousand events, as a refresh does it, durable one by one."""
    _, view = declared()
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


def _reads(home: Path, port: int, calls: int) -> list[Figure]:
    """Reads from a database of its own: the spaces of the events above are other states."""
    plain, windows = declared()
    figures: list[Figure] = []
    with (
        contextlib.closing(RedisOnlineStore(f"redis://127.0.0.1:{port}/1")) as store,
        contextlib.closing(redis.Redis(port=port, db=2)) as bare,
    ):
        fill(home, store, [plain, windows])
        for view in (plain, windows):
            bare.mset(dict(store.items(space_of(view))))
            for entities, budget in READ_BUDGETS.items():
                within = budget if view is plain else None
                figures.append(_read(store, view, bare, entities, within, calls))
    return figures


def _read(  # noqa: PLR0913, PLR0917 - what is read, beside what, how often, within what
    store: OnlineStore,
    view: ps.FeatureView,
    bare: redis.Redis,
    entities: int,
    budget: float | None,
    calls: int,
) -> Figure:
    reader, space = OnlineReader(store, [view]), space_of(view)
    rng = np.random.default_rng(5)
    mine: list[float] = []
    theirs: list[float] = []
    fetched: list[float] = []
    for _ in range(calls):
        asked = rng.integers(0, ENTITIES, entities).tolist()
        wanted = [number.to_bytes(8, "big") for number in asked]
        start = time.perf_counter()
        reader.read(asked, NOW_US)
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
    ours_us, bare_us, fetched_us = (float(np.median(one)) * 1e6 for one in (mine, theirs, fetched))
    size_bytes = np.mean([len(value) for _, value in store.items(space)])
    return Figure(
        what=f"Redis: {view.name}, {len(view.features)} features of {entities} {plural}, p50",
        ours=ours_us,
        unit="us",
        baseline=bare_us,
        baseline_name="bare GET" if entities == 1 else "bare MGET",
        budget=budget,
        note=f"the bare call fetches the same bytes, {size_bytes:,.0f} an entity, and makes "
        f"nothing of them; fetching them takes our store {fetched_us:.0f} us, the rest "
        "makes numbers of them",
    )
