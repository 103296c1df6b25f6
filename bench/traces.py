"""Single predictions over HTTP while nothing, a hundredth and everything is traced (needs wrk)."""

from __future__ import annotations

import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

import httpx

from penstock.testing.collector import collector

from .figure import Figure
from .load import Load, need_wrk, script, wrk
from .project import build, command, free_port, process, token_of

CONNECTIONS = 16
SHARES = ("off", "0.0", "0.01", "1.0")


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    need_wrk("traces")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        build(home)
        return _compare(home, rounds=2 if quick else 5, seconds=2 if quick else 4)


def _compare(home: Path, *, rounds: int, seconds: int) -> list[Figure]:
    token = token_of(home)
    lua = script(home / "entity.lua", [{"entity": {"device": 7}}], token)
    addresses: dict[str, str] = {}
    loads: dict[str, list[Load]] = {share: [] for share in SHARES}
    with ExitStack() as stack:
        found = stack.enter_context(collector())
        for share in SHARES:
            port = free_port()
            addresses[share] = base = f"http://127.0.0.1:{port}"
            given = {"OTEL_EXPORTER_OTLP_ENDPOINT": found.address}
            if share != "off":
                given |= {"PENSTOCK_TRACES": "true", "PENSTOCK_TRACES_SHARE": share}
            serve = command("serve", "--home", str(home), "--port", str(port))
            stack.enter_context(process(serve, f"{base}/v2/health/ready", given=given))
        for _ in range(rounds):
            for share in SHARES:
                url = f"{addresses[share]}/v1/deployments/boosted/predict"
                loads[share].append(wrk(url, lua, CONNECTIONS, seconds))
        lost = {share: _lost(addresses[share], token) for share in SHARES}
    return [_figure(share, loads, lost[share]) for share in SHARES]


def _figure(share: str, loads: dict[str, list[Load]], lost: str) -> Figure:
    rates = [load.requests_per_s for load in loads[share]]
    p99 = statistics.median(load.p99_ms for load in loads[share])
    return Figure(
        what="nothing traced" if share == "off" else f"share {float(share):g}",
        ours=statistics.median(rates),
        unit="1/s",
        baseline=statistics.median(load.requests_per_s for load in loads["off"]),
        baseline_name="tracing switched off",
        spread=(min(rates), max(rates)),
        note=f"p99 {p99:.2f} ms{lost}",
    )


def _lost(base: str, token: str) -> str:
    text = httpx.get(f"{base}/metrics", headers={"Authorization": f"Bearer {token}"}).text
    told = [line for line in text.splitlines() if line.startswith("penstock_traces_")]
    return "".join(f"; {line.partition('{')[0]} {line.split()[1]}" for line in told)
