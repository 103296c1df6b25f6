"""HTTP/1.1 of the serving process: uvicorn's protocol, with limits and a short way.

Requests to score, and to read features, that are whole within 64 KiB are answered without a round
through ASGI: there is no scope, no message and one write. The application behind is the same, and
so is everything a client can see. All other requests, and those that wait for ``100 Continue``, go
through ASGI as uvicorn has it.

What uvicorn leaves open is closed here, for both ways: heads are bounded; whoever sends or reads
too slowly is cut off; what is no HTTP is answered after the requests before it; a connection that
asks for another protocol goes on in this one; trailers are no headers; a client that has closed
its side still gets its answers; and when the server ends, who is about to send the next request
is told to send it elsewhere, instead of finding the connection closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .serve_app import ServeApp
from .serve_call import WholeCall
from .serve_direct import Direct
from .serve_errors import refuse
from .serve_load import MOST_UNDER_WAY, Holding
from .serve_parting import leave_soon, part_soon, say_last
from .serve_stream import stream_form

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine, Sized

    from uvicorn._types import ASGI3Application
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from .serve_errors import Answer

__all__ = ["HEAD_LIMIT_BYTES", "KEEP_ALIVE_S", "RECEIVE_S", "ServeProtocol"]

HEAD_LIMIT_BYTES = 1 << 16
GATHERED_BYTES = 1 << 16
DISCARDED_BYTES = 1 << 24
"""How much of a body is still taken, after its request has been refused, so that the client comes
to read why; then the connection is cut."""
KEEP_ALIVE_S = 75
"""How long a connection may rest."""
RECEIVE_S = 60.0
"""How long a request may take to come, and an answer to be taken."""


class _Flow(FlowControl):
    """Reads nothing more while requests wait for their turn, whoever asks for it.

    Args:
        transport: The connection's transport.
        waiting: The requests that have come and were not begun.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, unless requests wait."""
        if not self._waiting:
            super().resume_reading()


class ServeProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        config: uvicorn's configuration.
        server_state: What its connections share.
        app_state: State of the application's life; none here.

    Attributes:
        flow: Pauses reading and writing.
        transport: The connection's transport.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Whatever wraps the application has to see every request.
        self._scoring = self.app if isinstance(self.app, ServeApp) else None
        self._gathered: list[bytes] | None = None
        self._gathered_bytes = 0
        self._next: Direct | None = None
        self._ready: Direct | None = None
        self._running: RequestResponseCycle | Direct | None = None
        self._chunk_bytes = self._first_bytes = self._head_bytes = 0
        self._open = self._in_head = self._fresh = self._handed_over = False
        self._began_s = self._paused_s = 0.0
        self._idle_s = 0.0  # not seen at rest yet
        self._holding = Holding()
        self._draining = self._broken = False
        self._last: Answer | None = None

    @property
    def ends(self) -> bool:
        """Whether the answer that is about to be sent is the last one here."""
        return self._draining and not self.pipeline

    @property
    def rests(self) -> bool:
        """Whether no request is under way, nor has begun to come."""
        running = self._running
        return not self._open and (running is None or running.response_complete)

    @property
    def _busy(self) -> bool:
        running = self._running
        return running is not None and not running.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's
        """A client has come."""
        super().connection_made(transport)
        self.flow: FlowControl = _Flow(transport, self.pipeline)

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent."""
        if self._broken or self.transport.is_closing():
            return
        between = self._scoring if self.rests else None
        if between is not None and self._take_known(between, data):
            return
        self._fresh = False
        self._chunk_bytes = len(data)
        self._feed(data)
        if self._in_head and not self._fresh:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._refuse_head()
        if self._open and not self._began_s:
            self._began_s = self.loop.time()
        if self._ready is not None:
            direct, self._ready = self._ready, None
            if between is not None:
                direct.keep_head(data)
            self._begin(direct)

    def _take_known(self, app: ServeApp, data: bytes) -> bool:
        """Take a request whose head has been read before, past the parser; false for any other.

        The parser is between two requests, and stays there.
        """
        head = app.heads.of(data)
        if head is None:
            return False
        direct = Direct(self, app, head.way, head.call.again())
        self._complete(direct, data[head.size_bytes :])
        self.cycle = direct  # type: ignore[assignment]  # in its place; a cast is a call
        self._begin(direct)
        return True

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400, "malformed", "This is no HTTP request that can be read.")

    def _stay(self, rest: bytes) -> None:
        """The client offers another protocol, and here it is not taken up.

        The parser has stopped after the head. It begins anew, as if there had been no offer.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(400, "malformed", "CONNECT is for proxies.")
            return
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"\r\n".join([*lines, b"", rest]))

    def on_message_begin(self) -> None:
        """A request begins."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = self._handed_over = False
        self._open = self._in_head = self._fresh = True
        self._first_bytes, self._head_bytes = self._chunk_bytes, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what comes after the body is none."""
        if not self._in_head:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Decide which way the request goes."""
        self._in_head = False
        self._gathered_bytes = 0
        if self._broken or self.parser.should_upgrade():
            return
        most_bytes = self._first_bytes + self._head_bytes + self._chunk_bytes
        if most_bytes > HEAD_LIMIT_BYTES and self._is_head_too_long():
            self._refuse_head()
            return
        self._next = self._direct()
        if self._next is None:
            self._hand_over()
        else:
            self._gathered = []

    def _direct(self) -> Direct | None:
        """The request, whose body is still to come; none where it goes through ASGI.

        So does one whose answer is to come in parts.
        """
        app = self._scoring
        if app is None or self.expect_100_continue:
            return None
        way = app.ways.of(self.url)
        if not way.is_short or self.parser.get_method() != b"POST":
            return None
        scope = {
            "method": "POST",
            "path": way.path,
            "query_string": way.query,
            "headers": self.headers,
        }
        call = WholeCall.of(scope, limit_bytes=app.limit_bytes)
        if call.accept and stream_form(call.accept):
            return None
        keep_alive = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        return Direct(self, app, way, call, keep_alive)

    def on_body(self, body: bytes) -> None:
        """A part of the body; a long one is for uvicorn."""
        if self._broken:
            return
        self._gathered_bytes += len(body)
        if self._gathered is None:
            super().on_body(body)
            if self.cycle.response_complete and self._gathered_bytes > DISCARDED_BYTES:
                self.transport.close()
            return
        self._gathered.append(body)
        if self._gathered_bytes > GATHERED_BYTES:
            whole, self._gathered = b"".join(self._gathered), None
            self._hand_over()
            super().on_body(whole)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._broken or self.parser.should_upgrade():
            return
        self._open, self._began_s = False, 0.0
        if self._gathered is None:
            super().on_message_complete()
            return
        direct, self._next = self._next, None
        if direct is None:
            return
        self._complete(direct, b"".join(self._gathered))
        self._gathered = None
        busy = self._busy
        self.cycle = cast("RequestResponseCycle", direct)
        if busy:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, cast("ASGI3Application", self.app)))
        else:
            self._ready = self._running = direct

    def _complete(self, direct: Direct, body: bytes) -> None:
        """Give a request its body; where too much is under way, turn it away."""
        load = direct.complete(body)
        under_way = len(self.tasks) + load.without_task
        if under_way > MOST_UNDER_WAY and load.is_too_much(self.loop, under_way):
            direct.turn_away()

    def _hand_over(self) -> None:
        """Let uvicorn have the request, as if its head had just come."""
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers += headers
        super().on_headers_complete()
        self._handed_over = True
        if self._draining:
            self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        if isinstance(cycle, Direct):
            self._begin(cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def _begin(self, direct: Direct) -> None:
        self._running = direct
        if direct.refused is not None:
            self._turn_away(direct, direct.refused)
        elif not direct.begin():
            self.start(direct.respond())

    def start(self, answering: Coroutine[None, None, None]) -> None:
        """Run a coroutine in a task that the server waits for when it ends."""
        task = self.loop.create_task(answering)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _turn_away(self, direct: Direct, answer: Answer) -> None:
        """Refuse a request; no task waits for it, so it counts among none that are under way."""
        held_s = self.hold_s()
        if held_s:
            self.loop.call_later(held_s, direct.send, answer)
        else:
            direct.send(answer)

    def on_response_complete(self) -> None:
        """An answer has been sent: the next request, or what is wrong with it, or none."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last is not None:
            say_last(self, self._last)
        else:
            self._idle_s = 0.0
            if self.flow.read_paused:
                self.flow.resume_reading()

    def hold_s(self) -> float:
        """How long a refusal for overload waits here, in seconds; see ``Holding``."""
        return self._holding.next_s(self.loop.time())

    def sweep(self, now_s: float) -> None:
        """Cut the connection off where the client has taken too long; called every second.

        Args:
            now_s: The loop's time.
        """
        if self._paused_s or self._broken:
            if self._paused_s and now_s - self._paused_s > RECEIVE_S:
                self.transport.abort()
        elif self._open:
            if now_s - self._began_s > RECEIVE_S and not self.flow.read_paused:
                self._refuse(408, "timeout", f"The request took longer than {RECEIVE_S:g} s.")
        elif not self._busy:
            self._idle_s = self._idle_s or now_s
            if now_s - self._idle_s > KEEP_ALIVE_S:
                self.transport.close()

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        self._paused_s = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._paused_s = 0.0
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and so is whoever waits for an answer."""
        if self._running is not None:
            # With requests behind it, it is not the one that uvicorn knows of.
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn lets the transport close
        """The client sends nothing more; it may still want its answers.

        Over TLS nothing can be sent any more: the transport closes.
        """
        if not self._busy or self._handed_over_is_open() or self.scheme == "https":
            return False
        self.cycle.keep_alive = False
        return True

    def shutdown(self) -> None:
        """The server ends: answer what is under way, and who is about to ask."""
        self._draining = True
        if self.scheme == "https":
            part_soon(self)
        if self._busy:
            self.cycle.keep_alive = False
        elif not self._open:
            leave_soon(self)

    def _handed_over_is_open(self) -> bool:
        """Whether the application waits for the rest of a body."""
        return self._open and self._handed_over and not self.cycle.response_complete

    def _is_head_too_long(self) -> bool:
        head_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        return head_bytes > HEAD_LIMIT_BYTES

    def _refuse_head(self) -> None:
        message = f"The headers are longer than {HEAD_LIMIT_BYTES:,} bytes. Send fewer."
        self._refuse(431, "too_large", message)

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read."""
        self._refuse(400, "malformed", msg)

    def _refuse(self, status: int, kind: str, message: str) -> None:
        """Look at nothing more, and say why, once the requests before have been answered."""
        if self._broken:
            return
        self._broken = True
        self._gathered = None
        self.flow.pause_reading()
        answer = refuse(status, kind, message)
        if self._handed_over_is_open():
            self._give_up(answer)
        elif self._busy or self._ready is not None:
            self._last = answer
        else:
            say_last(self, answer)

    def _give_up(self, answer: Answer) -> None:
        """The application waits for a body that will not come."""
        cycle = self.cycle
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
            self._last = answer
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if cycle.response_started:
            self.transport.close()
        else:
            say_last(self, answer)
