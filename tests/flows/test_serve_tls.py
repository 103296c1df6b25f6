"""Several processes answer over TLS, on a port and on a UNIX socket, while they are replaced."""

from __future__ import annotations

import os
import signal
import ssl
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from penstock.deployment import deploy
from penstock.runtime import living_processes, open_services
from penstock.scoring import drain_scores
from penstock.testing.caller import Caller
from penstock.testing.certificates import self_signed
from penstock.testing.ports import free_port
from penstock.testing.serving import running
from penstock.testing.working import until

if TYPE_CHECKING:
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow

PREDICT = "/v1/deployments/btc/predict"
BODY = {"entity": {"symbol": "BTC"}}


class Answers:
    """What was answered.

    Attributes:
        told: The ids of the scores that were given.
        lost: Requests that a connection ended under.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self.lost: list[str] = []

    def ask(self, http: httpx.Client) -> None:
        """Ask once, over the connection before where that is still open."""
        try:
            reply = http.post(PREDICT, json=BODY)
        except httpx.TransportError as error:
            self.lost.append(repr(error))
        else:
            self.told.append(reply.raise_for_status().json()["prediction_id"])


def _workers(project: ServedProject) -> set[int]:
    with open_services(project.home, actor="tester") as services:
        return {one.process_id for one in living_processes(services, kind="serve")}


@pytest.mark.parametrize("ends", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_is_replaced_under_requests_over_tls(
    served: ServedProject, ends: signal.Signals
) -> None:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1, wait_s=0)
    cert, _ = self_signed(served.home)
    with (served.home / "penstock.toml").open("a") as settings:
        settings.write('\nserve_socket = "s"\ntls_cert = "cert.pem"\ntls_key = "key.pem"\n')
    port = str(free_port())
    words = ["serve", "--home", str(served.home), "--port", port, "--workers", "2"]
    command = [sys.executable, "-m", "penstock.cli", *words]
    context = ssl.create_default_context(cafile=cert)
    with running(served, command, port, cert=cert) as http:
        assert http.base_url.scheme == "https"
        until(lambda: 'worker="1"' in http.get("/metrics").text, "The second is not ready")
        before = _workers(served)
        url = f"https://127.0.0.1:{port}"
        with ExitStack() as stack:
            asking = [Answers() for _ in range(5)]
            socket = str(served.home / "s")
            ways = [
                httpx.HTTPTransport(verify=context, uds=uds)
                for uds in (None, None, None, socket, socket)
            ]
            callers = [
                stack.enter_context(Caller(url, served.token, one.ask, transport=way))
                for one, way in zip(asking, ways, strict=True)
            ]
            until(lambda: all(len(one.told) > 20 for one in asking))
            victim = min(before)
            os.kill(victim, ends)
            until(lambda: not psutil.pid_exists(victim), "It has not ended")
            lost = [len(one.lost) for one in asking]
            until(lambda: len(_workers(served) - {victim}) == 2, "It was not replaced")
            met = [len(one.told) for one in asking]
            until(lambda: all(len(one.told) > n + 20 for one, n in zip(asking, met, strict=True)))

    assert [one.faults for one in callers] == [[]] * len(callers)
    # One that drains loses nothing. One that is killed loses its connections; until the last of its
    # threads is gone it is still handed some.
    assert ends is signal.SIGKILL or not any(one.lost for one in asking), [
        one.lost for one in asking
    ]
    assert all(len(one.lost) <= n + 1 for one, n in zip(asking, lost, strict=True))
    told = [name for one in asking for name in one.told]
    with open_services(served.home, actor="tester") as services:
        drain_scores(services)
        kept = services.tables.scan("scores/btc").select("prediction_id").collect()
    assert len(told) == len(set(told))
    assert set(told) <= set(kept["prediction_id"])
