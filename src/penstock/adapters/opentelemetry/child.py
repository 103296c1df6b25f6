"""The process that sends spans: OpenTelemetry's own exporter, away from those who wait for answers.

It reads frames from its standard input, each a length (four bytes, least first) and a list of spans
as MessagePack, and answers each with one byte: ``1`` where they were taken by whoever collects
them, ``0`` where they were not. Before that it writes ``?`` each time that nobody can be reached,
and tries again. It ends when its input does, so it never outlives its parent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState
from urllib3.exceptions import MaxRetryError, NewConnectionError

from penstock import records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO

__all__ = ["Sender", "work"]

NS = 1_000  # nanoseconds of a microsecond
LENGTH_BYTES = 4
KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER}
FLAGS = {True: TraceFlags(TraceFlags.SAMPLED), False: TraceFlags(TraceFlags.DEFAULT)}
FINE = Status(StatusCode.UNSET)
CONNECT_S = 1.0
"""How long a connection may take to be made; after that another is tried a little later."""
SESSIONS = (
    "OTEL_PYTHON_EXPORTER_OTLP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
)
"""Variables that name who makes the session instead."""


class _Session(requests.Session):
    """A session that says so when nobody can be reached.

    Args:
        alone: Called then.
    """

    def __init__(self, alone: Callable[[], None]) -> None:
        super().__init__()
        self._alone = alone

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # noqa: ANN401 - as theirs
        """Send a request; see ``requests``."""
        limit_s = options.get("timeout")
        if isinstance(limit_s, (int, float)):
            options["timeout"] = (min(CONNECT_S, limit_s), limit_s)
        try:
            return super().send(request, **options)
        except requests.ConnectionError as error:
            if _is_unreached(error):
                self._alone()
            raise


class Sender:
    """Sends spans.

    Args:
        resource: What the process is that they are of, by OpenTelemetry's names; the environment
            may say otherwise.
        alone: Called each time that nobody can be reached.
    """

    def __init__(self, resource: Mapping[str, str], alone: Callable[[], None]) -> None:
        named = Resource({**resource}).merge(OTELResourceDetector().detect())
        self._resource = Resource.create(named.attributes)
        self._scope = InstrumentationScope("penstock", resource.get("service.version"))
        told = any(os.environ.get(name) for name in SESSIONS)
        self._exporter = OTLPSpanExporter(session=None if told else _Session(alone))

    def send(self, spans: list[records.Span]) -> bool:
        """Send spans, again where that may help; whether they were taken."""
        made = [self._readable(span) for span in spans]
        return self._exporter.export(made) is SpanExportResult.SUCCESS

    def _readable(self, span: records.Span) -> ReadableSpan:
        return ReadableSpan(
            span.name,
            context=_context(span.context),
            parent=None if span.parent is None else _context(span.parent),
            resource=self._resource,
            attributes=span.attributes,
            links=[Link(_context(one)) for one in span.links],
            kind=KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else FINE,
            start_time=span.start_us * NS,
            end_time=span.end_us * NS,
            instrumentation_scope=self._scope,
        )


def work(source: BinaryIO, answers: BinaryIO, resource: Mapping[str, str]) -> None:
    """Send frame after frame until there are no more.

    Args:
        source: Where they come from.
        answers: Where to say what became of each.
        resource: What the process is that they are of.
    """
    # It says of each attempt that it failed; the parent says so once, and counts.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def say(word: bytes) -> None:
        answers.write(word)
        answers.flush()

    sender = Sender(resource, lambda: say(b"?"))
    decode = msgspec.msgpack.Decoder(list[records.Span]).decode
    while length := source.read(LENGTH_BYTES):
        taken = sender.send(decode(source.read(int.from_bytes(length, "little"))))
        say(b"1" if taken else b"0")


def _is_unreached(error: requests.ConnectionError) -> bool:
    """Whether no connection was made, as against one that broke."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    why = error.args[0] if error.args else None
    return isinstance(why, MaxRetryError) and isinstance(why.reason, NewConnectionError)


def _context(one: records.SpanContext) -> SpanContext:
    state = TraceState.from_header([one.state]) if one.state else None
    trace_id = int(one.trace_id, 16)
    return SpanContext(trace_id, one.span_id, False, FLAGS[one.sampled], state)  # noqa: FBT003 - theirs


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the parent is gone, and wants no answer
        work(sys.stdin.buffer, sys.stdout.buffer, msgspec.json.decode(sys.argv[1]))
