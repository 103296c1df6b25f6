"""Heads that have been read before are not read again, and nothing else changes by that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from penstock.access import add_user, remove_user
from penstock.deployment import deploy
from penstock.http.serve_call import WholeCall
from penstock.http.serve_heads import KEPT, LONGEST_BYTES, Heads
from penstock.http.serve_protocol import ServeProtocol
from penstock.http.serve_ways import Ways

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.runtime import LocalServices

    from .conftest import Raw, Wire

PREDICT = "/v1/deployments/btc/predict"
ENTITY, ETH = b'{"entity":{"symbol":"BTC"}}', b'{"entity":{"symbol":"ETH"}}'
WAY = Ways().of(PREDICT.encode())


@pytest.fixture(autouse=True)
def _deployed(services: LocalServices) -> None:
    deploy(services, "btc", version=1, wait_s=0)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The URL of each head that is read."""
    found: list[bytes] = []
    begin = ServeProtocol.on_headers_complete

    def noted(self: ServeProtocol) -> None:
        found.append(self.url)
        begin(self)

    monkeypatch.setattr(ServeProtocol, "on_headers_complete", noted)
    return found


def call_of(body: bytes, *headers: tuple[bytes, bytes]) -> WholeCall:
    scope = {"method": "POST", "path": PREDICT, "query_string": b"", "headers": list(headers)}
    call = WholeCall.of(scope)
    call.whole, call.arrived_us = body, 5
    return call


def test_a_head_is_known_by_its_bytes_and_the_length_of_all() -> None:
    heads, head = Heads(), b"POST / HTTP/1.1\r\nAccept: a\r\n\r\n"
    call = call_of(b"body", (b"accept", b"a"))
    heads.keep(head + b"body", WAY, call)
    found = heads.of(head + b"else")
    assert found is not None
    assert (found.way, found.size_bytes) == (WAY, len(head))
    assert found.call.accept == b"a"
    assert (found.call.whole, found.call.arrived_us) == (b"", 0)
    for other in (head, head + b"bod", head + b"bodyP", head[1:] + b"body", b"", b"\r\n\r\n"):
        assert heads.of(other) is None
    assert heads.of(head.replace(b"Accept", b"accept") + b"body") is None


@pytest.mark.parametrize(
    ("data", "call"),
    [
        (b"H\r\n\r\nbodyH\r\n\r\nbody", call_of(b"body")),
        (b"\r\n\r\nH\r\n\r\nbody", call_of(b"body")),
        (b"H\r\n\r\n4\r\nbody\r\n0\r\n\r\n", call_of(b"body")),
        (b"H\r\n\r\n0\r\n\r\n", call_of(b"")),
        (b"H\r\n\r\nbody", call_of(b"body", (b"x-request-id", b"7"))),
        (b"H\r\n\r\nbody", call_of(b"body", (b"traceparent", b"00-1-2-01"))),
        (b"H\r\n\r\nbody", call_of(b"body", (b"x-amzn-trace-id", b"Root=1-2-3"))),
        (b"H" * LONGEST_BYTES + b"\r\n\r\nbody", call_of(b"body")),
    ],
    ids=["two", "blank before", "chunked", "empty chunked", "id", "trace", "balancer", "long"],
)
def test_what_could_not_be_known_again_is_not_kept(data: bytes, call: WholeCall) -> None:
    heads = Heads()
    heads.keep(data, WAY, call)
    assert not any(heads.of(data[:end]) for end in range(len(data) + 1))


def test_only_so_many_heads_are_kept() -> None:
    heads = Heads()
    for number in range(3 * KEPT + 1):
        heads.keep(b"H%d\r\n\r\n" % number, WAY, call_of(b""))
    known = [number for number in range(3 * KEPT + 1) if heads.of(b"H%d\r\n\r\n" % number)]
    assert 0 < len(known) <= KEPT
    assert known[-1] == 3 * KEPT


def test_a_head_is_read_once_for_all_connections(
    wire: Callable[..., None], read: Sequence[bytes]
) -> None:
    async def conversation(wire: Wire) -> None:
        told: list[Any] = []
        for _ in range(2):
            async with wire.connection() as raw:
                for body in (ENTITY, ETH, ENTITY):
                    await raw.send(wire.request(PREDICT, body))
                    told.append(await raw.reply())
        assert {one.status for one in told} == {200}
        values = [one.json["probability"] for one in told]
        assert values == [values[0], values[1], values[0]] * 2
        assert values[0] != values[1]
        assert len({one.json["prediction_id"] for one in told}) == 6
        assert read == [PREDICT.encode()]

    wire(conversation)


def test_requests_between_and_behind_known_ones_are_read(wire: Callable[..., None]) -> None:
    async def conversation(wire: Wire) -> None:
        known, other = wire.request(PREDICT, ENTITY), wire.request(PREDICT, ETH, b"x-request-id: 7")
        async with wire.connection() as raw:
            await raw.send(known)
            first = await raw.reply()
            wanted = [first.json["probability"]]
            # In pieces, together, with another behind, and blank lines before: always the same.
            await raw.send(known[:30], known[30:-5], known[-5:])
            await raw.send(known + known)
            await raw.send(known + other[:50], other[50:])
            await raw.send(b"\r\n" + known)
            await raw.send(b"\r\n", known)
            told = [await raw.reply() for _ in range(7)]
            assert {one.status for one in told} == {200}
            btc = [one for place, one in enumerate(told) if place != 4]
            assert [one.json["probability"] for one in btc] == wanted * 6
            assert told[4].json["probability"] not in wanted
            await raw.send(wire.request(PREDICT, ENTITY, b"Connection: close"))
            assert (await raw.reply()).headers["connection"] == "close"
            assert await raw.is_closed()
            # It asks for the end each time.
        async with wire.connection() as raw:
            await raw.send(wire.request(PREDICT, ENTITY, b"Connection: close"))
            assert (await raw.reply()).headers["connection"] == "close"

    wire(conversation)


def test_who_is_no_longer_let_in_is_refused_though_the_head_is_known(
    wire: Callable[..., None], services: LocalServices, read: Sequence[bytes]
) -> None:
    token = add_user(services, "ann", "writer")

    async def conversation(wire: Wire) -> None:
        request = wire.request(PREDICT, ENTITY, bearer=token)

        async def ask(raw: Raw) -> int:
            await raw.send(request)
            return (await raw.reply()).status

        async with wire.connection() as raw, asyncio.timeout(20):
            assert [await ask(raw), await ask(raw)] == [200, 200]
            await asyncio.to_thread(remove_user, services, "ann")
            while (status := await ask(raw)) == 200:  # noqa: ASYNC110 - each asks
                await asyncio.sleep(0.01)
            assert status == 401
        assert len(read) == 1

    wire(conversation)
