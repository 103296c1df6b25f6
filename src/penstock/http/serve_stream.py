"""Scores of many rows, sent batch by batch as they are ready.

As server-sent events for ``Accept: text/event-stream``, as lines of JSON for
``application/x-ndjson``. The next batch is scored when the client has taken the last one, and none
when it has hung up.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import structlog

from penstock.errors import PenstockError, UserCodeError

from .serve_errors import failure
from .serve_scoring import score_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from penstock.records import Manifest, Score

    from .serve_call import Call, Send
    from .serve_schema import Row, Schema
    from .serve_scoring import Answering
    from .serve_told import Told

__all__ = ["MOST_STREAMED", "Scores", "Streamed", "stream_form"]

MOST_STREAMED = 50_000
"""Rows of a request whose answer is streamed; its body has a limit of its own."""

BATCH_ROWS = 64
US_PER_MS = 1_000
Form = Literal["events", "lines"]
FORMS: dict[bytes, Form] = {b"text/event-stream": "events", b"application/x-ndjson": "lines"}
TYPES = {form: kind for kind, form in FORMS.items()}
PLAIN = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))


def stream_form(accept: bytes) -> Form | None:
    """The form of stream that a client accepts; none where it wants a whole answer."""
    return next((form for kind, form in FORMS.items() if kind in accept), None)


class Streamed(NamedTuple):
    """An answer that is sent in parts.

    Attributes:
        scores: What sends it.
        first: Its first batch.
        status: The HTTP status.
    """

    scores: Scores
    first: list[Score]
    status: int = 200


class Scores:
    """The scores of a request on their way out.

    Args:
        answering: The deployment.
        schema: What its champion takes and gives.
        rows: The rows.
        call: The request, whose body has been read.
        form: How they are sent.
        seen: Of the versions whose features are told; none where none are.
    """

    def __init__(  # noqa: PLR0913 - what a stream of scores is made of
        self,
        answering: Answering,
        schema: Schema,
        rows: Sequence[Row],
        call: Call,
        form: Form,
        *,
        seen: Mapping[int, Manifest] | None,
    ) -> None:
        self._answering = answering
        self._schema = schema
        self._rows = rows
        self._call = call
        self._form: Form = form
        self._began_us = call.arrived_us
        self._clock = answering.writer.clock
        self._seen = seen
        self._encode = msgspec.json.Encoder().encode
        self._done = 0
        self._log = structlog.get_logger("penstock.serve")

    async def begun(self) -> Streamed:
        """The answer, once its first batch is scored: what fails there is an error like any other.

        Raises:
            PenstockError: What ``score_all`` raises.
        """
        return Streamed(self, await self._batch())

    async def send(self, first: list[Score], send: Send) -> None:
        """Send the first batch and all others, each when the one before it has been taken."""
        headers = ((b"content-type", TYPES[self._form]), *PLAIN)
        await send({"type": "http.response.start", "status": 200, "headers": [*headers]})
        gone = asyncio.ensure_future(self._gone())
        try:
            async for part in self._parts(first):
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    async def _gone(self) -> None:
        """Wait until the client has hung up."""
        while (await self._call.receive())["type"] != "http.disconnect":
            pass

    async def _parts(self, scores: list[Score]) -> AsyncIterator[bytes]:
        versions: dict[str, int] = {}
        while True:
            for score in scores:
                label = f"{score.model}@{score.version}"
                versions[label] = versions.get(label, 0) + 1
            yield self._told(scores)
            self._done += len(scores)
            if self._done == len(self._rows):
                break
            try:
                scores = await self._batch()
            except PenstockError as error:
                yield self._failed(error)
                return
        took_us = self._clock.now_us() - self._began_us
        yield self._end(versions, took_us / US_PER_MS)

    async def _batch(self) -> list[Score]:
        if self._done:
            # It begins when the client has taken the one before: no version took that long.
            self._call.arrived_us = self._clock.now_us()
        rows = list(self._rows[self._done : self._done + BATCH_ROWS])
        return await score_all(self._answering, rows, self._call)

    def _told(self, scores: list[Score]) -> bytes:
        told = [self._schema.answer(score, seen=self._seen) for score in scores]
        if self._form == "lines":
            return b"".join(self._lines(told))
        return self._event("scores", {"from": self._done, "predictions": told})

    def _lines(self, told: list[Told]) -> Iterator[bytes]:
        for one in told:
            yield self._encode(one)
            yield b"\n"

    def _end(self, versions: dict[str, int], took_ms: float) -> bytes:
        summary = {"rows": self._done, "duration_ms": round(took_ms, 3), "versions": versions}
        if self._form == "lines":
            return self._encode({"end": summary}) + b"\n"
        return self._event("end", summary)

    def _failed(self, error: PenstockError) -> bytes:
        """The error as it would have been answered, and how many rows were scored before it."""
        if isinstance(error, UserCodeError):
            self._log.error("a function of the user failed", error=error.message)
            error = UserCodeError(error.plain)
        told = msgspec.json.decode(failure(error).body) | {"rows": self._done}
        if self._form == "lines":
            return self._encode(told) + b"\n"
        return self._event("error", told)

    def _event(self, name: str, data: object) -> bytes:
        return b"event: %s\ndata: %s\n\n" % (name.encode(), self._encode(data))
