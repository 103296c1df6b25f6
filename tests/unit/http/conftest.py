"""The serving application over a real project, spoken to without a socket."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import uvloop

from penstock.http.serve_app import ServeApp
from penstock.http.serve_direct import Direct
from penstock.http.serve_keeper import Keeper
from penstock.http.serve_process import server_of
from penstock.http.tls import Certificates
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence

    from penstock.http.serve_call import Call, WholeCall
    from penstock.http.serve_errors import Answer
    from penstock.http.serve_quick import Origin
    from penstock.http.serve_stream import Streamed
    from penstock.http.serve_waking import ByNeed
    from penstock.http.serve_ways import Way
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

Json = Any


class Reply(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        return msgspec.json.decode(self.body)

    @property
    def message(self) -> str:
        error = self.json["error"]
        # The inference protocol has the text alone there.
        return str(error["message"] if isinstance(error, dict) else error)


class Client:
    """Speaks ASGI to the application, as a server would."""

    def __init__(self, app: ServeApp, keeper: Keeper, token: str) -> None:
        self.app = app
        self.keeper = keeper
        self.token = token

    async def post(self, path: str, body: bytes, **options: Any) -> Reply:  # noqa: ANN401 - send's
        return await self.send("POST", path, body, **options)

    async def get(self, path: str, **options: Any) -> Reply:  # noqa: ANN401 - as send takes them
        return await self.send("GET", path, b"", **options)

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | Sequence[bytes],
        *,
        token: str | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> Reply:
        parts = [body] if isinstance(body, bytes) else list(body)
        messages: list[dict[str, object]] = [
            {"type": "http.request", "body": part, "more_body": place < len(parts) - 1}
            for place, part in enumerate(parts)
        ]
        sent: list[Any] = []
        token = self.token if token is None else token
        given = [(b"authorization", f"Bearer {token}".encode())] if token else []
        name, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": name,
            "query_string": query.encode(),
            "headers": [*given, *headers],
        }

        async def receive() -> dict[str, object]:
            await asyncio.sleep(0)
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:  # noqa: ANN401 - as ASGI has it
            await asyncio.sleep(0)
            sent.append(message)

        await self.app(scope, receive, send)
        start, content = sent
        found = {key.decode(): value.decode() for key, value in start["headers"]}
        return Reply(start["status"], found, content["body"])


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        yield opened


@pytest.fixture
def talk(services: LocalServices, served: ServedProject) -> Callable[..., None]:
    """Runs a conversation with a started application."""

    def run(
        conversation: Callable[[Client], Coroutine[Any, Any, None]],
        *,
        by_need: ByNeed | None = None,
    ) -> None:
        async def whole() -> None:
            keeper = Keeper(services, address="http://here", limit_bytes=1 << 20, by_need=by_need)
            client = Client(ServeApp(keeper, services.clock), keeper, served.token)
            await keeper.start()
            try:
                await conversation(client)
            finally:
                await keeper.stop()

        asyncio.run(whole())

    return run


class Held(ServeApp):
    """Holds requests back for as long as their header ``x-hold`` says, in seconds."""

    async def answer(self, call: Call) -> Answer | Streamed | None:
        if held := call.header(b"x-hold"):
            await asyncio.sleep(float(held))
        return await super().answer(call)

    def begin(self, way: Way, call: WholeCall, origin: Origin) -> bool:
        return not call.header(b"x-hold") and super().begin(way, call, origin)


class Raw:
    """A connection to the server, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        """Send parts, each in a packet of its own."""
        for part in parts:
            if self.writer.is_closing():
                raise ConnectionResetError("The server has closed.")
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0.01 if len(parts) > 1 else 0)

    async def reply(self) -> Reply:
        """The next answer."""
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Reply(int(head[0].split(" ")[1]), headers, body)

    async def is_closed(self) -> bool:
        """Whether the server sends nothing more and has closed."""
        async with asyncio.timeout(20):
            try:
                return not await self.reader.read()
            except ConnectionError:
                return True


class Wire:
    """A server that answers on a socket, and the means to reach it."""

    def __init__(self, app: ServeApp, token: str, address: Any, tls: bool) -> None:  # noqa: ANN401, FBT001
        self.app = app
        self.keeper: Keeper
        self.token = token
        self.address = address
        self.tls = tls
        self.stop: asyncio.Event = asyncio.Event()
        self.ended: asyncio.Task[None]

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Raw]:
        context = ssl.create_default_context() if self.tls else None
        if context is not None:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if isinstance(self.address, str):
            opened = await asyncio.open_unix_connection(self.address, ssl=context)
        else:
            opened = await asyncio.open_connection(*self.address, ssl=context)
        try:
            yield Raw(*opened)
        finally:
            opened[1].close()

    def request(
        self,
        path: str,
        body: bytes = b"",
        *headers: bytes,
        method: str = "POST",
        bearer: str | None = None,
        length: int | None = None,
        version: str = "1.1",
    ) -> bytes:
        """A request as it is sent; with its length, unless it comes in chunks."""
        said = [f"{method} {path} HTTP/{version}".encode(), b"Host: here"]
        said.append(f"Authorization: Bearer {self.token if bearer is None else bearer}".encode())
        if not any(name.lower().startswith(b"transfer-encoding") for name in headers):
            said.append(b"Content-Length: %d" % (len(body) if length is None else length))
        return b"\r\n".join([*said, *headers, b"", body])


@pytest.fixture
def wire(services: LocalServices, served: ServedProject) -> Callable[..., None]:
    """Runs a conversation with the server that ``penstock serve`` runs, over a real socket."""

    def run(
        conversation: Callable[[Wire], Coroutine[Any, Any, None]],
        *,
        bound: socket.socket | None = None,
        cert: str | None = None,
        key: str | None = None,
    ) -> None:
        async def whole() -> None:
            keeper = Keeper(services, address="http://here", limit_bytes=1 << 20)
            app = Held(keeper, services.clock)
            files = Certificates(Path(cert), Path(key)) if cert and key else None
            server = server_of(app, certificates=files)
            listening = bound or socket.create_server(("127.0.0.1", 0))
            wire = Wire(app, served.token, listening.getsockname(), bool(cert))
            wire.keeper = keeper
            wire.ended = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                    await asyncio.sleep(0.01)
                end = asyncio.create_task(_end(server, wire))
                await conversation(wire)
                wire.stop.set()
                await end
            finally:
                server.should_exit = True
                await wire.ended

        threshold = gc.get_threshold()
        try:
            uvloop.run(whole())
        finally:
            # What the server does to the collector is for a process of its own.
            gc.unfreeze()
            gc.set_threshold(*threshold)

    return run


async def _end(server: Any, wire: Wire) -> None:  # noqa: ANN401 - uvicorn's
    await wire.stop.wait()
    server.should_exit = True


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways that requests went, in turn: ``quick``, in a task (``direct``), or by ``asgi``."""
    taken: list[str] = []
    begin, respond, call = Direct.begin, Direct.respond, ServeApp.__call__

    def quick(self: Direct) -> bool:
        began = begin(self)
        taken.extend(["quick"] * began)
        return began

    def short(self: Direct) -> Coroutine[None, None, None]:
        taken.append("direct")
        return respond(self)

    async def long(self: ServeApp, scope: Any, *rest: Any) -> None:  # noqa: ANN401 - as ASGI has it
        if scope["type"] == "http":
            taken.append("asgi")
        await call(self, scope, *rest)

    monkeypatch.setattr(Direct, "begin", quick)
    monkeypatch.setattr(Direct, "respond", short)
    monkeypatch.setattr(ServeApp, "__call__", long)
    return taken
