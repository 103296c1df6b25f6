"""``penstock top`` on a process that answers, in a terminal of its own and without one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from penstock.deployment import deploy
from penstock.runtime import open_services
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from penstock.testing.served_project import ServedProject

PREDICT = "/v1/deployments/btc/predict"
PATIENCE_S = 60.0


@pytest.fixture
def busy(served: ServedProject) -> Iterator[ServedProject]:
    """A project whose process is asked again and again."""
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1)
    end = threading.Event()

    def ask(http: httpx.Client) -> None:
        while not end.is_set():
            http.post(PREDICT, json={"entity": {"symbol": "BTC"}})

    with serving(served) as http:
        thread = threading.Thread(target=ask, args=(http,))
        thread.start()
        yield served
        end.set()
        thread.join()


def _command(served: ServedProject, *words: str) -> list[str]:
    return [sys.executable, "-m", "penstock.cli", "top", "--home", str(served.home), *words]


def _read(handle: int) -> bytes:
    """What the terminal shows anew; nothing once the command has gone."""
    if not select.select([handle], [], [], 0.2)[0]:
        return b""
    try:
        return os.read(handle, 1 << 16)
    except OSError:
        return b""


def test_one_reading_as_json(busy: ServedProject) -> None:
    done = subprocess.run(_command(busy, "--json"), capture_output=True, text=True, check=True)

    found = json.loads(done.stdout)
    (champion,) = [one for one in found["routes"] if one["deployment"] == "btc"]
    assert (champion["route"], champion["version"], champion["model"]) == (
        "champion",
        1,
        "direction",
    )
    assert champion["per_s"] > 1
    assert 0.1 < champion["p50_ms"] <= champion["p99_ms"]
    (process,) = [one for one in found["processes"] if one["kind"] == "serve"]
    assert process["requests_per_s"] == pytest.approx(champion["per_s"], rel=0.2)
    assert process["memory_bytes"] > 20e6


def test_it_goes_on_in_a_terminal_until_q(busy: ServedProject) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "40"}
    process = subprocess.Popen(_command(busy), stdin=theirs, stdout=theirs, env=environment)
    os.close(theirs)
    shown = b""
    end_s = time.monotonic() + PATIENCE_S
    while len(re.findall(rb"answers/s", shown)) < 6 and time.monotonic() < end_s:
        shown += _read(ours)
    os.write(ours, b"q")
    while process.poll() is None and time.monotonic() < end_s:
        shown += _read(ours)
    code = process.wait(10)
    os.close(ours)

    assert code == 0
    assert b"direction@1" in shown
    assert b"serve 0" in shown


def test_nothing_runs(served: ServedProject) -> None:
    done = subprocess.run(_command(served, "--once"), capture_output=True, text=True, check=True)

    assert done.stdout == "Nothing runs on this project. Start it with 'penstock up'.\n"
