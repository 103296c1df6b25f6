"""Workflows: pipelines of named steps that survive any crash."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = [
    "Pipeline",
    "RunInfo",
    "RunState",
    "RunWatch",
    "StepFunction",
    "StepInfo",
    "StepSpec",
    "Watch",
    "Workflows",
]

RunState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
StepFunction = Callable[[Mapping[str, object], Mapping[str, object]], Mapping[str, object]]
"""(parameters of the run, outputs of the earlier steps by name) -> output; plain JSON values."""


class StepSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a pipeline.

    Attributes:
        name: Its name in the run.
        function: Name under which its function is registered.
        attempts: How often it is tried when it fails with a ``RetryableError``.
    """

    name: str
    function: str
    attempts: int = 3


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """Steps done one after the other.

    It travels in the run's arguments, so that new code strands no old run.

    Attributes:
        name: ``ingest``, ``train``, ``score``, ``monitor``.
        steps: The steps in order. A step whose output has ``"stop": true`` ends the run early, as
            succeeded.
    """

    name: str
    steps: tuple[StepSpec, ...]


class StepInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a run, as far as it has come."""

    name: str
    state: RunState
    output: Mapping[str, object] | None = None
    error: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A run, as far as it has come.

    Attributes:
        run_id: Its id.
        pipeline: Name of its pipeline.
        subject: What it is about: a source, a model, a deployment, a monitor.
        state: Where it stands.
        parameters: What it was submitted with.
        steps: Its steps, those not begun left out (only from ``get``).
        error: Why it failed.
        created_at: When it was submitted.
        ended_at: When it ended.
        executor_id: Who runs it.
    """

    run_id: str
    pipeline: str
    subject: str
    state: RunState
    parameters: Mapping[str, object]
    created_at: datetime
    steps: tuple[StepInfo, ...] = ()
    error: str = ""
    ended_at: datetime | None = None
    executor_id: str = ""


class RunWatch(ABC):
    """Follows one run while a process executes it. Does not raise; called by one thread."""

    @abstractmethod
    def step(self, name: str) -> AbstractContextManager[None]:
        """Follow a step while the context is open: all of its attempts."""

    @abstractmethod
    def ended(self, error: BaseException | None) -> None:
        """The run has ended here, with what was raised, if anything was."""


class Watch(ABC):
    """Follows the runs that a process executes. Safe across threads."""

    @abstractmethod
    def begun(self, run_id: str, *, pipeline: str, subject: str) -> RunWatch | None:
        """A run begins here or goes on; what follows it, or none.

        Args:
            run_id: The run.
            pipeline: Name of its pipeline.
            subject: What it is about.
        """


class Workflows(ABC):
    """Runs pipelines durably.

    The output of a finished step is stored before the next begins; a run that is interrupted
    anywhere goes on from its last finished step. A step in flight at a crash runs again, so steps
    are idempotent. A run submitted again with the same id is the same run. Runs of an executor
    whose process is gone are taken over by ``recover``. Safe across threads and processes.
    """

    @abstractmethod
    def launch(self, functions: Mapping[str, StepFunction], *, watch: Watch | None = None) -> None:
        """Register the step functions and begin to execute runs in this process.

        Without it, the object only submits and looks.

        Args:
            functions: The functions of the steps, by the names that pipelines call them.
            watch: Follows every run that is executed here: its steps that are done here, and that
                it has ended here. Steps that were done before are not followed again.
        """

    @abstractmethod
    def submit(
        self, pipeline: Pipeline, parameters: Mapping[str, object], *, run_id: str, subject: str
    ) -> str:
        """Submit a run; returns its id. A known id changes nothing.

        It is queued for any process that has launched; this one too when it has.
        """

    @abstractmethod
    def wait(self, run_id: str, *, timeout_s: float | None = None) -> RunInfo:
        """Wait until the run has ended.

        Raises:
            NotFoundError: There is no such run.
            UnavailableError: It has not ended in time.
        """

    @abstractmethod
    def get(self, run_id: str) -> RunInfo | None:
        """The run with its steps, or None."""

    @abstractmethod
    def runs(
        self, *, pipeline: str = "", state: RunState | None = None, limit: int = 50
    ) -> Sequence[RunInfo]:
        """Runs, newest first, without their steps."""

    @abstractmethod
    def retry(self, run_id: str) -> None:
        """Let a failed or cancelled run go on from its last finished step.

        Raises:
            NotFoundError: There is no such run.
            ConflictError: It has not failed.
        """

    @abstractmethod
    def cancel(self, run_id: str) -> None:
        """End a run before its next step."""

    @abstractmethod
    def recover(self, *, living: Sequence[str]) -> list[str]:
        """Take over unfinished runs of every executor not named; returns their ids."""

    @abstractmethod
    def close(self) -> None:
        """Stop executing; runs in flight stay unfinished and can be recovered."""
