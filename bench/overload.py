"""Ten times the connections that a serving process is made for: who is answered, and how late.

``wrk`` floods the process with 640 connections that ask again at once, whatever they are told.
Beside it a few connections of a probe note for each request whether it was answered, and when.
The probe goes before ``wrk`` where the system allows it: on two processors it would otherwise wait
for its own turn, and call that the answer's time. It begins a second later: until the door closes,
a tenth of a second, everybody is let in, which is one of five hundred requests that are answered
to ``wrk`` in a minute, and would be one of twenty of the probe's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .figure import Figure
from .load import need_wrk, script
from .project import build, command, free_port, process, token_of

USUAL, FLOOD, PROBES = 64, 640, 8
BEGIN_S = 1.0


class Seen(NamedTuple):
    """What the probe saw: milliseconds of each answer, by whether it was one or a refusal."""

    answered: list[float]
    refused: list[float]

    def told(self) -> str:
        """How many there were."""
        return f"{len(self.answered)} answered, {len(self.refused)} refused"

    def p99(self) -> float:
        """99th percentile of the answers."""
        return statistics.quantiles(self.answered, n=100, method="inclusive")[98]


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    need_wrk("overload")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        build(home)
        _go_first()
        return _figures(home, seconds=6 if quick else 60)


def _go_first() -> None:
    """Let this process run as soon as it can, and none that it starts."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def _figures(home: Path, *, seconds: int) -> list[Figure]:
    port = free_port()
    token = token_of(home)
    names = [f"recent.last_x{i}" for i in range(10)] + [f"recent.mean_x{i}_6h" for i in range(10)]
    values = np.random.default_rng(3).normal(size=20).round(6).tolist()
    body = {"features": dict(zip(names, values, strict=True))}
    lua = script(home / "features.lua", [body], token)
    base = f"http://127.0.0.1:{port}"
    url = f"{base}/v1/deployments/boosted/predict"
    serve = command("serve", "--home", str(home), "--port", str(port))
    with process(serve, f"{base}/v2/health/ready"):
        asked = (port, _request(port, token, body))
        asyncio.run(_under(url, lua, USUAL, 2, asked))
        usual, _ = asyncio.run(_under(url, lua, USUAL, 5, asked))
        flood, refused = asyncio.run(_under(url, lua, FLOOD, seconds, asked))
        after, _ = asyncio.run(_under(url, lua, USUAL, 2, asked))
    share = f"{refused:.0%} of the flood refused with 503; the probe: {flood.told()}"
    baseline = f"{USUAL} connections"
    return [
        Figure(
            what=f"p99 of what is answered, {FLOOD} connections",
            ours=flood.p99(),
            unit="ms",
            baseline=usual.p99(),
            baseline_name=baseline,
            budget=5.0,
            note=share,
        ),
        Figure(
            what="p99 in the 2 s after it",
            ours=after.p99(),
            unit="ms",
            baseline=usual.p99(),
            baseline_name=baseline,
            budget=1.5,
        ),
    ]


def _request(port: int, token: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/deployments/boosted/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def _under(
    url: str, lua: Path, connections: int, seconds: int, asked: tuple[int, bytes]
) -> tuple[Seen, float]:
    """What the probe sees under a load, and the share of the load that was refused."""
    port, request = asked
    # Before the load: how soon a new connection is taken on is another question.
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(PROBES)]
    seen = Seen([], [])
    await asyncio.gather(*[_probe(*one, request, 0.1, Seen([], [])) for one in streams])
    options = ["-t", "1", "-c", str(connections), "-d", f"{seconds}s", "-s", str(lua), url]
    load = await asyncio.create_subprocess_exec(
        str(shutil.which("wrk")), *options, stdout=subprocess.PIPE
    )
    await asyncio.sleep(BEGIN_S)
    await asyncio.gather(*[_probe(*one, request, seconds - BEGIN_S - 0.5, seen) for one in streams])
    told = (await load.communicate())[0].decode()
    for _, writer in streams:
        writer.close()
    whole = re.search(r"(\d+) requests in", told)
    other = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    assert whole is not None
    return seen, (int(other[1]) if other else 0) / max(1, int(whole[1]))


async def _probe(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: bytes,
    seconds: float,
    seen: Seen,
) -> None:
    """Ask again and again, with a pause after each answer."""
    end_s = time.perf_counter() + seconds
    while (start_s := time.perf_counter()) < end_s:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        await reader.readexactly(int(length[1]))
        took_ms = (time.perf_counter() - start_s) * 1000
        (seen.answered if b" 200 " in head[:16] else seen.refused).append(took_ms)
        await asyncio.sleep(0.005)
