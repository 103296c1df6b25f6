"""HTTP itself, byte by byte over a socket, on both ways a request can go."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from typing import TYPE_CHECKING

import msgspec
import pytest

from penstock.deployment import deploy
from penstock.http import serve_process, serve_protocol, serve_sockets
from penstock.http.serve_call import BODY_LIMIT_BYTES
from penstock.testing.certificates import self_signed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.runtime import LocalServices

    from .conftest import Wire

ENTITY = b'{"entity":{"symbol":"BTC"}}'
TENSOR = b'{"inputs":[{"name":"symbol","shape":[1],"datatype":"BYTES","data":["BTC"]}]}'
TWO = TENSOR.replace(b"[1]", b"[2]").replace(b'["BTC"]', b'["BTC","ETH"]')
DIRECT, ASGI = "/v1/deployments/btc/predict", "/v1/deployments/b%74c/predict"
both_ways = pytest.mark.parametrize("predict", [DIRECT, ASGI], ids=["direct", "asgi"])


@pytest.fixture(autouse=True)
def _deployed(services: LocalServices) -> None:
    deploy(services, "btc", version=1, wait_s=0)


def test_scores_go_the_short_way(wire: Callable[..., None], ways: list[str]) -> None:
    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            for path, headers, body, way in (
                (DIRECT, [], ENTITY, "quick"),
                (DIRECT, [], b'{"rows":[%b]}' % ENTITY, "quick"),
                (DIRECT, [], b"{}", "direct"),
                (DIRECT, [b"Accept: application/vnd.apache.arrow.stream"], ENTITY, "direct"),
                (f"{DIRECT}?features=true", [], ENTITY, "direct"),
                ("/v2/models/btc/infer", [], TENSOR, "quick"),
                ("/v2/models/btc/infer", [], TWO, "quick"),
                ("/v2/models/btc/versions/1/infer", [], TENSOR, "direct"),
                ("/v2/models/btc/infer", [], ENTITY, "direct"),
                ("/v1/models/btc:predict", [], ENTITY, "direct"),
                (ASGI, [], ENTITY, "asgi"),
                (DIRECT, [b"Expect: 100-continue"], ENTITY, "asgi"),
            ):
                ways.clear()
                await raw.send(wire.request(path, body, *headers))
                assert (await raw.reply()).status in {100, 200, 422}
                if way == "asgi" and headers:
                    assert (await raw.reply()).status == 200
                assert ways == [way], path

    wire(conversation)


@both_ways
def test_both_ways_tell_the_same(wire: Callable[..., None], predict: str) -> None:
    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            await raw.send(wire.request(predict, ENTITY))
            good = await raw.reply()
            assert list(good.headers) == ["content-type", "content-length"]
            assert good.json["route"] == "champion"
            for request, status in (
                (wire.request(predict, b"{"), 400),
                (wire.request(predict, b"{}"), 422),
                (wire.request(predict.replace("predict", "predicted"), b"{}"), 404),
                (wire.request(predict, ENTITY, method="GET"), 405),
                (wire.request(predict, ENTITY, bearer="wrong"), 401),
                (wire.request(predict, ENTITY, b"Content-Encoding: zstd"), 415),
            ):
                await raw.send(request)
                reply = await raw.reply()
                assert reply.status == status
                assert set(reply.json["error"]) == {"kind", "message"}
            many = msgspec.json.encode({"rows": [msgspec.json.decode(ENTITY)] * 100})
            await raw.send(wire.request(predict, many, b"Accept-Encoding: gzip"))
            packed = await raw.reply()
            assert packed.headers["content-encoding"] == "gzip"
            assert len(msgspec.json.decode(gzip.decompress(packed.body))["predictions"]) == 100

    wire(conversation)


@both_ways
def test_pipelined_requests_are_answered_in_order(wire: Callable[..., None], predict: str) -> None:
    async def conversation(wire: Wire) -> None:
        requests = [
            wire.request(predict, ENTITY, b"x-hold: 0.05"),
            wire.request("/v2/health/live", method="GET"),
            wire.request(predict, b"{}"),
            wire.request("/v1/deployments", b"", b"x-hold: 0.05", method="GET"),
            wire.request(predict, b'{"rows":[%b]}' % b",".join([ENTITY] * 50)),
            wire.request(ASGI, ENTITY),
            wire.request(predict, ENTITY, bearer="wrong"),
            wire.request(DIRECT, ENTITY),
        ]
        statuses = [200, 200, 422, 200, 200, 200, 401, 200]
        async with wire.connection() as raw:
            for _ in range(3):
                await raw.send(b"".join(requests * 5))
                told = [await raw.reply() for _ in range(5 * len(requests))]
                assert [one.status for one in told] == statuses * 5
                assert told[1].json == {"live": True}
                assert "deployments" in told[3].json
                assert len(told[4].json["predictions"]) == 50

    wire(conversation)


def test_many_pipelined_requests_do_not_pile_up(wire: Callable[..., None]) -> None:
    """A thousand refusals need no waiting: answering one must not call for the next inside it."""

    async def conversation(wire: Wire) -> None:
        request = wire.request(DIRECT, ENTITY, bearer="wrong")
        async with wire.connection() as raw:
            await raw.send(request * 2_000)
            assert {(await raw.reply()).status for _ in range(2_000)} == {401}

    wire(conversation)


@both_ways
def test_bodies_in_chunks_and_packed(wire: Callable[..., None], predict: str) -> None:
    async def conversation(wire: Wire) -> None:
        chunked = b"Transfer-Encoding: chunked"
        chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in (ENTITY[:7], ENTITY[7:])]
        async with wire.connection() as raw:
            await raw.send(wire.request(predict, b"", chunked) + b"".join(chunks) + b"0\r\n\r\n")
            assert (await raw.reply()).status == 200
            await raw.send(wire.request(predict, b"", chunked), *chunks, b"0\r\n", b"\r\n")
            assert (await raw.reply()).status == 200
            packed = gzip.compress(ENTITY)
            await raw.send(wire.request(predict, packed, b"Content-Encoding: gzip"))
            assert (await raw.reply()).status == 200
            await raw.send(wire.request(predict, packed[:-9], b"Content-Encoding: gzip"))
            assert (await raw.reply()).status == 400

    wire(conversation)


@both_ways
def test_trailers_are_no_headers(wire: Callable[..., None], predict: str) -> None:
    async def conversation(wire: Wire) -> None:
        chunked = b"Transfer-Encoding: chunked"
        body = b"%x\r\n%b\r\n0\r\n" % (len(ENTITY), ENTITY)
        trailer = f"Authorization: Bearer {wire.token}\r\n\r\n".encode()
        async with wire.connection() as raw:
            await raw.send(wire.request(predict, body + trailer, chunked, bearer="wrong"))
            assert (await raw.reply()).status == 401
            await raw.send(wire.request(predict, ENTITY))
            assert (await raw.reply()).status == 200

    wire(conversation)


@both_ways
def test_a_request_may_come_byte_by_byte(wire: Callable[..., None], predict: str) -> None:
    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            request = wire.request(predict, ENTITY)
            await raw.send(*[request[place : place + 1] for place in range(len(request))])
            assert (await raw.reply()).status == 200

    wire(conversation)


@both_ways
def test_long_bodies(wire: Callable[..., None], predict: str) -> None:
    async def conversation(wire: Wire) -> None:
        row = b" " * 700 + ENTITY
        rows = b'{"rows":[%b]}' % b",".join([row] * 200)
        assert 2 * serve_protocol.GATHERED_BYTES < len(rows) < BODY_LIMIT_BYTES
        chunked = b"Transfer-Encoding: chunked"
        async with wire.connection() as raw:
            await raw.send(wire.request(predict, rows))
            assert len((await raw.reply()).json["predictions"]) == 200
            # Refused before it is whole; the rest is taken, and the connection goes on.
            long = b" " * (3 * BODY_LIMIT_BYTES)
            for request in (
                wire.request(predict, long),
                wire.request(predict, b"%x\r\n%b\r\n0\r\n\r\n" % (len(long), long), chunked),
            ):
                await raw.send(request)
                assert (await raw.reply()).status == 413
                await raw.send(wire.request(predict, ENTITY))
                assert (await raw.reply()).status == 200
            endless = b"%x\r\n%b\r\n" % (1 << 20, b" " * (1 << 20))
            await raw.send(wire.request(predict, b"", chunked))
            with pytest.raises(ConnectionError):
                await raw.send(*[endless] * 100)

    wire(conversation)


@both_ways
def test_long_heads_are_refused(wire: Callable[..., None], predict: str) -> None:
    limit = serve_protocol.HEAD_LIMIT_BYTES

    async def conversation(wire: Wire) -> None:
        fits = [b"x-%d: %b" % (place, b"a" * 1_000) for place in range(limit // 1_100)]
        async with wire.connection() as raw:
            await raw.send(wire.request(predict, ENTITY, *fits))
            assert (await raw.reply()).status == 200
            await raw.send(wire.request(predict, ENTITY, *fits, *fits))
            refused = await raw.reply()
            assert (refused.status, refused.headers["connection"]) == (431, "close")
            assert await raw.is_closed()
        for more in (b"", b" HTTP/1.1\r\nx: ", b" HTTP/1.1\r\nx"):
            async with wire.connection() as raw:
                await raw.send(f"POST {predict}".encode() + more, *[b"a" * 30_000] * 6)
                assert (await raw.reply()).status == 431

    wire(conversation)


BROKEN = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    b"GET\r\n\r\n",
    b"POST PATH HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST PATH HTTP/1.1\r\nHost : here\r\n\r\n",
    b"POST PATH HTTP/1.1\r\nno colon\r\n\r\n",
    b"POST PATH HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST PATH HTTP/1.1\r\nContent-Length: 3, 4\r\n\r\nabcd",
    b"POST PATH HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST PATH HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST PATH HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST PATH HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    b"POST PATH HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    b"POST PATH HTTP/1.1\r\nTransfer-Encoding: identity, gzip\r\n\r\nab",
    b"POST PATH HTTP/1.1\r\nx: \x00\r\n\r\n",
    b"CONNECT here:80 HTTP/1.1\r\n\r\n",
    b"POST /\xff/predict HTTP/1.1\r\n\r\n",
]


@both_ways
def test_what_is_no_http_is_refused(wire: Callable[..., None], predict: str) -> None:
    async def conversation(wire: Wire) -> None:
        for broken in BROKEN:
            async with wire.connection() as raw:
                await raw.send(broken.replace(b"PATH", predict.encode()))
                reply = await raw.reply()
                assert (reply.status, reply.headers["connection"]) == (400, "close"), broken
                assert reply.json["error"]["kind"] == "malformed"
                assert await raw.is_closed()

    wire(conversation)


@both_ways
def test_what_is_no_http_is_refused_in_its_turn(wire: Callable[..., None], predict: str) -> None:
    async def conversation(wire: Wire) -> None:
        good = wire.request(predict, ENTITY, b"x-hold: 0.05")
        for broken in BROKEN:
            async with wire.connection() as raw:
                await raw.send(good + good + broken.replace(b"PATH", predict.encode()))
                assert [(await raw.reply()).status for _ in range(3)] == [200, 200, 400], broken
                assert await raw.is_closed()

    wire(conversation)


@both_ways
def test_another_protocol_is_not_taken_up(wire: Callable[..., None], predict: str) -> None:
    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            for protocol in (b"h2c", b"websocket"):
                upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol)
                await raw.send(wire.request(predict, ENTITY, *upgrade))
                assert (await raw.reply()).status == 200
                get = wire.request("/v2/health/live", b"", *upgrade, method="GET")
                await raw.send(get + wire.request(predict, ENTITY) * 2)
                assert [(await raw.reply()).status for _ in range(3)] == [200] * 3

    wire(conversation)


@both_ways
def test_expecting_to_go_on(wire: Callable[..., None], predict: str) -> None:
    async def conversation(wire: Wire) -> None:
        expect = b"Expect: 100-continue"
        async with wire.connection() as raw:
            request = wire.request(predict, ENTITY, expect)
            await raw.send(request[: -len(ENTITY)])
            assert (await raw.reply()).status == 100
            await raw.send(ENTITY)
            assert (await raw.reply()).status == 200
            # Told before it sends anything that nobody wants it.
            await raw.send(wire.request(predict, ENTITY, expect, bearer="wrong")[: -len(ENTITY)])
            assert (await raw.reply()).status == 401
        async with wire.connection() as raw:
            await raw.send(wire.request(predict, b"", expect, length=2 * BODY_LIMIT_BYTES))
            assert (await raw.reply()).status == 413

    wire(conversation)


@both_ways
def test_who_wants_to_close_is_closed(wire: Callable[..., None], predict: str) -> None:
    async def conversation(wire: Wire) -> None:
        for version, header in (
            ("1.1", b"Connection: close"),
            ("1.0", b"x: y"),
            ("1.0", b"Connection: keep-alive"),
        ):
            async with wire.connection() as raw:
                await raw.send(wire.request(predict, ENTITY, header, version=version))
                reply = await raw.reply()
                assert (reply.status, reply.headers["connection"]) == (200, "close")
                assert await raw.is_closed()

    wire(conversation)


@both_ways
def test_a_client_that_has_closed_its_side_is_answered(
    wire: Callable[..., None], predict: str
) -> None:
    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            await raw.send(wire.request(predict, ENTITY, b"x-hold: 0.1") * 2)
            raw.writer.write_eof()
            assert [(await raw.reply()).status for _ in range(2)] == [200, 200]
            assert await raw.is_closed()
        for cut in (20, -1):
            async with wire.connection() as raw:
                await raw.send(wire.request(predict, ENTITY)[:cut])
                raw.writer.write_eof()
                assert await raw.is_closed()

    wire(conversation)


@both_ways
def test_clients_that_go_away_disturb_nobody(wire: Callable[..., None], predict: str) -> None:
    async def conversation(wire: Wire) -> None:
        request = wire.request(predict, ENTITY, b"x-hold: 0.05")
        for cut in (5, 60, len(request) - 3, len(request)):
            for hard in (False, True):
                async with wire.connection() as raw:
                    await raw.send(request[:cut])
                    if hard:
                        raw.writer.transport.abort()
        await asyncio.sleep(0.2)
        async with wire.connection() as raw:
            await raw.send(request)
            assert (await raw.reply()).status == 200
            told = wire.request("/metrics", b"", method="GET")
            await raw.send(told)
            assert b'status="500"' not in (await raw.reply()).body

    wire(conversation)


@both_ways
def test_slow_clients_are_cut_off(
    wire: Callable[..., None], predict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_protocol, "RECEIVE_S", 0.5)
    monkeypatch.setattr(serve_protocol, "KEEP_ALIVE_S", 1.0)

    async def conversation(wire: Wire) -> None:
        request = wire.request(predict, ENTITY)
        for cut in (5, 60, len(request) - 3):
            async with wire.connection() as raw:
                await raw.send(request)
                assert (await raw.reply()).status == 200
                await raw.send(request[:cut])
                late = await raw.reply()
                assert (late.status, late.json["error"]["kind"]) == (408, "timeout")
                assert await raw.is_closed()
        async with wire.connection() as resting:
            assert await resting.is_closed()
        async with wire.connection() as held:
            await held.send(wire.request(predict, ENTITY, b"x-hold: 2.5"))
            assert (await held.reply()).status == 200

    wire(conversation)


@both_ways
def test_who_does_not_read_is_not_read(
    wire: Callable[..., None], predict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_protocol, "RECEIVE_S", 1.0)

    async def conversation(wire: Wire) -> None:
        rows = b'{"rows":[%b]}' % b",".join([ENTITY] * 900)
        request = wire.request(predict, rows)
        with socket.socket() as greedy:
            greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            greedy.connect(tuple(wire.address))
            greedy.settimeout(0)
            sent = 0
            with pytest.raises(ConnectionError):  # noqa: PT012 - any of these may find out
                while True:
                    try:
                        sent += greedy.send(request)
                    except BlockingIOError:
                        await asyncio.sleep(0.01)
            assert sent < 64 << 20
        async with wire.connection() as raw:
            await raw.send(wire.request(predict, ENTITY))
            assert (await raw.reply()).status == 200

    wire(conversation)


class Beside:
    """Takes note of its end."""

    def __init__(self, name: str, told: list[str]) -> None:
        self._name, self._told = name, told

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        self._told.append(self._name)


def test_what_began_last_ends_first(wire: Callable[..., None]) -> None:
    """What is answered by gRPC as it ends is counted, and logged as all processes were told."""
    told: list[str] = []

    async def conversation(wire: Wire) -> None:
        wire.app.beside += [Beside(name, told) for name in ("counts", "answers")]

    wire(conversation)
    assert told == ["answers", "counts"]


def test_it_is_not_ready_while_it_answers_who_came_before_its_end(
    wire: Callable[..., None],
) -> None:
    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw, asyncio.timeout(20):
            await raw.send(wire.request(DIRECT, ENTITY, b"x-hold: 2"))
            answered = asyncio.create_task(raw.reply())
            wire.stop.set()
            while wire.keeper.ready:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.01)
            assert not answered.done()
            assert (await answered).status == 200

    wire(conversation)


@both_ways
def test_nothing_is_lost_when_the_server_ends(wire: Callable[..., None], predict: str) -> None:
    async def conversation(wire: Wire) -> None:
        failed: list[object] = []
        answered = 0

        async def client(number: int) -> None:
            """Ask until told to go; a request that is not answered is a failure."""
            nonlocal answered
            hold = (b"x-hold: 0.05",) if number % 2 else ()
            async with wire.connection() as raw:
                while True:
                    await asyncio.sleep(0.005 * (number % 5))
                    try:
                        await raw.send(wire.request(predict, ENTITY, *hold))
                        reply = await raw.reply()
                    except (ConnectionError, asyncio.IncompleteReadError) as error:
                        failed.append(error)
                        return
                    answered += reply.status == 200
                    if reply.headers.get("connection") == "close":
                        return

        async with wire.connection() as resting, wire.connection() as slow:
            request = wire.request(predict, ENTITY)
            await slow.send(request[:-5])
            clients = [asyncio.create_task(client(number)) for number in range(20)]
            await asyncio.sleep(0.3)
            wire.stop.set()
            await asyncio.sleep(0.4)
            await slow.send(request[-5:])
            assert (await slow.reply()).headers["connection"] == "close"
            await asyncio.gather(*clients)
            await wire.ended
            assert await resting.is_closed()
        assert failed == []
        assert answered > 40

    wire(conversation)


@both_ways
def test_a_unix_socket(wire: Callable[..., None], predict: str, tmp_path: Path) -> None:
    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            await raw.send(wire.request(predict, ENTITY))
            assert (await raw.reply()).status == 200

    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s"))
        wire(conversation, bound=bound)


def test_a_client_that_rests_over_tls_does_not_hold_up_the_end(
    wire: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_process, "GRACE_S", 40)
    cert, key = self_signed(tmp_path)

    def deaf(address: tuple[str, int]) -> ssl.SSLSocket:
        """A connection that has been answered, and of which nobody reads any more."""
        context = ssl.create_default_context(cafile=cert)
        made = context.wrap_socket(socket.create_connection(address), server_hostname="localhost")
        made.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: here\r\n\r\n")
        assert made.recv(1 << 16).startswith(b"HTTP/1.1 200")
        return made

    async def conversation(wire: Wire) -> None:
        client = await asyncio.to_thread(deaf, wire.address)
        wire.stop.set()
        async with asyncio.timeout(20):
            await wire.ended
        client.close()

    wire(conversation, cert=str(cert), key=str(key))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_who_has_come_before_the_end_is_answered(
    wire: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    tls = scheme == "https"
    cert, key = self_signed(tmp_path)
    context = ssl.create_default_context(cafile=cert)
    come: list[socket.socket] = []
    ends = asyncio.Event()

    def waiting_at(listening: socket.socket) -> list[socket.socket]:
        """Connections that the kernel has made, and the loop has not been told of yet."""
        come.extend(socket.create_connection(listening.getsockname()) for _ in range(3))
        ends.set()
        return serve_sockets.waiting_at(listening)

    monkeypatch.setattr(serve_process, "waiting_at", waiting_at)

    def ask(client: socket.socket, request: bytes) -> bytes:
        client.settimeout(20)
        if tls:
            client = context.wrap_socket(client, server_hostname="localhost")
        with client:
            client.sendall(request)
            return b"".join(iter(lambda: client.recv(1 << 16), b""))

    async def conversation(wire: Wire) -> None:
        request = wire.request(DIRECT, ENTITY)
        wire.stop.set()
        await ends.wait()
        answers = [asyncio.to_thread(ask, one, request) for one in come]
        for answer in await asyncio.gather(*answers):
            assert answer.startswith(b"HTTP/1.1 200"), answer

    wire(conversation, cert=str(cert) if tls else None, key=str(key) if tls else None)


@both_ways
def test_over_tls(wire: Callable[..., None], predict: str, tmp_path: Path) -> None:
    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            good = wire.request(predict, ENTITY)
            await raw.send(good * 5 + wire.request(predict, b" " * (2 * BODY_LIMIT_BYTES)))
            assert [(await raw.reply()).status for _ in range(6)] == [200] * 5 + [413]
            await raw.send(good, b"no HTTP\r\n\r\n")
            assert [(await raw.reply()).status for _ in range(2)] == [200, 400]
            assert await raw.is_closed()
        async with wire.connection() as resting:
            wire.stop.set()
            await wire.ended
            assert await resting.is_closed()

    cert, key = self_signed(tmp_path)
    wire(conversation, cert=str(cert), key=str(key))
