"""Starting a durable run and following it to its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock.control import shown_run, start
from penstock.errors import PenstockError, UnavailableError
from penstock.records import RunProgress
from penstock.runtime import executing, leave

from .failures import INTERRUPTED
from .humanise import span
from .screen import table

if TYPE_CHECKING:
    from rich.table import Table

    from penstock.control import Submission
    from penstock.ports import RunInfo, StepInfo
    from penstock.runtime import LocalServices

    from .screen import Screen

__all__ = ["RunFailedError", "follow", "follow_run", "output_of", "steps_table"]

POLL_S = 0.15
ENDED = frozenset({"succeeded", "failed", "cancelled"})


class RunFailedError(PenstockError):
    """A run ended otherwise than wanted."""


def follow(screen: Screen, services: LocalServices, submission: Submission) -> RunInfo:
    """Start a run and follow it; returns it when it has succeeded.

    A worker that is alive executes it; without one, this process does. Interrupted, the run stays
    as far as it is, and the message says how it goes on.

    Args:
        screen: Where its steps are shown.
        services: The project.
        submission: The run.

    Raises:
        RunFailedError: It failed or was cancelled; says why and what to do.
    """
    with executing(services):
        start(services, submission)
        return follow_run(screen, services, submission.run_id, steps=_steps(submission))


def follow_run(screen: Screen, services: LocalServices, run_id: str, *, steps: int = 0) -> RunInfo:
    """Follow a run that was submitted.

    Args:
        screen: Where its steps are shown.
        services: The project.
        run_id: The run.
        steps: How many steps it has, to show its share done; 0 when that is not known.

    Raises:
        RunFailedError: It failed or was cancelled.
    """
    try:
        run = _watch(screen, services, run_id, steps)
    except KeyboardInterrupt:
        screen.say(
            f"Stopped following. Run {run_id} keeps its finished steps: a worker goes on with it "
            f"('penstock worker' or 'penstock up'); look with 'penstock runs show {run_id}'."
        )
        leave(INTERRUPTED)  # a step at work in this process would hold it up to its end
        raise
    if run.state != "succeeded":
        raise RunFailedError(
            f"Run {run_id} {run.state}: {run.error or 'no reason was kept'}\n"
            f"Its finished steps are kept. See 'penstock runs show {run_id}'; when the cause is "
            f"gone, 'penstock runs retry {run_id}' goes on from the step that failed.",
            run_id=run_id,
            state=run.state,
        )
    return run


def output_of(run: RunInfo, step: str) -> dict[str, object]:
    """What a step of a run gave; nothing when it was not done."""
    found = next((one for one in run.steps if one.name == step), None)
    return dict(found.output or {}) if found else {}


def steps_table(run: RunInfo) -> Table:
    """The steps of a run, with how long each took."""
    rows = [(_sign(step), step.name, step.state, _took(step), step.error) for step in run.steps]
    return table(["", "step", "state", "took", "error"], rows, right=["took"])


def _watch(screen: Screen, services: LocalServices, run_id: str, steps: int) -> RunInfo:
    share = 0.0
    with screen.progress(run_id) as report:
        while True:
            run = services.workflows.get(run_id)
            if run is None:
                raise UnavailableError(f"Run {run_id!r} is not there any more.", run_id=run_id)
            if run.state in ENDED:
                return shown_run(services, run)
            done = sum(step.state == "succeeded" for step in run.steps)
            now = next((step.name for step in run.steps if step.state == "running"), run.state)
            inner = services.metadata.read(RunProgress, run_id)
            within = inner.share if inner else 0.0
            what = f"{now}: {inner.what}" if inner else now
            # A step's last word is there still when the next has begun: it never goes back.
            share = max(share, (done + within) / max(steps, done + 1))
            report(what, share)
            time.sleep(POLL_S)


def _steps(submission: Submission) -> int:
    return len(submission.pipeline.steps)


def _sign(step: StepInfo) -> str:
    return {"succeeded": "✓", "failed": "✗", "running": "…"}.get(step.state, "")


def _took(step: StepInfo) -> str:
    if step.started_at is None or step.ended_at is None:
        return "-"
    return span((step.ended_at - step.started_at).total_seconds())
