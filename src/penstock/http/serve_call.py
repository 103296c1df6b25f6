"""A request of the serving process, as far as it has been looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from penstock.errors import InputError
from penstock.scoring import Light

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


class Call(Light):
    """A request, as far as it has been looked at.

    Attributes:
        scope: What ASGI says of it.
        receive: Gives its body.
        arrived_us: When it came, in microseconds since 1970 UTC.
        limit_bytes: How long its body may be, unpacked too.
        accept: The header of that name; empty for none.
        authorization: Likewise.
        content_type: Likewise.
        encoding: How its body is packed; empty for as it is.
        request_id: The client's id of it; empty for none.
        trace: Its trace; none where it is not traced.
        read: What the body of a request to infer says, where that has been looked at already.
    """

    scope: Message
    receive: Receive
    arrived_us: int = 0
    limit_bytes: int = BODY_LIMIT_BYTES
    accept: bytes = b""
    authorization: bytes = b""
    content_type: bytes = b""
    encoding: bytes = b""
    request_id: str = ""
    trace: RequestTrace | None = None
    read: InferRequest | None = None

    def __post_init__(self) -> None:
        """Find the headers that most requests are asked for."""
        for name, value in self.scope["headers"]:
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

    Attributes:
        is_plain: Whether it comes as it is, and neither it nor its answer is an Arrow stream.
        whole: The body, as it came; set with ``arrived_us`` once it has.
    """

    is_plain: bool = True
    whole: bytes = b""

    @classmethod
    def of(cls, scope: Message, *, limit_bytes: int = BODY_LIMIT_BYTES) -> WholeCall:
        """A request by its head.

        Args:
            scope: What ASGI would say of it.
            limit_bytes: How long its body may be, unpacked too.
        """
        made = cls(scope, _nothing, limit_bytes=limit_bytes)
        is_arrow = any(arrow_asked(made.content_type, made.accept))
        made.is_plain = not (made.encoding or is_arrow)
        return made

    def again(self) -> WholeCall:
        """A request with the same head, whose body is still to come."""
        made = self.__copy__()
        made.whole, made.arrived_us = b"", 0
        return made

    async def _received(self) -> bytes:
        return self.whole


async def _nothing() -> Message:
    """Nothing more comes."""
    raise Gone


def _too_long(limit_bytes: int) -> InputError:
    message = f"The body is longer than {limit_bytes:,} bytes. Send fewer rows at once."
    return refusal(message, status=413, kind="too_large")
