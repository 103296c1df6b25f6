"""A collector of traces: an HTTP server that takes OTLP and keeps what it was sent."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = ["Collected", "Collector", "collector"]

WAIT_S = 15.0


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """A span, as it came.

    Attributes:
        name: What was done.
        trace_id: Its trace, in hexadecimal digits, as are the other ids.
        span_id: The span.
        parent_id: The span it was done for; empty for none.
        state: Its ``tracestate``.
        start_us: When it began, in microseconds since 1970 UTC.
        end_us: When it ended.
        server: Whether somebody waited for its answer.
        attributes: What it says of itself.
        resource: What it says of its process.
        links: Trace and span of those it is linked with.
        error: What went wrong; empty for nothing.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    start_us: int
    end_us: int
    server: bool
    attributes: Mapping[str, object]
    resource: Mapping[str, object]
    links: Sequence[tuple[str, str]]
    error: str

    def listed(self, name: str) -> list[str]:
        """An attribute that is a list of texts; empty where there is none."""
        value = self.attributes.get(name, ())
        return [str(one) for one in value] if isinstance(value, list) else []


class Collector:
    """What was sent so far.

    Attributes:
        address: Where it listens.
        requests: How many requests came.
    """

    def __init__(self) -> None:
        self.address = ""
        self.requests = 0
        self._lock = threading.Lock()
        self._spans: list[Collected] = []

    @property
    def spans(self) -> list[Collected]:
        """The spans, in the order they came."""
        with self._lock:
            return list(self._spans)

    def trace(self, trace_id: str) -> dict[str, Collected]:
        """The spans of a trace by their names; of several with one name the last."""
        return {span.name: span for span in self.spans if span.trace_id == trace_id}

    def wait(self, enough: Callable[[list[Collected]], bool]) -> list[Collected]:
        """Wait for spans.

        Raises:
            TimeoutError: They did not come; says which did.
        """
        end_s = time.monotonic() + WAIT_S
        while not enough(self.spans):
            if time.monotonic() > end_s:
                raise TimeoutError(f"only {[span.name for span in self.spans]} came")
            time.sleep(0.02)
        return self.spans

    def take(self, body: bytes) -> None:
        """Keep what a request brought."""
        request = ExportTraceServiceRequest.FromString(body)
        found = [
            _collected(span, _said(group.resource.attributes))
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self.requests += 1
            self._spans += found


@contextmanager
def collector(port: int = 0) -> Generator[Collector]:
    """Run a collector until the block ends.

    Args:
        port: Where; a free one when left out.
    """
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        """Takes ``POST /v1/traces``."""

        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Take spans."""
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            found.take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    found.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _collected(span: Span, resource: Mapping[str, object]) -> Collected:
    return Collected(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        state=span.trace_state,
        start_us=span.start_time_unix_nano // 1_000,
        end_us=span.end_time_unix_nano // 1_000,
        server=span.kind == span.SPAN_KIND_SERVER,
        attributes=_said(span.attributes),
        resource=resource,
        links=[(one.trace_id.hex(), one.span_id.hex()) for one in span.links],
        error=span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else "",
    )


def _said(pairs: Sequence[KeyValue]) -> dict[str, object]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
