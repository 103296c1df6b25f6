"""A canary with real processes under load: stepped, promoted, killed in between, rolled back."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import httpx
import pytest

import penstock as ps
from penstock.control import deploy_run, start
from penstock.deployment import begin_rollout, deploy, get_rollout, rollback
from penstock.registry import aliases
from penstock.runtime import open_services
from penstock.testing.served_project import SYMBOLS
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PATIENCE_S = 120.0
PLAN = ps.Canary(steps=[0.2, 0.6], every="500ms", min_scores=40, latency=1000.0)


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home) as opened:
        deploy(opened, "btc", version=1)
        yield opened


class Load:
    """Asks without a pause, by entity keys of every kind; remembers who answered."""

    def __init__(self, url: str, token: str) -> None:
        self.faults: list[str] = []
        self.versions: list[int] = []
        self._stop = threading.Event()
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30
        )
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._http.close()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            # An unknown entity has a route as well, and features that are null.
            symbol = SYMBOLS[number % 3] if number % 2 else f"S{number % 97}"
            body = {"entity": {"symbol": symbol}}
            try:
                reply = self._http.post("/v1/deployments/btc/predict", json=body)
            except httpx.HTTPError as error:
                self.faults.append(repr(error))
                continue
            if reply.status_code == 200:
                self.versions.append(reply.json()["version"])
            else:
                self.faults.append(reply.text)


@contextmanager
def worker(services: LocalServices) -> Generator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "penstock.cli", "worker", "--home", str(services.home)]
    with (
        (services.home / "worker.out").open("ab") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_no_request_fails_from_the_first_share_to_the_rollback(
    services: LocalServices, served: ServedProject
) -> None:
    rollout = begin_rollout(services, "btc", version=2, canary=PLAN)
    name = rollout.rollout_id

    def state() -> str:
        return get_rollout(services.metadata, name).state

    with serving(served) as server, Load(str(server.base_url), served.token) as load:
        with worker(services):
            start(services, deploy_run(name, "btc"))
            until(lambda: state() == "canary")
        # Killed in the first step; another goes on from there.
        with worker(services):
            until(lambda: state() not in {"canary", "promoting"})
            done = get_rollout(services.metadata, name)
            until(lambda: load.versions[-1:] == [2])
            back = rollback(services, "btc", wait_s=60)
            until(lambda: load.versions[-1:] == [1])

    assert load.faults == []
    assert (done.state, done.reason) == ("done", "")
    assert [one.share for one in done.steps] == [0.2, 0.6]
    assert all(one.answers >= PLAN.min_scores for one in done.steps)
    assert (back.version, aliases(services.metadata, "direction").champion) == (1, 1)
    assert set(load.versions) == {1, 2}
