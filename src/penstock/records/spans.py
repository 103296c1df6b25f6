"""Spans: what was done for whom and how long it took, as traces hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

__all__ = ["Attribute", "Span", "SpanContext"]

Attribute = str | bool | int | float | Sequence[str]
"""What a span may say of itself."""


class SpanContext(msgspec.Struct, frozen=True, array_like=True):
    """What tells a span from all others, and goes from process to process.

    Attributes:
        trace_id: The trace it belongs to: 32 hexadecimal digits, not all 0.
        span_id: The span: 64 bits, not 0.
        sampled: Whether whoever began it records it.
        state: What other systems have written beside it (``tracestate``); empty for nothing.
    """

    trace_id: str
    span_id: int
    sampled: bool = True
    state: str = ""


class Span(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Something that was done.

    Attributes:
        name: What.
        kind: ``server`` where somebody else waited for an answer; else ``internal``.
        context: Its ids.
        parent: The span it was done for; none for the first of a trace.
        start_us: When it began, in microseconds since 1970 UTC.
        end_us: When it ended.
        attributes: What else there is to say, by names of OpenTelemetry's or ``penstock.``'s.
        links: Spans of other traces that it was done for as well.
        error: What went wrong; empty for nothing.
    """

    name: str
    context: SpanContext
    parent: SpanContext | None
    start_us: int
    end_us: int
    kind: Literal["internal", "server"] = "internal"
    attributes: Mapping[str, Attribute] = {}
    links: Sequence[SpanContext] = ()
    error: str = ""
