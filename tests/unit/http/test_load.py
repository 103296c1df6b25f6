"""Who is turned away when more is asked than can be answered, and how."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from penstock.deployment import deploy
from penstock.http import serve_load, serve_protocol
from penstock.http.serve_load import Load
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

    from .conftest import Wire

ENTITY = b'{"entity":{"symbol":"BTC"}}'
PREDICT = "/v1/deployments/btc/predict"
CONNECTIONS, FLOOD_S = 400, 2.0
MANY = serve_load.MANY_UNDER_WAY + 1


class Work:
    """What the loop works, timed as if it had a processor to itself: others want it as well."""

    def __init__(self) -> None:
        self._done_s = 0.0

    def do(self, work_s: float) -> None:
        began_s = time.monotonic()
        while time.monotonic() - began_s < work_s:
            pass
        self._done_s += time.monotonic() - began_s

    def thread_time(self) -> float:
        return self._done_s


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    made = Work()
    monkeypatch.setattr(serve_load, "time", made)
    return made


async def _busy(
    load: Load,
    *,
    rounds: int,
    stall_s: float,
    rest_s: float = 0.0,
    work: Work | None = None,
    many: int = MANY,
) -> bool:
    """Ask as requests do, while the loop is held up again and again, or works."""
    loop = asyncio.get_running_loop()
    for _ in range(rounds):
        load.is_too_much(loop, many)
        time.sleep(stall_s)  # noqa: ASYNC251 - what keeps the loop from turning
        if work:
            work.do(0.002)
        await asyncio.sleep(rest_s)
    return load.is_too_much(loop, many)


def test_much_that_waits_while_the_loop_turns_is_not_too_much() -> None:
    assert not asyncio.run(_busy(Load(), rounds=12, stall_s=0.0, rest_s=0.021))


def test_a_loop_that_never_rests_is_too_much_though_its_turns_are_short(work: Work) -> None:
    assert asyncio.run(_busy(Load(), rounds=200, stall_s=0.0, work=work))


def test_no_rest_is_not_too_much_while_there_are_not_many(work: Work) -> None:
    few = serve_load.MANY_UNDER_WAY
    assert not asyncio.run(_busy(Load(), rounds=200, stall_s=0.0, work=work, many=few))


def test_once_it_is_too_much_fewer_are_let_in(work: Work) -> None:
    load, few = Load(), serve_load.MOST_UNDER_WAY + 1

    async def scenario() -> tuple[bool, bool, bool]:
        loop = asyncio.get_running_loop()
        before = load.is_too_much(loop, few)
        many = await _busy(load, rounds=200, stall_s=0.0, work=work)
        return before, many, load.is_too_much(loop, few)

    assert asyncio.run(scenario()) == (False, True, True)


def test_a_burst_is_not_too_much() -> None:
    assert not asyncio.run(_busy(Load(), rounds=2, stall_s=0.05))


def test_a_loop_that_goes_on_being_late_is_too_much_until_it_has_been_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve_load, "RETRY_AFTER_S", 0.2)
    load = Load()

    async def scenario() -> tuple[bool, bool, bool]:
        loop = asyncio.get_running_loop()
        at_once = await _busy(load, rounds=12, stall_s=0.05)
        await asyncio.sleep(0.1)
        soon = load.is_too_much(loop, MANY)
        for _ in range(100):  # other work on the machine makes the loop late as well
            if not load.is_too_much(loop, 0):
                break
            await asyncio.sleep(0.3)
        return at_once, soon, load.is_too_much(loop, 0)

    assert asyncio.run(scenario()) == (True, True, False)


@pytest.fixture
def told(services: LocalServices, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether it is too much, for each request that comes; too little once the list is empty."""
    deploy(services, "btc", version=1, wait_s=0)
    answers: list[bool] = []
    monkeypatch.setattr(serve_protocol, "MOST_UNDER_WAY", -1)
    monkeypatch.setattr(Load, "is_too_much", lambda *_: answers.pop(0) if answers else False)
    yield answers
    assert answers == []


@pytest.mark.parametrize(
    ("path", "body", "kind", "plain"),
    [
        (PREDICT, ENTITY, "predict", False),
        ("/v2/models/btc/infer", b"{}", "infer", True),
        ("/v1/models/btc:predict", b"{}", "alias", True),
    ],
)
def test_whoever_is_turned_away_is_told_in_the_shape_of_the_door(
    wire: Callable[..., None], told: list[bool], path: str, body: bytes, *, kind: str, plain: bool
) -> None:
    told += [True]

    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            await raw.send(wire.request(path, body, bearer="nobody's"))
            reply = await raw.reply()
            await raw.send(wire.request(PREDICT, ENTITY))
            after = await raw.reply()
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert isinstance(reply.json["error"], str) == plain
        assert "More is asked of this process than it can answer" in reply.message
        assert wire.app.meter.requests[kind, 503] == 1
        assert after.status == 200  # the connection stays, and the next is looked at anew

    wire(conversation)


def test_who_asks_again_too_soon_waits_for_the_next_refusal_and_for_nothing_else(
    wire: Callable[..., None], told: list[bool]
) -> None:
    told += [True, True, False]
    took_s: list[float] = []

    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            for status in (503, 503, 200):
                began_s = time.monotonic()
                await raw.send(wire.request(PREDICT, ENTITY))
                assert (await raw.reply()).status == status
                took_s.append(time.monotonic() - began_s)

    wire(conversation)
    assert took_s[1] >= serve_load.HOLD_S / 2
    assert took_s[0] < serve_load.HOLD_S / 2
    assert took_s[2] < serve_load.HOLD_S / 2


def test_refusals_and_answers_keep_their_order(wire: Callable[..., None], told: list[bool]) -> None:
    pattern = [False, True, False, True, True, False]
    told += pattern

    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            request = wire.request(PREDICT, ENTITY)
            await raw.send(request * len(pattern))
            found = [(await raw.reply()).status for _ in pattern]
        assert found == [503 if refused else 200 for refused in pattern]

    wire(conversation)


def test_who_goes_away_while_a_refusal_waits_disturbs_nobody(
    wire: Callable[..., None], told: list[bool]
) -> None:
    told += [True, True]

    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            await raw.send(wire.request(PREDICT, ENTITY) * 2)
            await raw.reply()
        await asyncio.sleep(2 * serve_load.HOLD_S)
        async with wire.connection() as raw:
            await raw.send(wire.request(PREDICT, ENTITY))
            assert (await raw.reply()).status == 200

    wire(conversation)


@pytest.mark.slow
def test_a_flood_is_turned_away_in_part_and_leaves_nothing_behind(
    served: ServedProject, services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {served.token}\r\n"
    request = f"{head}Content-Length: {len(ENTITY)}\r\n\r\n".encode() + ENTITY
    seen: dict[bytes, int] = {}

    async def ask(port: int, end_s: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < end_s:
            writer.write(request)
            lines = await reader.readuntil(b"\r\n\r\n")
            length = int(lines.split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            kind = b"answered" if b'"prediction"' in body else body
            seen[kind] = seen.get(kind, 0) + 1
        writer.close()

    async def flood(port: int) -> None:
        end_s = time.monotonic() + FLOOD_S
        await asyncio.gather(*[ask(port, end_s) for _ in range(CONNECTIONS)])

    with serving(served) as http:
        asyncio.run(flood(http.base_url.port or 0))
        after = httpx.post(
            f"{http.base_url}{PREDICT}",
            content=ENTITY,
            headers={"authorization": f"Bearer {served.token}"},
        )

    assert after.status_code == 200
    assert seen.pop(b"answered") > CONNECTIONS
    assert seen
    assert all(b'"kind":"overloaded"' in body for body in seen), seen
