"""Load on a server by wrk."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Load", "need_wrk", "script", "script_of_file", "wrk"]

LATEST_S = 30
UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class Load(NamedTuple):
    """What wrk saw."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float


def need_wrk(name: str) -> None:
    """End a benchmark where there is no wrk."""
    if shutil.which("wrk") is None:
        raise SystemExit(f"bench {name} needs wrk; install it, such as 'apt-get install wrk'.")


def script(path: Path, bodies: Sequence[object], token: str) -> Path:
    """Write a script that posts JSON bodies, one after the other and again."""
    listed = ",\n".join(f"[==[{json.dumps(body)}]==]" for body in bodies)
    path.write_text(
        f"local bodies = {{{listed}}}\n"
        "local place = 0\n"
        'wrk.method = "POST"\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
        f'wrk.headers["Authorization"] = "Bearer {token}"\n'
        "request = function()\n"
        "  place = place % #bodies + 1\n"
        "  return wrk.format(nil, nil, nil, bodies[place])\n"
        "end\n",
        encoding="utf-8",
    )
    return path


def script_of_file(path: Path, body: bytes, content_type: str, token: str) -> Path:
    """Write a script that posts one body of any bytes, which is kept beside it."""
    path.write_bytes(body)
    lua = path.with_name(f"{path.name}.lua")
    lua.write_text(
        f'local file = io.open("{path}", "rb")\n'
        'wrk.method = "POST"\n'
        'wrk.body = file:read("*a")\n'
        f'wrk.headers["Content-Type"] = "{content_type}"\n'
        f'wrk.headers["Authorization"] = "Bearer {token}"\n',
        encoding="utf-8",
    )
    return lua


def wrk(url: str, lua: Path, connections: int, seconds: int) -> Load:
    """Ask as often as it goes; a request that fails is an error."""
    command = str(shutil.which("wrk"))
    options = ["-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency"]
    options += ["--timeout", f"{LATEST_S}s"]  # some servers take seconds now and then
    done = subprocess.run(
        [command, *options, "-s", str(lua), url], capture_output=True, text=True, check=True
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
