"""Several processes that share the port of online scoring, one of them killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import grpc
import httpx
import psutil
import pytest

from penstock.deployment import deploy
from penstock.runtime import living_processes, open_services
from penstock.testing.ports import free_port
from penstock.testing.serving import running

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow

PREDICT = "/v1/deployments/btc/predict"
BODY = b'{"entity": {"symbol": "BTC"}}'
LIVE = "/inference.GRPCInferenceService/ServerLive"
WAIT_S = 30.0


def _until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end_s, "it never came to hold"
        time.sleep(0.05)


def _command(project: ServedProject, port: int) -> list[str]:
    words = ["serve", "--home", str(project.home), "--port", str(port), "--workers", "2"]
    return [sys.executable, "-m", "penstock.cli", *words]


def _workers(project: ServedProject) -> set[int]:
    with open_services(project.home, actor="tester") as services:
        return {one.process_id for one in living_processes(services, kind="serve")}


def _held_by(
    worker: int, held: list[http.client.HTTPConnection]
) -> list[http.client.HTTPConnection]:
    """Those connections that a worker has let in."""
    found = psutil.Process(worker).net_connections(kind="tcp")
    theirs = {one.raddr.port for one in found if one.raddr}
    return [one for one in held if one.sock.getsockname()[1] in theirs]


def _asks(connection: http.client.HTTPConnection, token: str) -> int:
    connection.request("POST", PREDICT, BODY, {"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_a_killed_worker_takes_only_its_connections_along_and_is_replaced(
    served: ServedProject,
) -> None:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1, wait_s=0)
    port, grpc_port = free_port(), free_port()
    with (served.home / "penstock.toml").open("a") as settings:
        settings.write(f'\nserve_socket = "s"\nserve_grpc_port = {grpc_port}\n')
    with running(served, _command(served, port), str(port)) as client, ExitStack() as stack:
        _until(lambda: 'worker="1"' in client.get("/metrics").text)
        before = _workers(served)
        assert len(before) == 2
        victim = min(before)
        held: list[http.client.HTTPConnection] = []

        def both_have_some() -> bool:
            one = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            held.append(stack.enter_context(closing(one)))
            assert _asks(one, served.token) == 200
            return len(held) >= 16 and 0 < len(_held_by(victim, held)) < len(held)

        _until(both_have_some)  # one that has just been started lets nobody in yet
        own = _held_by(victim, held)
        others = [one for one in held if one not in own]
        os.kill(victim, signal.SIGKILL)
        # Until the last of its threads is gone, it is still handed connections.
        _until(lambda: not psutil.pid_exists(victim))

        assert [_asks(one, served.token) for one in others] == [200] * len(others)
        for one in own:
            with pytest.raises((OSError, http.client.HTTPException)):
                _asks(one, served.token)
        stack.close()
        _answer_anew(served, port, grpc_port)
        _until(lambda: len(_workers(served) - {victim}) == 2)
        _answer_anew(served, port, grpc_port)
        (watcher,) = {psutil.Process(one).ppid() for one in _workers(served)}
        os.kill(watcher, signal.SIGKILL)
        _until(lambda: not _workers(served))  # nobody is left behind


def _answer_anew(project: ServedProject, port: int, grpc_port: int) -> None:
    """Every new connection is answered: to the port, to the socket, and over gRPC."""
    for _ in range(12):
        fresh = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        assert _asks(fresh, project.token) == 200
        fresh.close()
    over_socket = httpx.HTTPTransport(uds=str(project.home / "s"))
    with httpx.Client(transport=over_socket) as client:
        assert client.get("http://here/v2/health/ready").is_success
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        live: Callable[..., bytes] = channel.unary_unary(LIVE)
        assert live(b"", timeout=20, wait_for_ready=True) == b"\x08\x01"


def _every(project: ServedProject, port: int, method: str, path: str, body: str = "") -> list[str]:
    """What each of many new connections is answered: either process has some of them."""
    told: list[str] = []
    for _ in range(12):
        fresh = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        fresh.request(method, path, body, {"Authorization": f"Bearer {project.token}"})
        answer = fresh.getresponse()
        told.append(f"{answer.status} {answer.read().decode()}")
        fresh.close()
    return told


def test_what_one_is_told_all_do_and_so_does_who_replaces_one(served: ServedProject) -> None:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1, wait_s=0)
    port, grpc_port = free_port(), free_port()
    with (served.home / "penstock.toml").open("a") as settings:
        settings.write(f"\nserve_grpc_port = {grpc_port}\n")
    with running(served, _command(served, port), str(port)) as client:
        _until(lambda: 'worker="1"' in client.get("/metrics").text)
        before = _workers(served)
        answers = _every(served, port, "POST", PREDICT, BODY.decode())
        assert {one[:3] for one in answers} == {"200"}
        stats = "/v2/models/stats"

        def counted(said: str) -> dict[str, int]:
            lines = json.loads(said[4:])["model_stats"]
            return {one["name"]: one["inference_count"] for one in lines}

        # What others counted is in their files within a second, and never adds up to less.
        _until(lambda: {counted(one)["btc"] for one in _every(served, port, "GET", stats)} == {12})

        repository = "/v2/repository/models/btc"
        assert client.post(f"{repository}/unload").status_code == 200
        told = _every(served, port, "POST", PREDICT, BODY.decode())
        assert all(one.startswith("503") and "was unloaded here by" in one for one in told), told
        assert client.post("/v2/logging", json={"log_verbose_level": 1}).is_success
        verbose = {
            json.loads(one[4:])["log_verbose_level"]
            for one in _every(served, port, "GET", "/v2/logging")
        }
        assert verbose == {1}

        os.kill(min(before), signal.SIGKILL)
        _until(lambda: len(_workers(served) - {min(before)}) == 2)
        told = _every(served, port, "POST", PREDICT, BODY.decode())
        assert {one[:3] for one in told} == {"503"}

        metadata = (("authorization", f"Bearer {served.token}"),)
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            load: Callable[..., bytes] = channel.unary_unary(
                "/inference.GRPCInferenceService/RepositoryModelLoad"
            )
            load(b"\x12\x03btc", timeout=20, wait_for_ready=True, metadata=metadata)
        told = _every(served, port, "POST", PREDICT, BODY.decode())
        assert {one[:3] for one in told} == {"200"}


def test_told_to_stop_all_end_and_leave_nothing(served: ServedProject) -> None:
    port = free_port()
    with (served.home / "penstock.toml").open("a") as settings:
        settings.write('\nserve_socket = "s"\n')
    with subprocess.Popen(_command(served, port)) as process:
        _until(lambda: len(_workers(served)) == 2)
        process.terminate()
        assert process.wait(WAIT_S) == 0
    assert _workers(served) == set()
    assert not (served.home / "s").exists()


def test_what_keeps_the_first_from_starting_is_said_once(served: ServedProject) -> None:
    (served.home / ".penstock" / "metadata.db").write_bytes(b"no database at all" * 99)
    done = subprocess.run(
        _command(served, free_port()), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("error ") == 2  # the worker's, and that none could start
    assert "could not start" in done.stderr
