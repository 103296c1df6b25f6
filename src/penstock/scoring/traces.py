"""What is traced of a request: times noted on the way, made into spans when they are exported.

On the way of a request this is a few assignments; ids, attributes and spans are made in the
exporter's thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.records import Attribute, Span, SpanContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from penstock.records import Score

    NewId = Callable[[], int]

__all__ = ["BatchTrace", "RequestTrace"]


class BatchTrace:
    """A batch of rows that were computed together, for one request or several.

    Args:
        name: ``model@version`` that computed it.
        start_us: When it began, in microseconds since 1970 UTC.
        looked_us: When its features had been looked up; 0 where all were handed in.
        predicted_us: When the predictions were there.
        rows: How many rows it had.

    Attributes:
        log_us: When its scores began to be written, and when they were.
    """

    __slots__ = (
        "_context", "_requests", "log_us", "looked_us", "name", "predicted_us", "rows", "start_us",
    )  # fmt: skip

    def __init__(
        self, name: str, *, start_us: int, looked_us: int, predicted_us: int, rows: int
    ) -> None:
        self.name = name
        self.start_us = start_us
        self.looked_us = looked_us
        self.predicted_us = predicted_us
        self.rows = rows
        self.log_us = (0, 0)
        self._requests: dict[int, RequestTrace] = {}
        self._context: SpanContext | None = None

    @property
    def context(self) -> SpanContext | None:
        """Its span, in a trace of its own; none where it was for one request alone."""
        return self._context

    def add(self, trace: RequestTrace, score: Score) -> None:
        """Note that a row of a request was in it."""
        self._requests[id(trace)] = trace
        trace.note(score, self)

    def end(self, log_us: tuple[int, int]) -> bool:
        """Its scores have been written; whether it has a span of its own, to be emitted.

        It has where its rows were of several requests, recorded or not.

        Args:
            log_us: When they began to be written, and when they were.
        """
        self.log_us = log_us
        first = next(iter(self._requests.values()))
        if first.rows_in(self) < self.rows:
            trace_id = f"{first.new_id():016x}{first.new_id():016x}"
            self._context = SpanContext(trace_id, first.new_id())
        return self._context is not None

    def spans(self) -> Iterator[Span]:
        """Its span, with links to the requests."""
        if self._context is None:
            return
        yield Span(
            name=f"batch {self.name}",
            context=self._context,
            parent=None,
            start_us=self.start_us,
            end_us=self.log_us[1],
            attributes={"penstock.version": self.name, "penstock.batch.rows": self.rows},
            links=[one.context for one in self._requests.values()],
        )


class RequestTrace:
    """A request on its way. Used from one event loop, then by the exporter.

    Args:
        context: Its span.
        parent: The client's span; none where the client traces nothing.
        began_us: When it came, in microseconds since 1970 UTC.
        new_id: Makes ids of spans.
        recorded: Whether its spans are recorded; else only the trace's id is told on.

    Attributes:
        name: What was asked.
        context: See above.
        new_id: See above.
        trace_id: The trace's id, as scores have it.
        recorded: See above.
        decoded_us: When it had been read and its rows were about to be scored; 0 for never.
        ended_us: When it was answered.
        attributes: What there is to say of it.
        error: What went wrong in the server; empty for nothing.
    """

    __slots__ = (
        "_began_us", "_parent", "_told", "attributes", "context", "decoded_us", "ended_us", "error",
        "name", "new_id", "recorded", "trace_id",
    )  # fmt: skip

    def __init__(
        self,
        context: SpanContext,
        parent: SpanContext | None,
        began_us: int,
        new_id: NewId,
        *,
        recorded: bool = True,
    ) -> None:
        self.name = ""
        self.context = context
        self.trace_id = context.trace_id
        self.recorded = recorded
        self.decoded_us = self.ended_us = 0
        self.attributes: dict[str, Attribute] = {}
        self.error = ""
        self._parent = parent
        self._began_us = began_us
        self.new_id = new_id
        self._told: dict[BatchTrace | None, list[Score]] = {}

    def note(self, score: Score, batch: BatchTrace | None = None) -> None:
        """Note a score of it, and the batch that it was computed in; none where none was."""
        self._told.setdefault(batch, []).append(score)

    def rows_in(self, batch: BatchTrace) -> int:
        """How many of its rows were in a batch."""
        return len(self._told.get(batch, ()))

    def spans(self) -> Iterator[Span]:
        """The request, how it was read, and each group of its rows that was scored together."""
        rows = sum(map(len, self._told.values()))
        yield Span(
            name=self.name,
            kind="server",
            context=self.context,
            parent=self._parent,
            start_us=self._began_us,
            end_us=self.ended_us,
            attributes={**self.attributes, "penstock.rows": rows},
            error=self.error,
        )
        if self.decoded_us:
            yield self._span("decode", self.context, self._began_us, self.decoded_us)
        for batch, scores in self._told.items():
            yield from self._scored(batch, scores)

    def _scored(self, batch: BatchTrace | None, scores: Sequence[Score]) -> Iterator[Span]:
        one = scores[0]
        end_us = one.scored_at_us if batch is None else batch.log_us[1]
        attributes: dict[str, Attribute] = {
            "penstock.deployment": one.deployment,
            "penstock.version": f"{one.model}@{one.version}" if one.version else "constant",
            "penstock.route": one.route,
            "penstock.engine": one.engine,
            "penstock.rows": len(scores),
            "penstock.prediction_ids": [score.prediction_id for score in scores],
        }
        if one.reason:
            attributes["penstock.reason"] = one.reason
        links: list[SpanContext] = []
        if batch is not None:
            attributes["penstock.batch.rows"] = batch.rows
            links = [batch.context] if batch.context else []
        span = self._span("score", self.context, self.decoded_us, end_us, attributes, links)
        yield span
        if batch is None:
            return
        yield self._span("wait", span.context, self.decoded_us, batch.start_us)
        looked_us = batch.looked_us
        if looked_us and any(score.origin == "online" for score in scores):
            yield self._span("features", span.context, batch.start_us, looked_us)
        yield self._span("predict", span.context, looked_us or batch.start_us, batch.predicted_us)
        yield self._span("log", span.context, *batch.log_us)

    def _span(  # noqa: PLR0913, PLR0917 - what a span is made of
        self,
        name: str,
        parent: SpanContext,
        start_us: int,
        end_us: int,
        attributes: dict[str, Attribute] | None = None,
        links: Sequence[SpanContext] = (),
    ) -> Span:
        return Span(
            name=name,
            context=SpanContext(parent.trace_id, self.new_id(), state=parent.state),
            parent=parent,
            start_us=start_us,
            end_us=max(start_us, end_us),
            attributes=attributes or {},
            links=links,
        )
