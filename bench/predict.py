"""Single predictions over HTTP with wrk, beside the HTTP floor of the same server."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .figure import Figure
from .project import build, command, free_port, process

CONNECTIONS = (1, 16, 64)
UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class Load(NamedTuple):
    """What wrk saw."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    if shutil.which("wrk") is None:
        raise SystemExit("bench predict needs wrk; install it, such as 'apt-get install wrk'.")
    rounds = 2 if quick else 3
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        build(home)
        return _compare(home, rounds=rounds, seconds=2 if quick else 4)


def _compare(home: Path, *, rounds: int, seconds: int) -> list[Figure]:
    port, floor = free_port(), free_port()
    token = (home / ".penstock" / "token").read_text(encoding="utf-8").strip()
    base = f"http://127.0.0.1:{port}"
    predict = f"{base}/v1/deployments/boosted/predict"
    names = [f"recent.last_x{i}" for i in range(10)] + [f"recent.mean_x{i}_6h" for i in range(10)]
    values = np.random.default_rng(3).normal(size=20).round(6).tolist()
    by_features = _script(
        home, "features", {"features": dict(zip(names, values, strict=True))}, token
    )
    by_entity = _script(home, "entity", {"entity": {"device": 7}}, token)
    serve = command("serve", "--home", str(home), "--port", str(port))
    echo = [sys.executable, str(Path(__file__).with_name("echo.py")), str(floor)]
    figures: list[Figure] = []
    with (
        process(serve, f"{base}/v2/health/ready"),
        process(echo, f"http://127.0.0.1:{floor}/"),
    ):
        for connections in CONNECTIONS:
            loads: dict[str, list[Load]] = {"features": [], "entity": [], "echo": []}
            for _ in range(rounds):
                loads["features"].append(_wrk(predict, by_features, connections, seconds))
                loads["entity"].append(_wrk(predict, by_entity, connections, seconds))
                address = f"http://127.0.0.1:{floor}/"
                loads["echo"].append(_wrk(address, by_features, connections, seconds))
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


def _script(home: Path, name: str, body: object, token: str) -> Path:
    path = home / f"{name}.lua"
    path.write_text(
        'wrk.method = "POST"\n'
        f"wrk.body = [==[{json.dumps(body)}]==]\n"
        'wrk.headers["Content-Type"] = "application/json"\n'
        f'wrk.headers["Authorization"] = "Bearer {token}"\n',
        encoding="utf-8",
    )
    return path


def _wrk(url: str, script: Path, connections: int, seconds: int) -> Load:
    wrk = str(shutil.which("wrk"))
    options = ["-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency"]
    done = subprocess.run(
        [wrk, *options, "-s", str(script), url], capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in done or "Socket errors" in done:
        raise RuntimeError(f"requests failed:\n{done}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done)
    assert rate is not None
    return Load(float(rate[1]), _percentile(done, 50), _percentile(done, 99))


def _percentile(output: str, percent: int) -> float:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", output)
    assert found is not None
    return float(found[1]) * UNITS_MS[found[2]]
