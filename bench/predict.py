"""Single predictions over HTTP with wrk, beside the HTTP floor of the same server."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np

from .figure import Figure
from .load import Load, need_wrk, script, wrk
from .project import build, echoing, serving, token_of

CONNECTIONS = (1, 16, 64)


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    need_wrk("predict")
    rounds = 2 if quick else 3
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        build(home)
        return _compare(home, rounds=rounds, seconds=2 if quick else 4)


def _compare(home: Path, *, rounds: int, seconds: int) -> list[Figure]:
    token = token_of(home)
    names = [f"recent.last_x{i}" for i in range(10)] + [f"recent.mean_x{i}_6h" for i in range(10)]
    values = np.random.default_rng(3).normal(size=20).round(6).tolist()
    by_features = script(
        home / "features.lua", [{"features": dict(zip(names, values, strict=True))}], token
    )
    by_entity = script(home / "entity.lua", [{"entity": {"device": 7}}], token)
    figures: list[Figure] = []
    with serving(home) as server, echoing() as echo:
        predict = f"{server.url}/v1/deployments/boosted/predict"
        for connections in CONNECTIONS:
            loads: dict[str, list[Load]] = {"features": [], "entity": [], "echo": []}
            for _ in range(rounds):
                loads["features"].append(wrk(predict, by_features, connections, seconds))
                loads["entity"].append(wrk(predict, by_entity, connections, seconds))
                loads["echo"].append(wrk(echo, by_features, connections, seconds))
            figures += _figures(connections, loads)
    return figures


def _figures(connections: int, loads: dict[str, list[Load]]) -> list[Figure]:
    plural = "connection" if connections == 1 else "connections"
    floor_rate = statistics.median(load.requests_per_s for load in loads["echo"])
    floor_p99 = statistics.median(load.p99_ms for load in loads["echo"])
    figures: list[Figure] = []
    for kind, what in (("features", "by 20 features"), ("entity", "by entity key")):
        rates = [load.requests_per_s for load in loads[kind]]
        p50 = statistics.median(load.p50_ms for load in loads[kind])
        figures += [
            Figure(
                what=f"{what}, {connections} {plural}",
                ours=statistics.median(rates),
                unit="1/s",
                baseline=floor_rate,
                baseline_name="echo on the same server",
                spread=(min(rates), max(rates)),
            ),
            Figure(
                what=f"{what}, {connections} {plural}, p99",
                ours=statistics.median(load.p99_ms for load in loads[kind]),
                unit="ms",
                baseline=floor_p99,
                baseline_name="echo on the same server",
                note=f"p50 {p50:.2f} ms",
            ),
        ]
    return figures
