"""Features by key over HTTP with wrk, beside the HTTP floor of the same server and ``feast serve``.

From LMDB, beside Feast on SQLite, and where there is a redis-server from Redis, beside Feast on
Redis; on demand too. PENSTOCK_BENCH_FEAST names the interpreter of an environment with Feast; see
``bench feast``. Without it, only the floor stands beside.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

import numpy as np
import polars as pl

from penstock.testing.redis_server import redis_server

from .figure import Figure
from .load import Load, need_wrk, script, wrk
from .project import ask, echoing, free_port, process, run, serving, token_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

INTERPRETER = "PENSTOCK_BENCH_FEAST"
PEER = Path(__file__).with_name("peers") / "feast_server.py"
ENTITIES, PER_ENTITY = 10_000, 3
COLUMNS = [f"f{i}" for i in range(10)]
CONNECTIONS = 16
BUDGETS = {1: 8_000, 100: 600}
BUDGET_P99_MS = 30.0
BODIES = 500
SERVICES = {
    "ten": "10 newest values",
    "mixed": "2 newest values and 10 windows, two views",
    "asked": "3 computed on demand, of two views and a request field",
}
START_US = 1_700_000_000_000_000
DECLARED = """
import penstock as ps

columns = [f"f{i}" for i in range(10)]
events = ps.Source(
    "events", entity=ps.Entity("id", dtype=ps.Int64), timestamp="ts",
    schema={"id": ps.Int64, "ts": ps.Timestamp} | dict.fromkeys(columns, ps.Float64),
    batch=ps.Files("data/*.parquet"))
newest = ps.FeatureView("newest", source=events, features=[ps.last(name) for name in columns])
makers = (ps.sum, ps.mean, ps.min, ps.max, ps.std)
windows = ps.FeatureView(
    "windows", source=events,
    features=[make("f0", over=over) for over in ("1h", "1d") for make in makers])
ten = ps.FeatureService("ten", features=[newest])
mixed = ps.FeatureService("mixed", features=[newest["last_f0", "last_f1"], windows])
ratios = ps.OnDemandView(
    "ratios", views=[newest, windows], request={"amount": ps.Float64},
    features={"usual": ps.col("amount") / ps.col("windows.mean_f0_1d"),
              "moved": ps.col("newest.last_f0") - ps.col("newest.last_f1"),
              "high": ps.col("amount") > ps.col("newest.last_f2")})
asked = ps.FeatureService("asked", features=[ratios])
"""


class Store(NamedTuple):
    """Where features are kept, ours and Feast's.

    Attributes:
        name: What ours is called.
        url: Our setting.
        peer: What Feast's is called.
        peer_redis: Feast's connection to Redis; empty for SQLite.
    """

    name: str
    url: str
    peer: str
    peer_redis: str = ""


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    need_wrk("feature_server")
    rounds, seconds = (1, 2) if quick else (3, 5)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder, ExitStack() as stack:
        home = Path(folder) / "home"
        _build(home)
        stores = [Store("LMDB", "lmdb", "SQLite")]
        if shutil.which("redis-server"):
            port = free_port()
            stack.enter_context(redis_server(Path(folder) / "redis", port, "--save", ""))
            address = f"127.0.0.1:{port}"
            stores.append(Store("Redis", f"redis://{address}", "Redis", f"{address},db=1"))
        for store in stores:
            with mock.patch.dict(os.environ, PENSTOCK_ONLINE_URL=store.url):
                run(home, "features", "build")
                with serving(home) as server, _feast(home, store) as feast:
                    for n in BUDGETS:
                        loads = _loads(home, n, server.url, feast, rounds=rounds, seconds=seconds)
                        figures += _figures(n, store, loads)
    return figures


def _build(home: Path) -> None:
    (home / "data").mkdir(parents=True)
    rng = np.random.default_rng(7)
    rows = ENTITIES * PER_ENTITY
    frame = {
        "id": np.tile(np.arange(ENTITIES), PER_ENTITY),
        "ts": START_US + rng.integers(0, 86_400_000_000, rows),
    } | {name: rng.normal(size=rows) for name in COLUMNS}
    stamped = pl.DataFrame(frame).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    stamped.write_parquet(home / "data" / "events.parquet")
    run(home, "init")
    (home / "project.py").write_text(DECLARED, encoding="utf-8")
    for arguments in (("apply",), ("ingest", "events")):
        run(home, *arguments)


def _loads(  # noqa: PLR0913 - who is asked, for how many, how often
    home: Path, entities: int, ours_at: str, feast: str | None, *, rounds: int, seconds: int
) -> dict[str, list[Load]]:
    """What wrk saw of each server, which take turns."""
    token = token_of(home)
    keys = np.random.default_rng(5).integers(0, ENTITIES, (BODIES, entities)).tolist()
    ours: list[dict[str, object]] = [
        {"entity": {"id": row[0]}} if entities == 1 else {"entities": {"id": row}} for row in keys
    ]
    asking = script(home / "ours.lua", ours, token)
    amounts: object = 80.0 if entities == 1 else [80.0] * entities
    fields = [{"request": {"amount": amounts}, **body} for body in ours]
    with_fields = script(home / "fields.lua", fields, token)
    features = f"{ours_at}/v1/features"
    addresses = {
        service: (f"{features}/{service}", with_fields if service == "asked" else asking)
        for service in SERVICES
    }
    answer = home / "answer.json"
    answer.write_bytes(ask(f"{features}/ten", ours[0], token))
    if feast:
        theirs = [
            {"features": [f"last:{name}" for name in COLUMNS], "entities": {"id": row}}
            for row in keys
        ]
        if b"NOT_FOUND" in ask(feast, theirs[0], token):
            raise SystemExit("feast serve does not find an entity that was materialised")
        addresses["feast"] = feast, script(home / "feast.lua", theirs, token)
    with echoing(answer) as echo:
        addresses["echo"] = echo, asking
        found: dict[str, list[Load]] = {name: [] for name in addresses}
        for _ in range(rounds):
            for name, (url, lua) in addresses.items():
                found[name].append(wrk(url, lua, CONNECTIONS, seconds))
    return found


@contextmanager
def _feast(home: Path, store: Store) -> Generator[str | None]:
    """A running ``feast serve`` over its store with the newest values, where there is one.

    Gives its address.
    """
    interpreter = os.environ.get(INTERPRETER)
    if not interpreter:
        yield None
        return
    repository = home / f"feast-{store.peer}"
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if not repository.exists():
        made = [str(PEER), str(repository), str(home / "data" / "events.parquet")]
        if store.peer_redis:
            made.append(store.peer_redis)
        done = subprocess.run(
            [interpreter, *made],
            capture_output=True, text=True, check=False, env=plain,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"Feast failed:\n{done.stderr}")
    port = free_port()
    serve = [str(Path(interpreter).with_name("feast")), "-c", str(repository), "serve"]
    options = ["-h", "127.0.0.1", "-p", str(port), "-w", "1", "--no-access-log"]
    options += ["--max-requests", "0", "--max-requests-jitter", "0"]  # else it restarts every 1,000
    with process([*serve, *options], f"http://127.0.0.1:{port}/health", wait_s=120):
        yield f"http://127.0.0.1:{port}/get-online-features"


def _figures(entities: int, store: Store, loads: Mapping[str, list[Load]]) -> list[Figure]:
    people = f"{store.name}: {'1 entity' if entities == 1 else f'{entities} entities'}"
    rate = {name: _median(found, "requests_per_s") for name, found in loads.items()}
    figures: list[Figure] = []
    for service, words in SERVICES.items():
        rates = [load.requests_per_s for load in loads[service]]
        p50, p99 = _median(loads[service], "p50_ms"), _median(loads[service], "p99_ms")
        figures += [
            Figure(
                what=f"{people}, {words}, {CONNECTIONS} connections", ours=rate[service],
                unit="1/s", baseline=rate["echo"], baseline_name="echo on the same server",
                budget=BUDGETS[entities], absolute=True, spread=(min(rates), max(rates)),
                note=f"p50 {p50:.2f} ms",
            ),
            Figure(
                what=f"{people}, {words}, p99", ours=p99, unit="ms", budget=BUDGET_P99_MS,
                baseline=_median(loads["echo"], "p99_ms"), absolute=True,
                baseline_name="echo on the same server",
            ),
        ]  # fmt: skip
    if "feast" in loads:
        p99 = _median(loads["feast"], "p99_ms")
        figures.append(
            Figure(
                what=f"{people}, {SERVICES['ten']}, beside Feast", ours=rate["ten"], unit="1/s",
                baseline=rate["feast"], baseline_name=f"feast serve 0.67 on {store.peer}",
                note=f"feast p99 {p99:.1f} ms",
            )
        )  # fmt: skip
    return figures


def _median(loads: list[Load], field: str) -> float:
    return statistics.median(float(getattr(load, field)) for load in loads)
