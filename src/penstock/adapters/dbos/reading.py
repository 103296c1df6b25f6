"""DBOS's rows as the port's values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from penstock.ports import Pipeline, RunInfo, RunState, StepInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dbos import StepInfo as DbosStep
    from dbos import WorkflowStatus

__all__ = ["DBOS_STATES", "TERMINAL", "end_of", "is_short", "run_of", "steps_of"]

DBOS_STATES: Mapping[str, RunState] = {
    "DELAYED": "queued",
    "ENQUEUED": "queued",
    "PENDING": "running",
    "SUCCESS": "succeeded",
    "ERROR": "failed",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
    "CANCELLED": "cancelled",
}
SHORT = timedelta(seconds=2)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TERMINAL = frozenset({"SUCCESS", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "CANCELLED"})


class _Arguments(NamedTuple):
    """What a run was submitted with, in the order of the workflow's parameters."""

    pipeline: Pipeline
    parameters: dict[str, object]
    subject: str
    submitted_us: int


def run_of(status: WorkflowStatus, steps: Sequence[StepInfo] = ()) -> RunInfo:
    """The run that a row of DBOS describes."""
    pipeline, parameters, subject, submitted_us = _arguments(status)
    created_at = EPOCH + timedelta(microseconds=submitted_us)
    return RunInfo(
        run_id=status.workflow_id,
        pipeline=pipeline.name,
        subject=subject,
        state=DBOS_STATES[status.status],
        parameters=parameters,
        created_at=created_at,
        steps=tuple(steps),
        error=_error(status.error) or next((step.error for step in steps if step.error), ""),
        ended_at=_ended(status, created_at, steps),
        executor_id=status.executor_id or "",
    )


def steps_of(status: WorkflowStatus, rows: Sequence[DbosStep]) -> list[StepInfo]:
    """The run's steps as far as it has come; the one it is at has no times yet."""
    steps = [
        StepInfo(
            name=row["function_name"],
            state="succeeded" if row["error"] is None else "failed",
            output=row["output"],
            error=_error(row["error"]),
            started_at=_time(row["started_at_epoch_ms"]),
            ended_at=_time(row["completed_at_epoch_ms"]),
        )
        for row in rows
    ]
    pipeline = _arguments(status).pipeline
    if status.status == "PENDING" and len(steps) < len(pipeline.steps):
        steps.append(StepInfo(name=pipeline.steps[len(steps)].name, state="running"))
    return steps


def is_short(run: RunInfo) -> bool:
    """Whether a run took so little that its end, without its steps, says nothing of how long."""
    return run.ended_at is not None and run.ended_at - run.created_at < SHORT


def end_of(run: RunInfo, rows: Sequence[DbosStep]) -> datetime | None:
    """The end of a run, or of its last step where that is later."""
    ends = [run.ended_at, *(_time(row["completed_at_epoch_ms"]) for row in rows)]
    return max(filter(None, ends), default=None)


def _arguments(status: WorkflowStatus) -> _Arguments:
    stored: Any = status.input
    document, *rest = stored["args"]
    return _Arguments(msgspec.convert(document, Pipeline), *rest)


def _ended(
    status: WorkflowStatus, created_at: datetime, steps: Sequence[StepInfo]
) -> datetime | None:
    """When the run ended; SQLite's whole seconds may put that before it began."""
    ended = _time(status.completed_at)
    if ended is None:
        return None
    return max(ended, created_at, *(step.ended_at for step in steps if step.ended_at))


def _error(error: object) -> str:
    """An error as one text: DBOS keeps its name and its message."""
    if error is None:
        return ""
    name = getattr(error, "name", type(error).__name__)
    return f"{name}: {error}"


def _time(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else datetime.fromtimestamp(epoch_ms / 1000, tz=UTC)
