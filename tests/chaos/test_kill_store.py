"""The online store is killed and started again while a serving process answers from it."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest

import penstock as ps
from penstock.control import refresh_features
from penstock.deployment import RouteEdit, change_routes, deploy
from penstock.plan import Catalogue
from penstock.registry import aliases
from penstock.runtime import open_services
from penstock.spec import FeatureView
from penstock.testing.ports import free_port
from penstock.testing.redis_server import need_redis, redis_server
from penstock.testing.serving import serving
from penstock.testing.working import until

pytest.importorskip("redis", reason="the extra 'redis' is not installed")

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.testing.served_project import ServedProject

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CALLERS = 8
AWAY_S = 1.5
KEPT = ("--appendonly", "yes")


class Callers:
    """Ask by key without a pause, each on a connection of its own."""

    def __init__(self, http: httpx.Client) -> None:
        self.replies: list[tuple[float, int, dict[str, Any]]] = []
        self._stop = threading.Event()
        self._url, self._headers = str(http.base_url), http.headers
        self._threads = [threading.Thread(target=self._ask) for _ in range(CALLERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def count(self, route: str) -> int:
        """How many were answered by a route."""
        return sum(body.get("route") == route for _, _, body in self.replies)

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=30) as http:
            while not self._stop.is_set():
                began_s = time.monotonic()
                reply = http.post("/v1/deployments/btc/predict", json={"entity": {"symbol": "BTC"}})
                self.replies.append((time.monotonic() - began_s, reply.status_code, reply.json()))


@pytest.mark.parametrize(("deadline", "waits"), [("10s", True), ("80ms", False)])
def test_no_request_fails_while_the_store_is_started_again(
    served: ServedProject, tmp_path: Path, deadline: str, *, waits: bool
) -> None:
    """They wait for it where the deadline is later; where it is not, a constant answers."""
    need_redis()
    port = free_port()
    settings = served.home / "penstock.toml"
    settings.write_text(settings.read_text() + f'\nonline_url = "redis://127.0.0.1:{port}/0"\n')
    with ExitStack() as stack:
        store = stack.enter_context(redis_server(tmp_path / "redis", port, *KEPT))
        services = stack.enter_context(open_services(served.home, actor="tester"))
        source = Catalogue.load(services.metadata).all(FeatureView)[0].source.name
        refresh_features(services, source)
        deploy(services, "btc", version=1)
        deploy(services, "btc", version=2)
        fallback = ps.Fallback(deadline=deadline, value=0.5)
        change_routes(services, "btc", RouteEdit(fallback=fallback))
        callers = stack.enter_context(Callers(stack.enter_context(serving(served))))
        until(lambda: callers.count("champion") > 4 * CALLERS)
        store.kill()
        store.wait()
        time.sleep(AWAY_S)
        before = callers.count("champion")
        stack.enter_context(redis_server(tmp_path / "redis", port, *KEPT))
        until(lambda: callers.count("champion") > before + 8 * CALLERS)
        callers.stop()
        champion = aliases(services.metadata, "direction").champion
        withdrawn = [one for one in services.metadata.audit() if one.action == "withdraw"]

    failed = [(took_s, body) for took_s, status, body in callers.replies if status != 200]
    assert failed == []
    assert (champion, withdrawn) == (2, [])
    reasons = {body["reason"] for _, _, body in callers.replies if body["route"] == "fallback"}
    if waits:
        assert reasons == set()
        assert max(took_s for took_s, _, _ in callers.replies) > AWAY_S / 2
    else:
        assert any("cannot be reached" in reason for reason in reasons), reasons
