"""Online scoring as an ASGI application, written by hand: the path of a score has no framework.

A request costs a look into two dictionaries, one decoding, one row in a batch and one encoding.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
import structlog

from penstock.errors import NotFoundError, PenstockError, UserCodeError
from penstock.runtime import OrderBook

from .arrow_columns import ARROW, arrow_asked
from .serve_aliases import ALIASES, AliasDoor, is_alias
from .serve_call import BODY_LIMIT_BYTES, Call, Gone
from .serve_echo import Echo
from .serve_errors import ELSEWHERE, Answer, failure, refuse
from .serve_explain import EXPLAINS, ExplainDoor
from .serve_explained import ExplainedDoor
from .serve_features import answer_features
from .serve_heads import Heads
from .serve_listing import listing
from .serve_load import OVERLOADED, Load
from .serve_meter import Meter
from .serve_openapi import openapi_document
from .serve_packing import WORTH_PACKING_BYTES, packed
from .serve_page import Page
from .serve_predict_arrow import rows_of_arrow, scores_as_arrow
from .serve_quick import QuickDoor
from .serve_schema import MOST_ROWS, Schema
from .serve_scoring import reach, score_all
from .serve_stream import MOST_STREAMED, Scores, Streamed, stream_form
from .serve_v2 import V2, V2_PATHS, InferenceDoor
from .serve_ways import DEPLOYMENTS, PREDICT, Ways, kind_of

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from penstock.ports import Clock
    from penstock.records import Role
    from penstock.runtime import Board

    from .serve_call import Message, Receive, Send, WholeCall
    from .serve_keeper import Keeper
    from .serve_quick import Origin
    from .serve_traces import Tracing
    from .serve_ways import Way

__all__ = ["BODY_LIMIT_BYTES", "ServeApp"]

METRICS, OPENAPI = "/metrics", "/openapi.json"
GONE = 499
"""What a client that has gone is said to have been answered, as proxies have it."""
TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
ARROW_STREAM = (b"content-type", ARROW)
KNOWN = (
    "/v1/deployments", "/v1/deployments/{name}/predict", "/v1/features",
    "/v1/features/{service}", METRICS, OPENAPI, *V2_PATHS, *ALIASES,
    *EXPLAINS,
)  # fmt: skip

AnyAnswer = TypeVar("AnyAnswer", bound="Answer | Streamed")


class Beside(Protocol):
    """A server beside this one, in its event loop."""

    async def start(self) -> None:
        """Begin to answer."""
        ...

    async def stop(self) -> None:
        """Answer what is under way, then end."""
        ...


class ServeApp:
    """The application.

    Args:
        keeper: What is served, and who may ask.
        clock: Tells the time.
        board: Where the processes of the address meet; left out for one that is alone.
        tracing: Traces requests; left out where nothing is traced.
        limit_bytes: How long a body may be.

    Attributes:
        beside: What begins after this, in that order, and ends before, the last one first.
        clock: Tells the time.
        heads: Heads of requests that have been read.
        inference: Answers by the inference protocol.
        limit_bytes: See above.
        load: Tells when it is too much.
        meter: Tells what is measured.
        tracing: See above.
        version: Penstock's.
        ways: Where URLs lead.
    """

    def __init__(
        self,
        keeper: Keeper,
        clock: Clock,
        board: Board | None = None,
        tracing: Tracing | None = None,
        *,
        limit_bytes: int = BODY_LIMIT_BYTES,
    ) -> None:
        self.meter = Meter(keeper, board, tracing.spans if tracing else None)
        self.tracing = tracing
        self._keeper = keeper
        self.clock = clock
        self.limit_bytes = limit_bytes
        self.load = Load()
        self._encode = msgspec.json.Encoder().encode
        self.version = installed_version("penstock")
        orders = OrderBook(board) if board else None
        self.inference = InferenceDoor(keeper, self.version, self.meter, tracing, orders)
        # The meter makes this process known: who gives an order from then on waits for it.
        self.beside: list[Beside] = [self.meter, self.inference.obedience]
        explain = ExplainDoor(keeper)
        self._doors: dict[str, AliasDoor | ExplainDoor] = {
            "alias": AliasDoor(keeper, self.version),
            "explain": explain,
        }
        self._echo = Echo(keeper)
        self._explained = ExplainedDoor(keeper, self._echo, explain.turns)
        self._page = Page(self.version)
        self._quick = QuickDoor(keeper)
        self.ways = Ways()
        self.heads = Heads()
        self._log = structlog.get_logger("penstock.serve")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's start and stop."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            return
        call = Call(scope, receive, self.clock.now_us())
        call.limit_bytes = self.limit_bytes
        answer = await self.answer(call)
        if answer is None:
            return
        if isinstance(answer, Streamed):
            try:
                await answer.scores.send(answer.first, send)
            finally:
                self._traced(call, answer)
            return
        length = (b"content-length", str(len(answer.body)).encode())
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [*answer.headers, length],
            }
        )
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    def leave(self) -> None:
        """Say from now on that this process is not ready: it ends once it has answered."""
        self._keeper.ready = False

    async def answer(self, call: Call) -> Answer | Streamed | None:
        """What a request is answered with, counted and packed; none where the client has gone."""
        path: str = call.scope["path"]
        kind = kind_of(path)
        if self.tracing is not None and kind != "other":
            call.trace = self.tracing.begin(call.scope["headers"], call.arrived_us)
        answer = await self._guarded(path, self._routed(kind, call, path))
        if call.trace is not None and not isinstance(answer, Streamed):
            self._traced(call, answer)
        return None if answer is None else self.counted(kind, call, answer)

    def begin(self, way: Way, call: WholeCall, origin: Origin) -> bool:
        """Begin to answer a request without a task; false where it has to be by ``answer``.

        Where requests are traced, each has to be.

        Args:
            way: Where its path leads.
            call: The request, a ``POST``.
            origin: Where the answer goes.
        """
        return self.tracing is None and self._quick.begin(way, call, origin)

    async def finish(
        self, kind: str, call: Call, answering: Coroutine[None, None, Answer]
    ) -> Answer | Streamed | None:
        """The answer to a request that was begun, counted and packed.

        Args:
            kind: What the request is counted as.
            call: The request.
            answering: What finds the answer; an error becomes one.
        """
        answer = await self._guarded(call.scope["path"], answering)
        return None if answer is None else self.counted(kind, call, answer)

    def counted(self, kind: str, call: Call, answer: AnyAnswer) -> AnyAnswer | Answer:
        """An answer, counted, and packed where that is worth it."""
        self._count(kind, answer.status)
        if isinstance(answer, Answer) and len(answer.body) >= WORTH_PACKING_BYTES:
            return packed(answer, call.header(b"accept-encoding"))
        return answer

    def turn_away(self, way: Way) -> Answer:
        """What a request is answered with that is not looked at, counted."""
        answer = OVERLOADED[_is_plain(way.path)]
        self._count(way.kind, answer.status)
        return answer

    def _count(self, kind: str, status: int) -> None:
        key = (kind, status)
        self.meter.requests[key] = self.meter.requests.get(key, 0) + 1

    def _traced(self, call: Call, answer: Answer | Streamed | None) -> None:
        """End the request's trace."""
        if self.tracing is not None and call.trace is not None:
            self.tracing.answered(call.trace, call, GONE if answer is None else answer.status)

    async def _guarded(
        self, path: str, answering: Coroutine[None, None, Answer | Streamed]
    ) -> Answer | Streamed | None:
        # A request must never end without an answer, whatever goes wrong in here.
        try:
            return await answering
        except Gone:
            return None
        except UserCodeError as error:
            # What a function said may hold values of features; who calls need not be who may read.
            self._log.error("a function of the user failed", path=path, error=error.message)
            return failure(UserCodeError(error.plain), plain=_is_plain(path))
        except PenstockError as error:
            return failure(error, plain=_is_plain(path))
        except Exception:  # noqa: BLE001 - see above; the log has all of it
            self._log.exception("a request failed", path=path)
            message = "The server failed; its log says where. Try again, or report it."
            return refuse(500, "internal", message, plain=_is_plain(path))

    async def _routed(self, kind: str, call: Call, path: str) -> Answer | Streamed:
        if kind == "predict":
            return await self._predict(call, path[len(DEPLOYMENTS) : -len(PREDICT)])
        if kind == "features":
            return await answer_features(self._keeper, call)
        if kind == "infer" or _is_v2(path):
            return await self.inference.answer(call)
        if kind in self._doors:
            return await self._doors[kind].answer(call)
        return await self._read(call, path)

    async def _predict(self, call: Call, name: str) -> Answer | Streamed:
        self._check(call, "writer", "POST")
        body = await call.body()
        seen = None
        if call.flag("explain"):
            return await self._explained.answer(call, name, body)
        if call.flag("features"):
            answering, schema, seen = await self._echo.reach(call, name)
        else:
            answering, schema = await reach(self._keeper, name)
        is_arrow, as_arrow = arrow_asked(call.content_type, call.accept)
        form = stream_form(call.accept)
        most_rows = MOST_STREAMED if form else MOST_ROWS
        if is_arrow:
            rows, several = rows_of_arrow(schema.manifest, body, most_rows=most_rows), True
        else:
            taking = Schema(schema.manifest, most_rows=most_rows) if form else schema
            rows, several = taking.rows_of(body)
        if form is not None:
            return await Scores(answering, schema, rows, call, form, seen=seen).begun()
        if as_arrow:
            scores = await score_all(answering, rows, call)
            streamed = scores_as_arrow(schema.manifest, scores, seen=seen)
            return Answer(200, streamed, (ARROW_STREAM,))
        scores = await score_all(answering, rows, call)
        return (schema.told_all if several else schema.told_one)(scores, seen=seen)

    async def _read(self, call: Call, path: str) -> Answer:
        """Everything that is only looked at."""
        page = self._page.answer(call, path)
        if page is not None:
            return page
        told = {
            "/v1/deployments": self._deployments,
            METRICS: self._metrics,
            OPENAPI: self._openapi,
        }.get(path)
        self._check(call, "reader", "GET" if told or path == "/" else "")
        if told is None:
            raise NotFoundError.of("path", path, KNOWN, hint=ELSEWHERE)
        return await told(call)

    async def _metrics(self, _call: Call) -> Answer:
        return Answer(200, await asyncio.to_thread(self.meter.text), (TEXT,))

    async def _deployments(self, _call: Call) -> Answer:
        return self._json({"deployments": listing(self._keeper)})

    async def _openapi(self, call: Call) -> Answer:
        doors = self._keeper.doors
        reads = {name: one.schema or one.instead for name, one in doors.items()}
        manifests = {name: one.manifest if one else None for name, one in reads.items()}
        manifests |= dict.fromkeys(self._keeper.resting)
        services = {name: one.schema.service for name, one in self._keeper.features.items()}
        refusal = self._echo.refusal
        seen = {n for n, door in doors.items() if not refusal(call, door.endpoint.manifests)}
        document = await asyncio.to_thread(
            openapi_document, self.version, manifests, services, may_see=seen.__contains__
        )
        return self._json(document)

    def _check(self, call: Call, role: Role, method: str) -> None:
        """Let the caller in, then look at the method: nobody unknown learns what there is."""
        self._keeper.guard.check(call.authorization, role)
        if method:
            call.need(method)

    def _json(self, value: object) -> Answer:
        return Answer(200, self._encode(value))

    async def _live(self, receive: Receive, send: Send) -> None:
        """Load before the first request, let go after the last."""
        await receive()
        try:
            await self._keeper.start()
            for one in self.beside:
                await one.start()
        except PenstockError as error:
            await self._keeper.stop()
            await send({"type": "lifespan.startup.failed", "message": error.message})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        # What answers ends before what counts its answers and has it do what others were told.
        for one in reversed(self.beside):
            await one.stop()
        await self._keeper.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _is_v2(path: str) -> bool:
    return path == V2 or path.startswith(f"{V2}/")


def _is_plain(path: str) -> bool:
    """Whether clients there take an error for a text."""
    return _is_v2(path) or is_alias(path)
