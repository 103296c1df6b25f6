"""Executor: where the work of a step is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Executor", "Task"]


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A call that can travel to another process.

    Attributes:
        function: ``module:name`` of a function that takes keyword arguments and returns plain JSON
            values.
        arguments: Its arguments, as plain JSON values.
        timeout_s: How long it may take once a worker has it; 0 for as long as it takes.
    """

    function: str
    arguments: Mapping[str, object]
    timeout_s: float = 0.0


class Executor(ABC):
    """Runs tasks, as many at a time as it has workers.

    A task whose worker dies is reported as ``UnavailableError``. So is one that takes longer than
    it may, with ``facts["timeout_s"]``; its worker is ended, whatever it is about, and another
    takes its place. An error of a task is raised as it
    is, with its traceback. Nothing is shared between tasks but what their arguments refer to.
    """

    @abstractmethod
    def run(
        self, tasks: Sequence[Task], *, at_once: int | None = None
    ) -> Iterator[tuple[int, object]]:
        """Run the tasks; yields (index of the task, its result) as each ends.

        No more than ``at_once`` of them run at a time, where that is fewer than the workers. When
        one fails its error is raised after those already running have ended; the results of all
        that succeeded were yielded before.
        """

    @abstractmethod
    def close(self) -> None:
        """End the workers without waiting for tasks at work; the object is not used afterwards."""
