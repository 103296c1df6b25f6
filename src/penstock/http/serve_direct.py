"""A request to score that came whole, answered without a round through ASGI."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from penstock.scoring import Light

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


class Direct(Light):
    """The request and its answer, in the place of uvicorn's ``RequestResponseCycle``.

    Attributes:
        connection: Where it came from.
        app: Answers.
        way: Where the request's path leads.
        call: The request.
        keep_alive: Whether the client wants to send more; taken back when the server ends.
        refused: What to answer where it is turned away without being looked at.
        response_complete: Whether the answer has been sent, or nobody is there any more.
        disconnected: Whether the client has gone.
        message_event: What uvicorn sets when the client has gone.
    """

    message_event: ClassVar = _Deaf()
    connection: Connection
    app: ServeApp
    way: Way
    call: WholeCall
    keep_alive: bool = True
    refused: Answer | None = None
    response_complete: bool = False
    disconnected: bool = False

    def keep_head(self, data: bytes) -> None:
        """Keep the request's head, where it can be known again; before anything is done with it.

        Args:
            data: What had come when the request was whole: any bytes that end with it.
        """
        if self.keep_alive:
            self.app.heads.keep(data, self.way, self.call)

    def complete(self, body: bytes) -> Load:
        """Take the body: the request is whole, and has arrived. Returns what else is under way."""
        self.call.whole = body
        self.call.arrived_us = self.app.clock.now_us()
        return self.app.load

    def turn_away(self) -> None:
        """Do not look at the request."""
        self.refused = self.app.turn_away(self.way)

    def begin(self) -> bool:
        """Begin to answer without a task; false where it takes ``respond``."""
        load = self.app.load
        load.without_task += 1
        began = self.app.begin(self.way, self.call, self)
        if not began:
            load.without_task -= 1
        return began

    def give(self, kind: str, answer: Answer) -> None:
        """Send an answer that was found without a task."""
        self.app.load.without_task -= 1
        told = self.app.counted(kind, self.call, answer)
        if self.connection.flow.write_paused:
            self.connection.start(self._respond(_at_once(told)))
        else:
            self.send(told)

    def give_later(self, kind: str, answering: Coroutine[None, None, Answer]) -> None:
        """Send an answer that takes a task after all."""
        self.app.load.without_task -= 1
        self.connection.start(self._respond(self.app.finish(kind, self.call, answering)))

    def respond(self) -> Coroutine[None, None, None]:
        """Answer in a task; then it is the next request's turn."""
        return self._respond(self.app.answer(self.call))

    async def _respond(self, answering: Coroutine[None, None, Answer | Streamed | None]) -> None:
        try:
            answer = await answering
            if isinstance(answer, Answer) and answer.overloaded:
                await asyncio.sleep(self.connection.hold_s())
            if self.connection.flow.write_paused:
                await self.connection.flow.drain()
        except BaseException:
            # The server ends, and does not wait any longer.
            self.connection.transport.close()
            raise
        if isinstance(answer, Streamed):  # what is sent in parts goes through ASGI, never here
            self.connection.transport.close()
            answer = None
        self.send(answer)

    def send(self, answer: Answer | None) -> None:
        """Send the answer, if there is any; then it is the next request's turn."""
        connection = self.connection
        self.response_complete = True
        if self.disconnected or answer is None or connection.transport.is_closing():
            return
        keep_alive = self.keep_alive and not connection.ends
        connection.transport.write(wire(answer, keep_alive=keep_alive))
        if not keep_alive:
            connection.transport.close()
        connection.on_response_complete()


async def _at_once(answer: Answer) -> Answer:
    return answer
