"""Traces of requests: whose they are, which are recorded, and what a client's context says."""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING, Any

from penstock.errors import InputError, NotSupportedError, nearest
from penstock.records import Attribute, SpanContext
from penstock.runtime import Sampling
from penstock.scoring import RequestTrace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from grpc import StatusCode

    from penstock.ports import Clock, Spans

    from .serve_call import Call

__all__ = ["TRACE_PARENT", "TRACE_STATE", "Tracing", "parent_of", "trace_settings"]

TRACE_PARENT, TRACE_STATE = b"traceparent", b"tracestate"
PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
MOST_STATE = 512
SERVER_FAULT = 500
FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE"})
"""Statuses of gRPC that are the server's."""
VERSIONED = re.compile(r"/versions/[^/]+")
NAMED = re.compile(r"^(/v1/deployments/|/v[12]/models/|/v1/features/)[^/:]+")
MOST_DIGITS = 18
RATE, LEVEL = "trace_rate", "trace_level"
OFF = ["OFF"]
FIXED: Mapping[str, str] = {
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "opentelemetry",
}


class Tracing:
    """Begins and ends the traces of requests.

    Args:
        spans: Where they go.
        clock: Tells the time.
        sampling: Which requests are traced.
        reads_context: Whether what the client says of it counts.

    Attributes:
        sampling: See above; may be changed while the process serves.
        first: What ``sampling`` was at first.
        spans: See above.
    """

    def __init__(
        self, spans: Spans, clock: Clock, sampling: Sampling, *, reads_context: bool = True
    ) -> None:
        self.spans = spans
        self.sampling = self.first = sampling
        self._clock = clock
        self._reads_context = reads_context
        self._new_bits = Random().getrandbits  # noqa: S311 - ids of spans are no secrets

    def begin(self, headers: Iterable[tuple[bytes, bytes]], arrived_us: int) -> RequestTrace | None:
        """The trace of a request; none where nobody records it.

        Args:
            headers: Of the request, or what stands for them, in lower case.
            arrived_us: When it came, in microseconds since 1970 UTC.
        """
        parent = parent_of(headers) if self._reads_context else None
        if parent is None:
            return self._begin(arrived_us)
        recorded = self.sampling.takes(int(parent.trace_id, 16), parent=parent.sampled)
        if not recorded and not parent.sampled:
            return None
        context = SpanContext(parent.trace_id, self.new_span(), recorded, parent.state)
        return RequestTrace(context, parent, arrived_us, self.new_span, recorded=recorded)

    def _begin(self, arrived_us: int) -> RequestTrace | None:
        """The first of a trace."""
        number = self._new_bits(128) or 1
        if not self.sampling.takes(number):
            return None
        context = SpanContext(f"{number:032x}", self.new_span())
        return RequestTrace(context, None, arrived_us, self.new_span)

    def end(
        self, trace: RequestTrace, name: str, attributes: Mapping[str, Attribute], error: str
    ) -> None:
        """End the trace of a request that has been answered.

        Args:
            trace: The trace.
            name: What was asked, without anything that differs from request to request.
            attributes: What else there is to say.
            error: What went wrong in the server; empty for nothing.
        """
        if not trace.recorded:
            return
        trace.name, trace.error = name, error
        trace.attributes.update(attributes)
        trace.ended_us = self._clock.now_us()
        self.spans.emit(trace)

    def answered(self, trace: RequestTrace, call: Call, status: int) -> None:
        """End the trace of a request over HTTP."""
        path, method = call.scope["path"], call.scope["method"]
        route = VERSIONED.sub("/versions/{version}", NAMED.sub(r"\1{name}", path))
        attributes = {
            "http.request.method": method,
            "http.route": route,
            "url.path": path,
            "http.response.status_code": status,
        }
        if call.request_id:
            attributes["penstock.request_id"] = call.request_id
        error = f"status {status}" if status >= SERVER_FAULT else ""
        self.end(trace, f"{method} {route}", attributes, error)

    def called(self, trace: RequestTrace, method: str, request_id: str, code: StatusCode) -> None:
        """End the trace of a request over gRPC."""
        attributes = {
            "rpc.system.name": "grpc",
            "rpc.method": method,
            "rpc.response.status_code": code.name,
        }
        if request_id:
            attributes["penstock.request_id"] = request_id
        self.end(trace, method, attributes, f"status {code.name}" if code.name in FAULTS else "")

    def new_span(self) -> int:
        """The id of a new span."""
        return self._new_bits(64) or 1


def parent_of(headers: Iterable[tuple[bytes, bytes]]) -> SpanContext | None:
    """The client's span, as W3C's Trace Context has it; none where it says nothing that counts.

    Args:
        headers: Of the request, in lower case.
    """
    given: list[bytes] = []
    state: list[bytes] = []
    for name, value in headers:
        if name == TRACE_PARENT:
            given.append(value)
        elif name == TRACE_STATE:
            state.append(value)
    if len(given) != 1:
        return None
    found = PARENT.fullmatch(given[0].strip())
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5] is not None):
        return None
    trace_id, span_id = found[2].decode(), int(found[3], 16)
    if not int(trace_id, 16) or not span_id:
        return None
    told = b",".join(state)
    kept = told.decode("latin-1") if len(told) <= MOST_STATE else ""
    return SpanContext(trace_id, span_id, bool(int(found[4], 16) & 1), kept)


def trace_settings(
    tracing: Tracing | None, given: Mapping[str, Any], model: str = ""
) -> Mapping[str, object]:
    """The settings of tracing of this process, after some were changed, as Triton names them.

    Args:
        tracing: What traces; none where nothing is traced.
        given: New values by name; none for what it was at first.
        model: The model that the settings are for; empty for the process.

    Raises:
        InputError: There is no such setting, or no such value.
        NotSupportedError: It cannot be changed.
    """
    now = _told(tracing)
    for name, value in given.items():
        if name not in now:
            raise InputError(f"There is no setting {name!r}. {nearest(name, now)}")
        if value is None or value == now[name]:
            continue
        if tracing is None:
            raise NotSupportedError(
                f"{name} cannot be {value!r}: this process traces nothing. Set traces = true in "
                "penstock.toml, and start it again."
            )
        if model:
            raise NotSupportedError(
                f"{name} cannot be {value!r} for {model!r} alone: which requests are traced is one "
                "setting for the process. Change it at /v2/trace/setting."
            )
        if name not in {LEVEL, RATE}:
            raise NotSupportedError(f"{name} cannot be changed; it is {now[name]!r}.")
    if tracing is not None and not model:
        _change(tracing, given)
    return _told(tracing)


def _told(tracing: Tracing | None) -> dict[str, object]:
    share = tracing.sampling.share if tracing else 0.0
    level = ["TIMESTAMPS"] if tracing and (share or tracing.sampling.by_parent) else OFF
    rate = str(round(1 / share)) if share else "0"
    return {LEVEL: level, RATE: rate, **FIXED}


def _change(tracing: Tracing, given: Mapping[str, Any]) -> None:
    """Change which requests are traced: all of it is looked at before any of it is done."""
    share, by_parent = tracing.sampling
    if RATE in given:
        share = tracing.first.share if given[RATE] is None else _share(given[RATE])
    if LEVEL in given:
        level = given[LEVEL]
        if level not in (None, OFF, ["TIMESTAMPS"]):
            raise InputError(f"{LEVEL}={level!r}. Give ['TIMESTAMPS'], or ['OFF'].")
        by_parent = tracing.first.by_parent and level != OFF
        if level is None:
            share = share or tracing.first.share
        elif level == OFF:
            share = 0.0
        elif not share:
            share = tracing.first.share or 1.0
    tracing.sampling = Sampling(share, by_parent)


def _share(rate: object) -> float:
    text = str(rate)
    # Python refuses to read very long numbers.
    if not text.isdecimal() or len(text) > MOST_DIGITS or not int(text):
        raise InputError(f"{RATE}={rate!r}. One request in how many is traced? Give 1 or more.")
    return 1 / int(text)
