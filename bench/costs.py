"""What each feature of a served prediction costs, as a share of the request it is part of.

What a setting switches is measured by ``wrk`` at 64 connections, in turn on deployments of one
server that differ in that alone. What is always on is measured by itself, in this process, on the
objects that serve: its time is set against that of a whole request of the same rows.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

import msgspec
import numpy as np

from penstock.http.serve_app import ServeApp
from penstock.http.serve_call import WholeCall
from penstock.http.serve_keeper import Keeper
from penstock.runtime import open_services
from penstock.scoring import Ask

from .figure import Figure
from .load import need_wrk, script, wrk
from .project import build, command, free_port, process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.ports import Services
    from penstock.records import Score
    from penstock.scoring import Endpoint, Lane

CONNECTIONS = BATCH = 64
BUDGET, LOG_BUDGET, LOOK_UP_BUDGET = 0.05, 0.1, 0.2
CHALLENGER_SHARE = 0.1
MORE = f"""
none = ps.Deployment("none", model=boosted, log=ps.ScoreLog(payload="none"))
sampled = ps.Deployment("sampled", model=boosted, log=ps.ScoreLog(payload=0.01))
header = ps.by_header("x-plan", "gold", version=1)
rule = ps.by_rule(ps.col("device") > 1000, version=1)
share = ps.challenger(share={CHALLENGER_SHARE}, version=1)
headed = ps.Deployment("headed", model=boosted, routes=[ps.champion(), header])
ruled = ps.Deployment("ruled", model=boosted, routes=[ps.champion(), rule])
shared = ps.Deployment("shared", model=boosted, routes=[ps.champion(), share])
"""
NAMES = [f"recent.last_x{i}" for i in range(10)] + [f"recent.mean_x{i}_6h" for i in range(10)]
ROW = np.random.default_rng(3).normal(size=20).round(6).tolist()
FEATURES = {"features": dict(zip(NAMES, ROW, strict=True))}
KEY = {"entity": {"device": 7}}


class _Asked(NamedTuple):
    """What is sent to a deployment."""

    deployment: str
    body: object


ASKED = {
    "whole": _Asked("boosted", FEATURES),
    "none": _Asked("none", FEATURES),
    "sampled": _Asked("sampled", FEATURES),
    "key": _Asked("boosted", KEY),
    "headed": _Asked("headed", KEY),
    "ruled": _Asked("ruled", KEY),
    "shared": _Asked("shared", KEY),
}
Pieces = dict[str, float]


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    need_wrk("costs")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        build(home, more=MORE)
        times_us = _requests(home, rounds=3 if quick else 7, seconds=2)
        pieces_us = asyncio.run(_pieces(home, rounds=200 if quick else 1_000))
    return [*_switched(times_us, pieces_us), *_always_on(times_us["whole"], pieces_us)]


def _requests(home: Path, *, rounds: int, seconds: int) -> dict[str, float]:
    """Microseconds of a request of each kind, in turn; medians."""
    token = (home / ".penstock" / "token").read_text(encoding="utf-8").strip()
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    found: dict[str, list[float]] = {name: [] for name in ASKED}
    serve = command("serve", "--home", str(home), "--port", str(port))
    with process(serve, f"{base}/v2/health/ready"):
        for _ in range(rounds):
            for name, asked in ASKED.items():
                lua = script(home / f"{name}.lua", [asked.body], token)
                url = f"{base}/v1/deployments/{asked.deployment}/predict"
                load = wrk(url, lua, CONNECTIONS, seconds)
                found[name].append(1e6 / load.requests_per_s)
    return {name: statistics.median(times) for name, times in found.items()}


async def _pieces(home: Path, *, rounds: int) -> Pieces:
    """Microseconds a request that each piece takes by itself."""
    token = (home / ".penstock" / "token").read_text(encoding="utf-8").strip()
    with open_services(home) as services:
        keeper = Keeper(services, address="http://here", limit_bytes=1 << 26)
        await keeper.start()
        try:
            app = ServeApp(keeper, services.clock)
            return await _measured(services, keeper, app, f"Bearer {token}".encode(), rounds)
        finally:
            await keeper.stop()


async def _measured(
    services: Services, keeper: Keeper, app: ServeApp, header: bytes, rounds: int
) -> Pieces:
    door = keeper.doors["boosted"]
    schema, endpoint = door.schema, door.endpoint
    assert schema is not None
    lane = endpoint.lanes["champion"]
    scores = [await endpoint.score(_ask(services)) for _ in range(BATCH)]
    body = msgspec.json.encode(FEATURES)
    plain = msgspec.json.Decoder(dict[str, dict[str, float]]).decode
    call = WholeCall.of({"path": "/", "headers": []})
    answer = schema.told_one(scores[:1])
    taken = {
        "token": lambda: keeper.guard.check(header, "writer"),
        "checked": lambda: schema.rows_of(body),
        "decoded": lambda: plain(body),
        "counted": lambda: _count(endpoint, lane, scores[0]),
        "counted answer": lambda: app.counted("predict", call, answer),
    }
    found = {name: _shortest(one, rounds, 20) for name, one in taken.items()}
    log = endpoint.writer.log
    found["log"] = _shortest(lambda: log.append(scores), rounds, 1) / BATCH
    return found | _look_up_us(services, lane, rounds)


def _look_up_us(services: Services, lane: Lane, rounds: int) -> Pieces:
    """A row of a batch that is looked up, and the part of it that the store takes."""
    keys = [number % 40 for number in range(BATCH)]
    at_us = np.full(BATCH, services.clock.now_us())
    store = services.online
    with mock.patch.object(store, "look", wraps=store.look) as looked:
        lane.version.read(keys, at_us)
    asks = [one.args[0] for one in looked.call_args_list]
    return {
        "read": _shortest(lambda: lane.version.read(keys, at_us), rounds, 1) / BATCH,
        "store": _shortest(lambda: [store.look(one) for one in asks], rounds, 1) / BATCH,
    }


def _ask(services: Services) -> Ask:
    return Ask(services.clock.now_us(), values=tuple(ROW))


def _count(endpoint: Endpoint, lane: Lane, score: Score) -> None:
    """What is counted of a row, its part of what is counted of a batch left out."""
    endpoint.circuits[lane.version.label].succeeded()
    endpoint.counters.answer(score)


def _shortest(call: Callable[[], object], rounds: int, times: int) -> float:
    """Microseconds of a call: the shortest of many, since whatever else goes on only adds."""
    found: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(times):
            call()
        found.append((time.perf_counter() - start) / times * 1e6)
    return min(found)


def _switched(times_us: dict[str, float], pieces_us: Pieces) -> list[Figure]:
    """What more a request takes with a setting than without."""
    key_us = times_us["key"]
    return [
        _more("a route by header", times_us["headed"], key_us, BUDGET),
        _more("a route by rule", times_us["ruled"], key_us, BUDGET),
        _more(
            f"a challenger with {CHALLENGER_SHARE:.0%}: rows of two versions",
            times_us["shared"],
            key_us,
            BUDGET,
        ),
        _more(
            "features of 1 % in the log", times_us["sampled"], times_us["none"], LOG_BUDGET,
        ),
        _more("all features in the log", times_us["whole"], times_us["none"], LOG_BUDGET),
        _more(
            "features looked up, without the store's own time",
            key_us - pieces_us["store"],
            times_us["whole"],
            LOOK_UP_BUDGET,
            f"the store {pieces_us['store']:.1f} us, the whole look-up {pieces_us['read']:.1f} us",
        ),
    ]  # fmt: skip


def _more(what: str, with_us: float, without_us: float, budget: float, note: str = "") -> Figure:
    return Figure(
        what=what,
        ours=with_us,
        unit="us",
        baseline=without_us,
        baseline_name="a request without",
        budget=1 + budget,
        note=note,
    )


def _always_on(request_us: float, pieces_us: Pieces) -> list[Figure]:
    """The share that each piece has in a request by features."""
    checked_us = max(0.0, pieces_us["checked"] - pieces_us["decoded"])
    parts: Sequence[tuple[str, float, float]] = (
        ("the token and its role", pieces_us["token"], BUDGET),
        ("the schema, beside decoding without one", checked_us, BUDGET),
        ("metrics", pieces_us["counted"] + pieces_us["counted answer"], BUDGET),
        ("the score log: encoded and written", pieces_us["log"], LOG_BUDGET),
    )
    return [
        Figure(
            what=what,
            ours=piece_us,
            unit="us",
            baseline=request_us,
            baseline_name="a whole request",
            budget=budget,
        )
        for what, piece_us, budget in parts
    ]
