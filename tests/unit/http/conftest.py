"""The serving application over a real project, spoken to without a socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from penstock.http.serve_app import ServeApp
from penstock.http.serve_keeper import Keeper
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

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

    def run(conversation: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            keeper = Keeper(services, address="http://here", limit_bytes=1 << 20)
            client = Client(ServeApp(keeper, services.clock), keeper, served.token)
            await keeper.start()
            try:
                await conversation(client)
            finally:
                await keeper.stop()

        asyncio.run(whole())

    return run
