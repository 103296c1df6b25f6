"""The one durable workflow: it runs whatever pipeline it is handed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import structlog
from dbos import DBOS, StepOptions

from penstock.errors import NotFoundError, RetryableError
from penstock.ports import Pipeline, StepFunction, StepSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.ports import RunWatch, Watch

    Bound = Callable[["Output", "Output"], "Output"]

__all__ = ["Interpreter", "Output"]

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 10.0
Output = Mapping[str, object]


class Interpreter:
    """Runs pipelines step by step; DBOS stores the output of each before the next begins.

    Args:
        functions: The step functions by their registered names.
        watch: Follows every run; none where nobody does.
    """

    def __init__(self, functions: Mapping[str, StepFunction], watch: Watch | None = None) -> None:
        self._functions = dict(functions)
        self._watch = watch
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let nothing wait any longer for its next attempt."""
        self._stopping.set()

    def run(self, document: object, parameters: Output, subject: str) -> dict[str, Output]:
        """Run a pipeline to its end or its first ``stop``; the durable workflow itself.

        Args:
            document: The pipeline as plain JSON values, as it was submitted.
            parameters: The run's parameters.
            subject: What the run is about; it is stored with the run.

        Returns:
            The output of each step by its name.
        """
        pipeline = msgspec.convert(document, Pipeline)
        watch, run_id = self._watch, DBOS.workflow_id or ""
        begun = watch.begun(run_id, pipeline=pipeline.name, subject=subject) if watch else None
        if begun is None:
            return self._steps(pipeline, parameters, subject, None)
        try:
            outputs = self._steps(pipeline, parameters, subject, begun)
        except BaseException as error:
            begun.ended(error)
            raise
        begun.ended(None)
        return outputs

    def _steps(
        self, pipeline: Pipeline, parameters: Output, subject: str, watch: RunWatch | None
    ) -> dict[str, Output]:
        outputs: dict[str, Output] = {}
        for step in pipeline.steps:
            bound = self._bound(step, subject)
            output = DBOS.run_step(
                StepOptions(name=step.name),
                bound if watch is None else _watched(bound, watch, step.name),
                parameters,
                dict(outputs),
            )
            outputs[step.name] = output
            if output.get("stop") is True:
                break
        return outputs

    def _bound(self, step: StepSpec, subject: str) -> Bound:
        """The step as a function of its inputs, tried again as often as it allows."""
        log = structlog.get_logger("penstock.workflows").bind(step=step.name, subject=subject)

        def attempt(parameters: Output, outputs: Output) -> Output:
            function = self._functions.get(step.function)
            if function is None:
                raise NotFoundError.of(
                    "step function",
                    step.function,
                    self._functions,
                    hint="This version of Penstock does not have it; retry the run with one that "
                    "does.",
                )
            wait_s = FIRST_WAIT_S
            for left in reversed(range(step.attempts)):
                try:
                    return function(parameters, outputs)
                except RetryableError as error:
                    if not left or self._stopping.is_set():
                        raise
                    log.warning("step failed, will be tried again", error=str(error), left=left)
                    self._stopping.wait(wait_s)
                    wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            raise AssertionError(step)  # pragma: no cover - attempts is at least 1

        return attempt


def _watched(bound: Bound, watch: RunWatch, name: str) -> Bound:
    """A step that is followed where it is done; DBOS does not call it where it was done before."""

    def follow(parameters: Output, outputs: Output) -> Output:
        with watch.step(name):
            return bound(parameters, outputs)

    return follow
