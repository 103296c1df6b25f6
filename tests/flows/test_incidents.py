"""A champion that turns slow, wrong or crashing under load, with real processes."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import penstock as ps
from penstock.deployment import RouteEdit, change_routes, deploy
from penstock.ports import EVENTS_TOPIC
from penstock.registry import aliases
from penstock.runtime import open_services
from penstock.testing.faulty import serving_faulty
from penstock.testing.working import until

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    import httpx

    from penstock.ports import Services
    from penstock.records import AuditEntry
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow

PREDICT = "/v1/deployments/btc/predict"
ENTITY = {"entity": {"symbol": "BTC"}}
FAULTS = ("slow 0.5", "wrong", "high", "crash", "half")


class Caller(threading.Thread):
    """Asks one process without a pause until told to stop."""

    def __init__(self, http: httpx.Client) -> None:
        super().__init__()
        self.http = http
        self.done = threading.Event()
        self.answers: list[dict[str, Any]] = []
        self.failed: list[str] = []

    def run(self) -> None:
        while not self.done.is_set():
            reply = self.http.post(PREDICT, json=ENTITY)
            if reply.status_code == 200:
                self.answers.append(reply.json())
            else:
                self.failed.append(reply.text)


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        deploy(opened, "btc", version=1)
        yield opened


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """What the version that turns bad is told."""
    return tmp_path / "orders"


@contextmanager
def _asked_by(callers: Sequence[Caller]) -> Generator[None]:
    for one in callers:
        one.start()
    try:
        yield
    finally:
        for one in callers:
            one.done.set()
            one.join()


def _withdrawals(services: Services) -> list[AuditEntry]:
    return [entry for entry in services.metadata.audit() if entry.action == "withdraw"]


def _serves(http: httpx.Client, label: str) -> bool:
    told = http.get("/v1/deployments").json()["deployments"]
    btc = next(one for one in told if one["name"] == "btc")
    return bool(btc["routes"].get("champion") == label)


def test_each_fault_brings_the_version_before_back_once_and_no_request_fails(
    served: ServedProject, services: LocalServices, orders: Path
) -> None:
    # On a machine that is busy elsewhere the version before may be late as well.
    fallback = ps.Fallback(deadline="250ms", value=0.5)
    change_routes(services, "btc", RouteEdit(fallback=fallback))
    with ExitStack() as stack:
        https = [stack.enter_context(serving_faulty(served, orders, version=2)) for _ in range(2)]
        callers = [Caller(http) for http in https for _ in range(2)]
        stack.enter_context(_asked_by(callers))
        for number, fault in enumerate(FAULTS, 1):
            deploy(services, "btc", version=2)
            orders.write_text(fault)
            until(
                lambda: aliases(services.metadata, "direction").champion == 1,
                f"No return at {fault!r}",
            )
            until(
                lambda: all(_serves(http, "direction@1") for http in https),
                f"Not served at {fault!r}",
            )
            orders.unlink()
            assert len(_withdrawals(services)) == number, fault
    now = aliases(services.metadata, "direction")
    told = services.log.read(EVENTS_TOPIC, after=0, limit=1_000)

    assert [one.failed for one in callers] == [[], [], [], []]
    assert (now.champion, now.previous, now.candidate) == (1, 0, 0)
    entries = _withdrawals(services)
    assert [entry.actor for entry in entries] == ["serve"] * len(FAULTS)
    assert {entry.difference["champion"] == [2, 1] for entry in entries} == {True}
    reasons = [str(entry.difference["reason"]) for entry in entries]
    assert "btc: direction@2 was later than" in reasons[0]
    assert "has no finite prediction" in reasons[1]
    assert "direction@2 predicts 1.7 for these features, which is no probability" in reasons[2]
    assert "failed with RuntimeError" in reasons[3]
    assert "failed with RuntimeError" in reasons[4]
    changed = [one.payload for one in told if b"deployment.changed:btc" in one.payload]
    assert len(set(changed)) == len(changed) == 1 + 2 * len(FAULTS)
    fell_back = [one for caller in callers for one in caller.answers if one["route"] == "fallback"]
    assert {1} <= {one["version"] for one in fell_back} <= {0, 1}


def test_a_champion_that_is_slow_is_withdrawn_without_a_deadline_that_cuts_its_answers(
    served: ServedProject, services: LocalServices, orders: Path
) -> None:
    change_routes(services, "btc", RouteEdit(fallback=ps.Fallback(slow_after="200ms")))
    with serving_faulty(served, orders, version=2) as http:
        deploy(services, "btc", version=2)
        caller = Caller(http)
        with _asked_by([caller]):
            until(lambda: bool(caller.answers), "No answer")
            orders.write_text("slow 0.4")
            until(
                lambda: aliases(services.metadata, "direction").champion == 1,
                "The slow version stays",
            )
            until(lambda: _serves(http, "direction@1"), "The version before is not served")
        metrics = http.get("/metrics").text

    assert caller.failed == []
    slow = 'penstock_slow_answers_total{deployment="btc",route="champion",version="2"'
    told = [line for line in metrics.splitlines() if line.startswith(slow)]
    assert told
    assert float(told[0].split()[-1]) >= 6  # five that opened its circuit, and the try
    assert 'kind="late"' not in metrics
    (entry,) = _withdrawals(services)
    assert "btc: direction@2 took longer than 200 ms" in str(entry.difference["reason"])


def test_a_champion_that_is_pinned_stays_and_its_fallback_answers(
    served: ServedProject, services: LocalServices, orders: Path
) -> None:
    deploy(services, "btc", version=2)
    change_routes(services, "btc", RouteEdit(pins={"champion": 2}))
    with serving_faulty(served, orders, version=2) as http:
        orders.write_text("crash")

        answers = [http.post(PREDICT, json=ENTITY).raise_for_status().json() for _ in range(20)]
        until(
            lambda: "is open" in http.post(PREDICT, json=ENTITY).json()["reason"],
            "The circuit did not open",
        )
        time.sleep(0.6)  # the pause after which one is let through to try
        answers += [http.post(PREDICT, json=ENTITY).raise_for_status().json() for _ in range(20)]
        orders.unlink()
        until(
            lambda: http.post(PREDICT, json=ENTITY).json()["route"] == "champion",
            "It was not asked again once it answered",
        )

    assert {(one["route"], one["version"]) for one in answers} == {("fallback", 1)}
    assert aliases(services.metadata, "direction").champion == 2
    assert _withdrawals(services) == []
