"""A request to score that came whole, answered without a round through ASGI."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from .serve_errors import PLAIN, Answer
from .serve_stream import Streamed

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from uvicorn.protocols.http.flow_control import FlowControl

    from .serve_app import ServeApp
    from .serve_call import WholeCall
    from .serve_load import Load
    from .serve_ways import Way

__all__ = ["Direct", "wire"]

OK = 200
PLAIN_HEAD = b"%bcontent-type: application/json\r\ncontent-length: " % STATUS_LINE[OK]


def wire(answer: Answer, *, keep_alive: bool) -> bytes:
    """An answer as it is sent.

    Args:
        answer: The answer.
        keep_alive: Whether the connection stays open after it.
    """
    if keep_alive and answer.headers is PLAIN and answer.status == OK:
        return b"%b%d\r\n\r\n%b" % (PLAIN_HEAD, len(answer.body), answer.body)
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

    def hold_s(self) -> float:
        """How long a refusal for overload waits here, in seconds."""
        ...

    def on_response_complete(self) -> None:
        """Take note that an answer has been sent."""
        ...

    def start(self, answering: Coroutine[None, None, None]) -> None:
        """Run a coroutine in a task that the server waits for when it ends."""
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
        way: Where the request's path leads.
        call: The request.
        keep_alive: Whether the client wants to send more.

    Attributes:
        keep_alive: See above; taken back when the server ends.
        refused: What to answer where it is turned away without being looked at.
        response_complete: Whether the answer has been sent, or nobody is there any more.
        disconnected: Whether the client has gone.
        message_event: What uvicorn sets when the client has gone.
    """

    __slots__ = (
        "_app", "_call", "_connection", "_way", "disconnected", "keep_alive", "refused",
        "response_complete",
    )  # fmt: skip

    message_event = _Deaf()

    def __init__(
        self,
        connection: Connection,
        app: ServeApp,
        way: Way,
        call: WholeCall,
        *,
        keep_alive: bool,
    ) -> None:
        self._connection = connection
        self._app = app
        self._way = way
        self._call = call
        self.keep_alive = keep_alive
        self.refused: Answer | None = None
        self.response_complete = False
        self.disconnected = False

    def keep_head(self, data: bytes) -> None:
        """Keep the request's head, where it can be known again; before anything is done with it.

        Args:
            data: What had come when the request was whole: any bytes that end with it.
        """
        if self.keep_alive:
            self._app.heads.keep(data, self._way, self._call)

    def complete(self, body: bytes) -> Load:
        """Take the body: the request is whole, and has arrived. Returns what else is under way."""
        self._call.whole = body
        self._call.arrived_us = self._app.clock.now_us()
        return self._app.load

    def turn_away(self) -> None:
        """Do not look at the request."""
        self.refused = self._app.turn_away(self._way)

    def begin(self) -> bool:
        """Begin to answer without a task; false where it takes ``respond``."""
        load = self._app.load
        load.without_task += 1
        began = self._app.begin(self._way, self._call, self)
        if not began:
            load.without_task -= 1
        return began

    def give(self, kind: str, answer: Answer) -> None:
        """Send an answer that was found without a task."""
        self._app.load.without_task -= 1
        counted = self._app.counted(kind, self._call, answer)
        if self._connection.flow.write_paused:
            self._connection.start(self._respond(_at_once(counted)))
        else:
            self._send(counted)

    def give_later(self, kind: str, answering: Coroutine[None, None, Answer]) -> None:
        """Send an answer that takes a task after all."""
        self._app.load.without_task -= 1
        self._connection.start(self._respond(self._app.finish(kind, self._call, answering)))

    def respond(self) -> Coroutine[None, None, None]:
        """Answer in a task; then it is the next request's turn."""
        return self._respond(self._app.answer(self._call))

    async def _respond(self, answering: Coroutine[None, None, Answer | Streamed | None]) -> None:
        try:
            answer = await answering
            if isinstance(answer, Answer) and answer.overloaded:
                await asyncio.sleep(self._connection.hold_s())
            if self._connection.flow.write_paused:
                await self._connection.flow.drain()
        except BaseException:
            # The server ends, and does not wait any longer.
            self._connection.transport.close()
            raise
        self._send(answer)

    def _send(self, answer: Answer | Streamed | None) -> None:
        if isinstance(answer, Streamed):  # what is sent in parts goes through ASGI, never here
            self._connection.transport.close()
            answer = None
        self.send(answer)

    def send(self, answer: Answer | None) -> None:
        """Send the answer, if there is any; then it is the next request's turn."""
        connection = self._connection
        self.response_complete = True
        if self.disconnected or answer is None or connection.transport.is_closing():
            return
        keep_alive = self.keep_alive and not connection.ends
        connection.transport.write(wire(answer, keep_alive=keep_alive))
        if not keep_alive:
            connection.transport.close()
        connection.on_response_complete()


async def _at_once(answer: Answer | Streamed) -> Answer | Streamed:
    return answer
