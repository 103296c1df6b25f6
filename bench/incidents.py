"""A champion that turns slow, wrong or crashing under load: how soon it is replaced, and who waits.

Sixteen connections ask over HTTP without a pause. A version of the two is made bad by a file that
its engine reads; everything else is as in production. A request counts as in time where its answer
is complete at the client within the deadline.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from penstock.deployment import RouteEdit, change_routes, deploy
from penstock.registry import aliases
from penstock.runtime import open_services
from penstock.spec import Fallback
from penstock.testing.faulty import serving_faulty
from penstock.testing.served_project import make_served_project

from .figure import Figure

if TYPE_CHECKING:
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

CONNECTIONS = 16
DEADLINE_MS = 50
FAULTS = {"slow": "slow 0.2", "wrong": "wrong", "crashing": "crash", "half crashing": "half"}
BEFORE_S, AFTER_S = 2.0, 4.0
SHARE_IN_TIME = 0.999


class Incident(NamedTuple):
    """What clients saw of one fault."""

    replaced_s: float
    late: int
    failed: int
    answers: int
    slowest_ms: float
    late_before: int
    answers_before: int


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    rounds = 1 if quick else 5
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        project = make_served_project(Path(folder) / "home")
        orders = Path(folder) / "orders"
        with open_services(project.home, actor="bench") as services:
            deploy(services, "btc", version=1)
            fallback = Fallback(deadline=f"{DEADLINE_MS}ms", value=0.5)
            change_routes(services, "btc", RouteEdit(fallback=fallback))
            with serving_faulty(project, orders, version=2) as http:
                port = http.base_url.port or 80
                found = {
                    name: [_incident(services, project, port, orders, order) for _ in range(rounds)]
                    for name, order in FAULTS.items()
                }
    return [figure for name, incidents in found.items() for figure in _figures(name, incidents)]


def _figures(name: str, incidents: list[Incident]) -> list[Figure]:
    replaced = [one.replaced_s for one in incidents]
    answers = sum(one.answers for one in incidents)
    missed = sum(one.late + one.failed for one in incidents) / answers
    before = sum(one.late_before for one in incidents) / sum(
        one.answers_before for one in incidents
    )
    slowest = max(one.slowest_ms for one in incidents)
    return [
        Figure(
            what=f"{name}: until the version before answers everywhere",
            ours=statistics.median(replaced),
            unit="s",
            budget=2.0,
            spread=(min(replaced), max(replaced)),
        ),
        Figure(
            what=f"{name}: requests per thousand that missed {DEADLINE_MS} ms",
            ours=1_000 * missed,
            unit="values",
            baseline=1_000 * before,
            baseline_name="before the fault",
            absolute=True,
            budget=1_000 * (1 - SHARE_IN_TIME),
            note=f"of {answers:,}; {sum(one.failed for one in incidents)} failed; slowest "
            f"{slowest:.0f} ms",
        ),
    ]


def _incident(
    services: LocalServices, project: ServedProject, port: int, orders: Path, order: str
) -> Incident:
    deploy(services, "btc", version=2)
    return asyncio.run(_watched(services, project, port, orders, order))


async def _watched(
    services: LocalServices, project: ServedProject, port: int, orders: Path, order: str
) -> Incident:
    until = asyncio.Event()
    callers = [
        asyncio.create_task(_ask(port, _request(project.token), until)) for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(BEFORE_S)
    began = time.perf_counter()
    await asyncio.to_thread(orders.write_text, order, encoding="utf-8")
    while aliases(services.metadata, "direction").champion != 1:
        await asyncio.sleep(0.01)
        if time.perf_counter() - began > 30:
            raise SystemExit(f"{order!r}: the version before did not come back within 30 s.")
    await asyncio.sleep(AFTER_S)
    until.set()
    asked = [one for caller in callers for one in await caller]
    await asyncio.to_thread(orders.unlink)
    bad = [at for at, _, body in asked if b'"version":1' not in body and at > began]
    after = [took for at, took, _ in asked if at + took > began]
    before = [took for at, took, _ in asked if at + took <= began]
    failed = sum(b'"prediction"' not in body for _, _, body in asked)
    late, late_before = (_late(times) for times in (after, before))
    champion = [at for at, _, body in asked if b'"route":"champion","as_of"' in body and at > began]
    back = [at for at in champion if not bad or at > max(bad)]
    return Incident(
        replaced_s=min(back) - began,
        late=late,
        failed=failed,
        answers=len(after),
        slowest_ms=1e3 * max(after),
        late_before=late_before,
        answers_before=len(before),
    )


def _late(times: list[float]) -> int:
    return sum(took > DEADLINE_MS / 1e3 for took in times)


async def _ask(port: int, request: bytes, until: asyncio.Event) -> list[tuple[float, float, bytes]]:
    """Ask again and again; when each was asked, how long it took, what was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    told: list[tuple[float, float, bytes]] = []
    while not until.is_set():
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        told.append((began, time.perf_counter() - began, body))
    writer.close()
    return told


def _request(token: str) -> bytes:
    body = msgspec.json.encode({"entity": {"symbol": "BTC"}})
    head = (
        "POST /v1/deployments/btc/predict HTTP/1.1\r\nHost: bench\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
