"""Spans: where traces go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.records import Span

__all__ = ["SpanCounts", "Spans", "Traced"]


class Traced(Protocol):
    """Something that was recorded; its spans are made when they are exported, not before."""

    def spans(self) -> Iterable[Span]:
        """Its spans. Called once, in a thread of the exporter's, when nothing changes any more."""
        ...


class SpanCounts(NamedTuple):
    """What has become of what was emitted.

    Attributes:
        exported: How many were taken by whoever collects traces.
        lost: How many were not: nobody answered, or they came faster than they could be sent.
    """

    exported: int
    lost: int


class Spans(ABC):
    """Takes what was traced, and sends it to whoever collects traces.

    Nothing that is traced ever waits for this or fails because of it: ``emit`` returns at once, and
    what cannot be sent is counted and dropped. Safe across threads. What was emitted before
    ``close`` is sent within a few seconds, or lost.
    """

    @abstractmethod
    def emit(self, told: Traced) -> None:
        """Take something; never waits, never raises."""

    @abstractmethod
    def counts(self) -> SpanCounts:
        """What has become of what was emitted so far."""

    @abstractmethod
    def close(self) -> None:
        """Send what is left, for a few seconds at most; the object is not used afterwards."""
