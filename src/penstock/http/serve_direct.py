"""A request to score that came whole, answered without a round through ASGI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from .serve_stream import Streamed

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.flow_control import FlowControl

    from .serve_app import ServeApp
    from .serve_call import Call
    from .serve_errors import Answer

__all__ = ["Direct", "wire"]


def wire(answer: Answer, *, keep_alive: bool) -> bytes:
    """An answer as it is sent.

    Args:
        answer: The answer.
        keep_alive: Whether the connection stays open after it.
    """
    parts = [STATUS_LINE[answer.status]]
    for name, value in answer.headers:
        parts += (name, b": ", value, b"\r\n")
    if not keep_alive:
        parts.append(b"connection: close\r\n")
    parts += (b"content-length: %d\r\n\r\n" % len(answer.body), answer.body)
    return b"".join(parts)


class Connection(Protocol):
    """Where a request came from."""

    @property
    def transport(self) -> asyncio.Transport:
        """What it is written to."""
        ...

    @property
    def flow(self) -> FlowControl:
        """Pauses reading and writing."""
        ...

    @property
    def ends(self) -> bool:
        """Whether the answer that is about to be sent is the last one here."""
        ...

    def on_response_complete(self) -> None:
        """Take note that an answer has been sent."""
        ...


class _Deaf:
    """Stands where uvicorn wakes the application up: nobody sleeps here."""

    def set(self) -> None:
        """Do nothing."""


class Direct:
    """The request and its answer, in the place of uvicorn's ``RequestResponseCycle``.

    Args:
        connection: Where it came from.
        app: Answers.
        call: The request.
        keep_alive: Whether the client wants to send more.

    Attributes:
        keep_alive: See above; taken back when the server ends.
        response_complete: Whether the answer has been sent, or nobody is there any more.
        disconnected: Whether the client has gone.
        message_event: What uvicorn sets when the client has gone.
    """

    __slots__ = ("_app", "_call", "_connection", "disconnected", "keep_alive", "response_complete")

    message_event = _Deaf()

    def __init__(
        self, connection: Connection, app: ServeApp, call: Call, *, keep_alive: bool
    ) -> None:
        self._connection = connection
        self._app = app
        self._call = call
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False

    async def respond(self) -> None:
        """Answer; then it is the next request's turn."""
        connection = self._connection
        try:
            answer = await self._app.answer(self._call)
            if connection.flow.write_paused:
                await connection.flow.drain()
        except BaseException:
            # The server ends, and does not wait any longer.
            connection.transport.close()
            raise
        self.response_complete = True
        if self.disconnected or answer is None or connection.transport.is_closing():
            return
        if isinstance(answer, Streamed):  # what is sent in parts goes through ASGI, never here
            connection.transport.close()
            return
        keep_alive = self.keep_alive and not connection.ends
        connection.transport.write(wire(answer, keep_alive=keep_alive))
        if not keep_alive:
            connection.transport.close()
        connection.on_response_complete()
