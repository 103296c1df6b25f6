"""A request of the serving process, as far as it has been looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from penstock.errors import InputError

from .arrow_columns import arrow_asked
from .serve_errors import refusal
from .serve_packing import unpacked

if TYPE_CHECKING:
    from penstock.scoring import RequestTrace

    from .serve_v2_wire import InferRequest

__all__ = ["BODY_LIMIT_BYTES", "Call", "Gone", "Message", "Receive", "Send", "WholeCall"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_LIMIT_BYTES = 1 << 20


class Gone(Exception):  # noqa: N818 - no error: the client has hung up
    """Nobody waits for the answer any more."""


class Call:
    """A request, as far as it has been looked at.

    Args:
        scope: What ASGI says of it.
        receive: Gives its body.
        arrived_us: When it came, in microseconds since 1970 UTC.

    Attributes:
        limit_bytes: How long its body may be, unpacked too.
        trace: Its trace; none where it is not traced.
        read: What the body of a request to infer says, where that has been looked at already.
    """

    __slots__ = (
        "accept",
        "arrived_us",
        "authorization",
        "content_type",
        "encoding",
        "limit_bytes",
        "read",
        "receive",
        "request_id",
        "scope",
        "trace",
    )

    def __init__(self, scope: Message, receive: Receive, arrived_us: int) -> None:
        self.scope = scope
        self.receive = receive
        self.arrived_us = arrived_us
        self.authorization = self.content_type = self.accept = self.encoding = b""
        self.request_id = ""
        self.limit_bytes = BODY_LIMIT_BYTES
        self.trace: RequestTrace | None = None
        self.read: InferRequest | None = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                self.authorization = value
            elif name == b"content-type":
                self.content_type = value
            elif name == b"accept":
                self.accept = value
            elif name == b"x-request-id":
                self.request_id = value.decode("latin-1")[:200]
            elif name == b"content-encoding":
                self.encoding = value

    def header(self, wanted: bytes) -> bytes:
        """A header that few requests need, by its name in lower case; empty when there is none."""
        for name, value in self.scope["headers"]:
            if name == wanted:
                return bytes(value)
        return b""

    def need(self, *methods: str) -> None:
        """Refuse any other method; ``HEAD`` goes where ``GET`` does.

        Raises:
            InputError: It is another.
        """
        given = self.scope["method"]
        if given not in methods and not (given == "HEAD" and "GET" in methods):
            raise refusal(
                f"{given} is not for {self.scope['path']}; send {' or '.join(methods)}.",
                status=405,
                kind="method",
                headers=((b"allow", ", ".join(methods).encode()),),
            )

    def flag(self, name: str) -> bool:
        """A parameter of the query that is ``true`` or ``false``; false where it is left out.

        Raises:
            InputError: It is neither.
        """
        query = self.scope["query_string"]
        if not query:
            return False
        given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get(name, ["false"])
        if given not in (["true"], ["false"]):
            raise InputError(f"The parameter {name!r} is {', '.join(given)!r}; send true or false.")
        return given == ["true"]

    async def body(self) -> bytes:
        """The whole body, unpacked where it came packed.

        Raises:
            InputError: It is longer than ``limit_bytes``, or packed in a way nobody knows.
            Gone: The client has hung up.
        """
        whole = await self._received()
        if self.encoding:
            return unpacked(whole, self.encoding, limit_bytes=self.limit_bytes)
        return whole

    async def _received(self) -> bytes:
        length = self.header(b"content-length")
        if length.isdigit() and int(length) > self.limit_bytes:
            raise _too_long(self.limit_bytes)  # before the client is told to go on
        parts: list[bytes] = []
        size_bytes = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Gone
            part: bytes = message.get("body", b"")
            size_bytes += len(part)
            if size_bytes > self.limit_bytes:
                raise _too_long(self.limit_bytes)
            if not message.get("more_body", False):
                return part if not parts else b"".join([*parts, part])
            parts.append(part)


class WholeCall(Call):
    """A request whose body has come already.

    Args:
        scope: What ASGI would say of it.

    Attributes:
        is_plain: Whether it comes as it is, and neither it nor its answer is an Arrow stream.
        whole: The body, as it came; set with ``arrived_us`` once it has.
    """

    __slots__ = ("is_plain", "whole")

    def __init__(self, scope: Message) -> None:
        super().__init__(scope, _nothing, 0)
        self.is_plain = not (self.encoding or any(arrow_asked(self.content_type, self.accept)))
        self.whole = b""

    def again(self) -> WholeCall:
        """A request with the same head, as it is before anybody has looked at it."""
        made = WholeCall.__new__(WholeCall)
        made.scope, made.receive, made.arrived_us = self.scope, self.receive, 0
        made.accept, made.authorization = self.accept, self.authorization
        made.content_type, made.encoding = self.content_type, self.encoding
        made.is_plain, made.limit_bytes = self.is_plain, self.limit_bytes
        made.request_id, made.trace, made.read, made.whole = self.request_id, None, None, b""
        return made

    async def _received(self) -> bytes:
        return self.whole


async def _nothing() -> Message:
    """Nothing more comes."""
    raise Gone


def _too_long(limit_bytes: int) -> InputError:
    message = f"The body is longer than {limit_bytes:,} bytes. Send fewer rows at once."
    return refusal(message, status=413, kind="too_large")
