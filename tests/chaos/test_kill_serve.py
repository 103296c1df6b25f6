"""The serving process itself: killed, stopped, and given new versions while it answers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

import penstock as ps
from penstock.deployment import deploy, rollback
from penstock.records import Process, ServingStatus
from penstock.runtime import open_services
from penstock.scoring import drain_scores
from penstock.testing.ports import free_port
from penstock.testing.score_logs import declare_log

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow

SERVE = """
import sys
from pathlib import Path
from penstock.http import serve
serve(Path(sys.argv[1]), port=int(sys.argv[2]))
"""
Load = tuple[list[dict[str, Any]], list[str]]
ENTITY = {"entity": {"symbol": "BTC"}}
FAILED = """
import sys
from pathlib import Path
from penstock.errors import PenstockError
from penstock.http import serve
try:
    serve(Path(sys.argv[1]), port=int(sys.argv[2]), host=sys.argv[3] if len(sys.argv) > 3 else None)
except PenstockError as error:
    sys.exit(f"{error.kind}: {error.message}")
"""


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        yield opened


class Server:
    """A serving process of its own."""

    def __init__(self, project: ServedProject) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.headers = {"authorization": f"Bearer {project.token}"}
        self.predict = f"{self.url}/v1/deployments/btc/predict"
        command = [sys.executable, "-c", SERVE, str(project.home), str(self.port)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)

    def wait_ready(self) -> None:
        for _ in range(600):
            if self.process.poll() is not None:
                assert self.process.stderr is not None
                pytest.fail(self.process.stderr.read().decode())
            try:
                if httpx.get(f"{self.url}/v2/health/ready", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        pytest.fail("not ready in time")


@contextmanager
def _serving(project: ServedProject) -> Generator[Server]:
    server = Server(project)
    try:
        server.wait_ready()
        yield server
    finally:
        server.process.kill()
        server.process.wait()
        assert server.process.stderr is not None
        server.process.stderr.close()


async def _load(server: Server, until: Callable[[], bool], *, clients: int = 8) -> Load:
    """Ask without a pause until told to stop; returns the answers and whatever went wrong."""
    answers: list[dict[str, Any]] = []
    faults: list[str] = []

    async def client(http: httpx.AsyncClient) -> None:
        while not until():
            try:
                reply = await http.post(server.predict, json=ENTITY, headers=server.headers)
            except httpx.TransportError as error:
                faults.append(repr(error))
                return
            if reply.status_code == 200:
                answers.append(msgspec.json.decode(reply.content))
            else:
                faults.append(reply.text)

    async with httpx.AsyncClient(timeout=20) as http:
        await asyncio.gather(*[client(http) for _ in range(clients)])
    return answers, faults


def test_no_request_fails_while_versions_change(
    served: ServedProject, services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    done: list[int] = []

    def change() -> None:
        done.extend(deploy(services, "btc", version=n, wait_s=60).version for n in (2, 1, 2))
        done.append(rollback(services, "btc", wait_s=60).version)

    with _serving(served) as server:

        async def scenario() -> Load:
            changes = asyncio.create_task(asyncio.to_thread(change))
            found = await _load(server, changes.done)
            await changes
            return found

        answers, faults = asyncio.run(scenario())
        drain_scores(services)

    assert done == [2, 1, 2, 1]
    assert faults == []
    versions = [answer["version"] for answer in answers]
    assert set(versions) == {1, 2}
    stored = services.tables.scan("scores/btc").select("prediction_id", "version").collect()
    by_id = dict(stored.iter_rows())
    assert {answer["prediction_id"]: answer["version"] for answer in answers} == by_id


@pytest.mark.parametrize(
    "log", [None, ps.ScoreLog(payload=0.5, redact=["pii"], by="hash")], ids=["whole", "policy"]
)
def test_every_answer_of_a_killed_process_is_stored_once(
    served: ServedProject, services: LocalServices, log: ps.ScoreLog | None
) -> None:
    deploy(services, "btc", version=2)
    declare_log(services, log)
    answers: list[dict[str, Any]] = []
    for _ in range(2):
        with _serving(served) as server:
            loop_end = time.monotonic() + 20

            async def scenario(server: Server = server, end: float = loop_end) -> Load:
                asyncio.get_running_loop().call_later(1.0, server.process.kill)
                gone = server.process.poll
                return await _load(server, lambda: gone() is not None or time.monotonic() > end)

            found, faults = asyncio.run(scenario())
            answers += found
            assert all("503" not in fault for fault in faults)
            drain_scores(services)
    drain_scores(services)

    stored = services.tables.scan("scores/btc").collect()
    assert stored["prediction_id"].is_unique().all()
    assert {answer["prediction_id"] for answer in answers} <= set(stored["prediction_id"])
    assert len(answers) > 10
    withheld = set(stored["withheld"])
    assert withheld == ({"*", "momentum.last_close"} if log else {""})
    assert list((services.score_log / "btc").glob("*.jsonl")) == []


def test_stopping_answers_what_is_in_flight_and_leaves_nothing_behind(
    served: ServedProject, services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    with _serving(served) as server:
        assert [one.process_id for one in services.metadata.find(ServingStatus)] == [
            server.process.pid
        ]

        async def scenario() -> Load:
            loop = asyncio.get_running_loop()
            loop.call_later(0.5, os.kill, server.process.pid, signal.SIGTERM)
            return await _load(server, lambda: server.process.poll() is not None)

        answers, faults = asyncio.run(scenario())
        assert server.process.wait(20) == 0

    # A connection that was refused or closed before anything was sent is no lost answer.
    assert all("Connect" in fault or "ReadError" in fault or "Remote" in fault for fault in faults)
    assert services.metadata.find(ServingStatus) == []
    assert services.metadata.find(Process, where={"kind": "serve"}) == []
    drain_scores(services)
    stored = set(services.tables.scan("scores/btc").collect()["prediction_id"])
    assert stored == {answer["prediction_id"] for answer in answers}


def test_starting_where_it_cannot_says_why(served: ServedProject) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, text in (
            ([port], f"cannot listen on 127.0.0.1:{port}: Address already in use"),
            ([port, "0.0.0.0"], "can be reached from other machines"),  # noqa: S104 - refused
        ):
            command = [sys.executable, "-c", FAILED, str(served.home), *arguments]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (run.returncode, text in run.stderr) == (1, True), run.stderr


def test_serving_loads_no_library_of_training() -> None:
    heavy = ("deltalake", "dbos", "mlflow", "sklearn", "skl2onnx", "onnx", "fastapi", "optuna")
    code = f"import sys, penstock.http.serve_process\nprint(set({heavy!r}) & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "set()"
