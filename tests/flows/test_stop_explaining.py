"""A serving process that is told to stop does not wait for an explanation."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from penstock.deployment import deploy
from penstock.runtime import living_processes, open_services
from penstock.testing.ports import free_port

if TYPE_CHECKING:
    from penstock.testing.served_project import ServedProject

EXPLAIN = "/v1/deployments/btc/explain"
BTC = {"entity": {"symbol": "BTC"}}
WAIT_S = 60.0
STOP_S = 25.0  # ten for what is under way, three for the thread, and a slow machine


def _until_ready(http: httpx.Client) -> None:
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        with suppress(httpx.TransportError):
            if http.get("/v2/health/ready").is_success:
                return
        time.sleep(0.05)
    raise TimeoutError("it never became ready")


@pytest.mark.slow
def test_it_ends_while_a_worker_hangs(served: ServedProject) -> None:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1, wait_s=0)
    port = str(free_port())
    command = [sys.executable, "-m", "penstock.cli", "serve", "--home", str(served.home)]
    headers = {"Authorization": f"Bearer {served.token}"}
    url = f"http://127.0.0.1:{port}"
    with (
        subprocess.Popen([*command, "--port", port]) as process,
        httpx.Client(base_url=url, headers=headers, timeout=WAIT_S) as http,
    ):
        _until_ready(http)
        assert http.post(EXPLAIN, json=BTC).is_success
        children = psutil.Process(process.pid).children()
        (worker,) = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
        worker.suspend()

        def ask() -> None:
            with suppress(httpx.HTTPError):
                http.post(EXPLAIN, json=BTC)

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.5)
        began_s = time.monotonic()
        process.terminate()
        try:
            assert process.wait(STOP_S) == 0
        finally:
            worker.kill()
            process.kill()
        took_s = time.monotonic() - began_s
        asking.join(WAIT_S)
    assert took_s < STOP_S
    with open_services(served.home, actor="tester") as services:
        assert living_processes(services, kind="serve") == []  # it took its records away
