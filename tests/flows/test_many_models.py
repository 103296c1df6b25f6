"""A thousand models in one process, which has room for some forty at a time."""

from __future__ import annotations

import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from penstock.deployment import deploy
from penstock.runtime import open_services
from penstock.testing.many_models import multiply
from penstock.testing.ports import free_port
from penstock.testing.serving import running
from penstock.testing.working import until

if TYPE_CHECKING:
    import httpx

    from penstock.testing.served_project import ServedProject

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

MODELS, ASKS, ASKERS = 1_000, 240, 4
MEMORY_MB = 20
BODY = {"entity": {"symbol": "BTC"}}


def _ask(http: httpx.Client, name: str) -> float:
    answer = http.post(f"/v1/deployments/{name}/predict", json=BODY)
    assert answer.status_code == 200, answer.text
    return float(answer.json()["probability"]["true"])


def _ready(http: httpx.Client) -> set[str]:
    index = http.post("/v2/repository/index").json()
    assert len(index) >= MODELS
    resting = [one for one in index if one["state"] == "UNAVAILABLE"]
    assert {one["reason"] for one in resting} <= {
        "not loaded; the next request to it has it loaded"
    }
    return {one["name"] for one in index if one["state"] == "READY"}


def _value(http: httpx.Client, name: str) -> float:
    lines = [one for one in http.get("/metrics").text.splitlines() if one.startswith(name)]
    return float(lines[0].rpartition(" ")[2])


def test_models_come_and_go_under_load_and_no_request_fails(served: ServedProject) -> None:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1, wait_s=0)
    names = multiply(served, MODELS)
    with (served.home / "penstock.toml").open("a") as settings:
        settings.write(f'\nserve_load = "need"\nserve_memory_mb = {MEMORY_MB}\n')
    port = str(free_port())
    words = ["serve", "--home", str(served.home), "--port", port]
    with running(served, [sys.executable, "-m", "penstock.cli", *words], port) as http:
        assert _ready(http) == set()
        # It promises an answer within 250 ms, which the first load of a process may take alone.
        assert http.post("/v2/repository/models/btc/load", json={}).is_success
        right = _ask(http, "btc")
        stop = threading.Event()

        def ask_hot() -> int:
            asked = 0
            while not stop.is_set():
                assert _ask(http, "btc") == right
                assert "btc" in _ready(http)
                asked += 1
            return asked

        def ask_any(seed: int) -> None:
            some = random.Random(seed)  # noqa: S311 - which is asked, not a secret
            for _ in range(ASKS // ASKERS):
                assert _ask(http, some.choice(names)) == right

        with ThreadPoolExecutor(ASKERS + 1) as threads:
            hot = threads.submit(ask_hot)
            try:
                list(threads.map(ask_any, range(ASKERS)))
            finally:
                stop.set()
            assert hot.result() > 10

        assert _value(http, "penstock_let_go_total") > ASKS // 2
        assert 10 < len(_ready(http)) < 60
        # What was answering stays until it has answered, though it be too much; then it goes.
        until(lambda: _value(http, "penstock_models_bytes") <= MEMORY_MB << 20, "Too much stayed")
        loads = _value(http, "penstock_loads_total")
        cold = next(name for name in names if name not in _ready(http))
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(lambda _: _ask(http, cold), range(8))) == {right}
        assert _value(http, "penstock_loads_total") == loads + 1
