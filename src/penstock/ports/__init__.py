"""What the stages need of the outside world: one file per port, each a contract in words."""

from __future__ import annotations

from .artifacts import Artifacts
from .clock import Clock, Ids
from .compaction import compact_grown, merge_below
from .event_log import EVENTS_TOPIC, EventLog, LogEntry, announce
from .executor import Executor, Task
from .locks import Locks
from .metadata import Audit, Delete, Metadata, Put
from .online_store import Changes, Found, OnlineStore, Some, claimed, passed
from .services import Services
from .spans import SpanCounts, Spans, Traced
from .tables import Tables, Vacuumed
from .workflows import (
    Pipeline,
    RunInfo,
    RunState,
    RunWatch,
    StepFunction,
    StepInfo,
    StepSpec,
    Watch,
    Workflows,
)

__all__ = [
    "EVENTS_TOPIC",
    "Artifacts",
    "Audit",
    "Changes",
    "Clock",
    "Delete",
    "EventLog",
    "Executor",
    "Found",
    "Ids",
    "Locks",
    "LogEntry",
    "Metadata",
    "OnlineStore",
    "Pipeline",
    "Put",
    "RunInfo",
    "RunState",
    "RunWatch",
    "Services",
    "Some",
    "SpanCounts",
    "Spans",
    "StepFunction",
    "StepInfo",
    "StepSpec",
    "Tables",
    "Task",
    "Traced",
    "Vacuumed",
    "Watch",
    "Workflows",
    "announce",
    "claimed",
    "compact_grown",
    "merge_below",
    "passed",
]
