"""Reports of monitors, and the incidents they lead to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from .base import Record

__all__ = ["Check", "Incident", "MonitorReport"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement against its bound.

    Attributes:
        name: ``drift``, ``accuracy`` or ``latency``.
        subject: The feature for drift, the metric for accuracy, ``p99`` for latency.
        value: What was measured; none with too few rows.
        bound: The bound.
        rows: Rows measured.
        breached: Whether the bound was broken.
        reason: In words.
    """

    name: Literal["drift", "accuracy", "latency"]
    subject: str
    value: float | None
    bound: float
    rows: int
    breached: bool
    reason: str


class MonitorReport(Record, frozen=True):
    """One look of a monitor.

    Attributes:
        report_id: Ordered by time.
        monitor: The monitor's name.
        deployment: What was watched.
        version: ``model@version`` that answered most.
        from_us: Start of the window, in microseconds since 1970 UTC.
        to_us: End of the window.
        checks: What was measured.
        created_at: When.
    """

    KIND: ClassVar[str] = "monitor_report"
    INDEXED: ClassVar[tuple[str, ...]] = ("monitor",)

    report_id: str
    monitor: str
    deployment: str
    version: str
    from_us: int
    to_us: int
    checks: tuple[Check, ...]
    created_at: datetime

    @property
    def key(self) -> str:
        """The report's id."""
        return self.report_id

    @property
    def breaches(self) -> tuple[Check, ...]:
        """The checks whose bound was broken."""
        return tuple(check for check in self.checks if check.breached)


class Incident(Record, frozen=True):
    """A breach and what was done about it. At most one is open per monitor and version.

    Attributes:
        incident_id: Ordered by time.
        monitor: The monitor's name.
        deployment: What was watched.
        version: ``model@version`` that breached.
        report_id: The report that opened it.
        breaches: What was broken, in words.
        state: ``open`` until another version answers or the bounds hold again.
        actions: Each action and its outcome, in order.
        opened_at: When.
        closed_at: When it ended.
    """

    KIND: ClassVar[str] = "incident"
    INDEXED: ClassVar[tuple[str, ...]] = ("monitor", "state", "deployment")

    incident_id: str
    monitor: str
    deployment: str
    version: str
    report_id: str
    breaches: tuple[str, ...]
    state: Literal["open", "closed"]
    opened_at: datetime
    actions: Mapping[str, str] = {}
    closed_at: datetime | None = None

    @property
    def key(self) -> str:
        """The incident's id."""
        return self.incident_id
