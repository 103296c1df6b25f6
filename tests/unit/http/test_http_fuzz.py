"""A stream of bytes means the same however it is cut; whatever it is, nothing fails at it."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from penstock.deployment import RouteEdit, change_routes, deploy
from penstock.http.serve_app import ServeApp
from penstock.http.serve_keeper import Keeper
from penstock.http.serve_process import server_of
from penstock.http.serve_protocol import ServeProtocol
from penstock.runtime import open_services
from penstock.spec import Fallback

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from penstock.testing.served_project import ServedProject

ENTITY = b'{"entity":{"symbol":"BTC"}}'
PATHS = ("/v1/deployments/btc/predict", "/v1/deployments/b%74c/predict")
HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\n((?:[a-z-]+: [^\r]*\r\n)*)\r\n")
WHEN = re.compile(rb'"(prediction_id|as_of)":"[^"]*"')


class Pipe(asyncio.Transport):
    """Keeps what is written; a client that reads at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed, "written after the end"
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Server:
    """A started application, and a loop to speak to it from."""

    def __init__(self, app: ServeApp, token: str, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self.token = token
        self.loop = loop
        self.config = server_of(app).config
        self.config.load()

    def answers(self, parts: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """Status and body of everything that is answered to a stream that comes in parts."""
        return self.loop.run_until_complete(self._answers(parts))

    async def _answers(self, parts: Sequence[bytes]) -> list[tuple[int, bytes]]:
        state = ServerState()
        protocol = ServeProtocol(self.config, state, {}, self.loop)
        pipe = Pipe()
        protocol.connection_made(pipe)
        for part in parts:
            if pipe.closed:
                break
            protocol.data_received(part)
            await asyncio.sleep(0)
        waits = protocol.eof_received()
        if not waits:
            protocol.connection_lost(None)
        async with asyncio.timeout(20):
            # What is answered without a task is under way as well.
            while state.tasks or (  # noqa: ASYNC110 - there is no event for it
                waits and not pipe.closed and not protocol.cycle.response_complete
            ):
                await asyncio.sleep(0)
        if waits:
            protocol.connection_lost(None)
        return _parsed(bytes(pipe.written), heads=b"HEAD " in b"".join(parts))


def _parsed(written: bytes, *, heads: bool) -> list[tuple[int, bytes]]:
    """The answers; to HEAD one tells the length of a body that it does not have."""
    found: list[tuple[int, bytes]] = []
    while written:
        head = HEAD.match(written)
        assert head is not None, written[:200]
        status = int(head[1])
        headers = dict(line.split(b": ", 1) for line in head[2].splitlines())
        size = 0 if status == 100 else int(headers[b"content-length"])
        after = written[head.end() :]
        if heads and (not after or after.startswith(b"HTTP/1.1 ")):
            size = 0
        body = after[:size]
        assert len(body) == size
        found.append((status, WHEN.sub(b'"then":0', body)))
        written = written[head.end() + size :]
    return found


@contextmanager
def started(home: Path, token: str) -> Generator[Server]:
    """A project's application, until the block ends; ``home`` is changed."""
    loop = uvloop.new_event_loop()
    with open_services(home, actor="tester") as services:
        deploy(services, "btc", version=1, wait_s=0)
        # A fuzzer that runs beside other work stalls, and late is not what it looks for.
        patient = Fallback(deadline="10s", to="previous")
        change_routes(services, "btc", RouteEdit(fallback=patient))
        keeper = Keeper(services, address="http://here", limit_bytes=1 << 20)
        app = ServeApp(keeper, services.clock)
        loop.run_until_complete(keeper.start())
        try:
            yield Server(app, token, loop)
        finally:
            loop.run_until_complete(keeper.stop())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()


@pytest.fixture(scope="module")
def server(
    served_template: ServedProject, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("fuzz") / "home"
    shutil.copytree(served_template.home, home)
    with started(home, served_template.token) as server:
        yield server


def _request(draw: st.DrawFn, token: str) -> bytes:
    path = draw(st.sampled_from([*PATHS, "/v2/health/live", "/v1/deployments", "/nowhere"]))
    method = draw(st.sampled_from(["POST", "POST", "GET"]))
    bodies = [ENTITY, b"{}", b"", b'{"rows":[%b,%b]}' % (ENTITY, ENTITY), b" " * 5_000 + ENTITY]
    body = draw(st.sampled_from(bodies))
    bearer = draw(st.sampled_from([token, token, token, "wrong"]))
    lines = [f"{method} {path} HTTP/1.1", "Host: here", f"Authorization: Bearer {bearer}"]
    lines += draw(
        st.sampled_from([[], ["x-request-id: 7"], ["Upgrade: h2c", "Connection: Upgrade"]])
    )
    if draw(st.booleans()):
        lines.append("Transfer-Encoding: chunked")
        parts = [body[:9], body[9:]]
        body = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in parts if one) + b"0\r\n\r\n"
    else:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    return [_request(draw, "TOKEN") for _ in range(draw(st.integers(1, 5)))]


def _cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(bounds) if end > start]


@given(requests=streams(), places=st.lists(st.integers(0, 1 << 20), max_size=12))
@settings(max_examples=150, deadline=None)
def test_a_stream_means_the_same_however_it_is_cut(
    server: Server, requests: list[bytes], places: list[int]
) -> None:
    requests = [one.replace(b"TOKEN", server.token.encode()) for one in requests]
    alone = [answer for one in requests for answer in server.answers([one])]
    assert len(alone) == len(requests)
    stream = b"".join(requests)
    assert server.answers([stream]) == alone
    assert server.answers(_cut(stream, places)) == alone


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "drop", "insert", "repeat", "swap"]),
        st.integers(0, 1 << 20),
        st.sampled_from(
            [b"\x00", b"\xff", b"\r\n", b" ", b":", b"{", b'"', b"9", b"chunked", b"e9"]
        ),
    ),
    min_size=1,
    max_size=8,
)


def _mutated(stream: bytes, mutations: Sequence[tuple[str, int, bytes]]) -> bytes:
    data = bytearray(stream)
    for kind, at, with_ in mutations:
        place = at % max(1, len(data))
        if kind == "flip" and data:
            data[place] ^= 1 << (at % 8)
        elif kind == "drop":
            del data[place : place + 1 + at % 20]
        elif kind == "insert":
            data[place:place] = with_
        elif kind == "repeat":
            data[place:place] = data[place : place + 40]
        elif kind == "swap":
            data[place:] = data[place + 7 :] + data[place : place + 7]
    return bytes(data)


@given(
    requests=streams(),
    mutations=MUTATIONS,
    places=st.lists(st.integers(0, 1 << 20), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_whatever_comes_nothing_fails(
    server: Server,
    requests: list[bytes],
    mutations: list[tuple[str, int, bytes]],
    places: list[int],
) -> None:
    stream = _mutated(b"".join(requests), mutations).replace(b"TOKEN", server.token.encode())
    check(server, _cut(stream, places))


def check(server: Server, parts: Sequence[bytes]) -> None:
    """Whatever comes is answered as it may be, and a good request after it as ever."""
    answers = server.answers(parts)
    assert all(status in {*range(200, 500), 100, 503} for status, _ in answers), answers
    for _, body in answers:
        if body.startswith(b"{"):
            json.loads(body)
    good = whole(PATHS[0], server.token)
    after = server.answers([good])
    assert [status for status, _ in after] == [200], after


def whole(path: str, token: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Length: {len(ENTITY)}\r\n\r\n".encode() + ENTITY
