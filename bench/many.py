"""Thousands of small models in one process: what each costs, loaded and at rest."""

from __future__ import annotations

import http.client
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from penstock.control import Known, due
from penstock.deployment import deploy
from penstock.registry import promote
from penstock.runtime import open_services
from penstock.scoring import Fleet, Target, audited_to, build_fleet, look_at_ages, read_target
from penstock.testing.many_models import multiply
from penstock.testing.served_project import ServedProject, make_served_project

from .figure import Figure, timed
from .project import serving

if TYPE_CHECKING:
    from collections.abc import Generator

HOT, COLD, LOADED = 2_000, 60, 200
BODY = b'{"entity": {"symbol": "BTC"}}'


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    count = 500 if quick else 2_000
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        few = _made(Path(folder) / "few")
        many = _made(Path(folder) / "many")
        start = time.perf_counter()
        names = multiply(many, count)
        took_s = time.perf_counter() - start
        with (many.home / "penstock.toml").open("a", encoding="utf-8") as settings:
            settings.write('\nserve_load = "need"\n')
        declared = Figure(
            what=f"declare and register {count:,} models and their deployments",
            ours=took_s,
            unit="s",
        )
        return [declared, *_watched(many, count), *_served(few, many, list(names))]


def _made(home: Path) -> ServedProject:
    made = make_served_project(home)
    with open_services(home, actor="bench") as services:
        deploy(services, "btc", version=1, wait_s=0)
    return made


def _watched(project: ServedProject, count: int) -> list[Figure]:
    """What it takes to follow the registry while nothing, or one thing, changes."""
    with open_services(project.home, kind="serve") as services:
        metadata = services.metadata
        audited = audited_to(metadata, 0)
        target = read_target(metadata, Target(-1, {}))
        fleet = build_fleet(services, Fleet(), target, only=())

        def poll() -> None:
            metadata.revision()
            audited_to(metadata, audited)

        def follow() -> None:
            build_fleet(services, fleet, read_target(metadata, target), only=())

        def ages() -> None:
            look_at_ages(services, fleet)

        known = Known()

        def work() -> None:
            due(services, known=known)

        def again() -> None:
            promote(services, "tenant-0001", 1)

        of = f"of {count:,} deployments at rest"
        return [
            Figure(what=f"look for changes {of}", ours=_median(poll, 200), unit="ms"),
            Figure(what=f"take in a changed alias {of}", ours=_median(follow, 10), unit="ms"),
            Figure(what=f"look at the ages of features {of}", ours=_median(ages, 50), unit="ms"),
            Figure(what=f"look for work {of}", ours=_median(work, 50), unit="ms"),
            Figure(what=f"promote one version {of}", ours=_median(again, 20), unit="ms"),
        ]


def _median(call: object, runs: int) -> float:
    assert callable(call)
    return statistics.median(timed(call) for _ in range(runs)) * 1e3


def _served(few: ServedProject, many: ServedProject, names: list[str]) -> list[Figure]:
    with _process(few) as (alone, _, alone_s), _process(many) as (among, process_id, among_s):
        _ask(alone, few, "btc")
        _ask(among, many, "btc")
        # In turns: what else the machine does then tells on both.
        times: dict[str, list[float]] = {"alone": [], "among": []}
        for _ in range(HOT):
            times["alone"].append(_ask(alone, few, "btc"))
            times["among"].append(_ask(among, many, "btc"))
        server = psutil.Process(process_id)
        before = server.memory_info().rss
        cold = [_ask(among, many, name) for name in names[:COLD]]
        for name in names[COLD:LOADED]:
            _ask(among, many, name)
        each = (server.memory_info().rss - before) / LOADED / 1e6
    return [
        Figure(
            what=f"ready with {len(names):,} deployments, loaded by need",
            ours=among_s,
            unit="s",
            baseline=alone_s,
            baseline_name="two deployments, all loaded",
        ),
        _hot(times, len(names)),
        Figure(
            what="first answer of a model that rests",
            ours=statistics.median(cold) * 1e3,
            unit="ms",
            spread=(min(cold) * 1e3, max(cold) * 1e3),
        ),
        Figure(
            what="memory for each further small model",
            ours=each,
            unit="MB",
            note=f"resident size over the first {LOADED} loads",
        ),
    ]


def _hot(times: dict[str, list[float]], count: int) -> Figure:
    among_ms, alone_ms = _p99(times["among"]), _p99(times["alone"])
    return Figure(
        what=f"one row of a model that is asked all the time, {count:,} at rest",
        ours=statistics.median(times["among"]) * 1e3,
        unit="ms",
        baseline=statistics.median(times["alone"]) * 1e3,
        baseline_name="two deployments",
        note=f"one connection; p99 {among_ms:.2f} ms against {alone_ms:.2f}",
    )


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[-1] * 1e3


@contextmanager
def _process(project: ServedProject) -> Generator[tuple[http.client.HTTPConnection, int, float]]:
    """A serving process: a connection to it, its id, and the seconds until it was ready."""
    with serving(project.home) as server:
        address = server.url.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=30)
        yield connection, server.process_id, server.ready_s
        connection.close()


def _ask(connection: http.client.HTTPConnection, project: ServedProject, name: str) -> float:
    """Seconds until a row was answered."""
    headers = {"Authorization": f"Bearer {project.token}"}
    start = time.perf_counter()
    connection.request("POST", f"/v1/deployments/{name}/predict", BODY, headers)
    answer = connection.getresponse()
    told = answer.read()
    if answer.status != 200:
        raise RuntimeError(told.decode())
    return time.perf_counter() - start
