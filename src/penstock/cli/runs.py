"""The commands about durable runs: list, show, retry."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

import typer

from penstock.control import PIPELINES, NextTry, next_try, shown_run
from penstock.control import retry as retry_run
from penstock.errors import NotFoundError, nearest
from penstock.ports import RunState
from penstock.runtime import executing, open_services

from .failures import UsageError
from .follow import follow_run, steps_table
from .humanise import ago, pairs, span
from .opening import opened_as
from .screen import Screen, table

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.ports import RunInfo
    from penstock.runtime import LocalServices

__all__ = ["list_runs", "retry", "show"]

RUN = typer.Argument(help="The run's id; 'penstock runs list' shows them.")
ERROR_WIDTH = 60
NAMES = tuple(pipeline().name for pipeline in PIPELINES)


def list_runs(
    screen: Screen,
    pipeline: str = typer.Option("", "--pipeline", help=f"One of {', '.join(NAMES)}."),
    state: str = typer.Option("", "--state", help="queued, running, succeeded, failed, cancelled."),
    limit: int = typer.Option(20, "--limit", min=1, max=1000, help="At most so many."),
) -> None:
    """List runs."""
    if state and state not in get_args(RunState):
        known = ", ".join(get_args(RunState))
        raise UsageError(f"There is no state {state!r}. Known: {known}.", state=state)
    if pipeline and pipeline not in NAMES:
        known = nearest(pipeline, NAMES)
        raise UsageError(f"There is no pipeline {pipeline!r}. {known}", pipeline=pipeline)
    with open_services(screen.home) as services:
        wanted = cast("RunState", state) if state else None
        runs = services.workflows.runs(pipeline=pipeline, state=wanted, limit=limit)
        found = [shown_run(services, run) for run in runs]
        now = services.clock.now()
    rows = [_row(run, now) for run in found]
    columns = ["run", "pipeline", "about", "state", "began", "took", "error"]
    empty = "No run yet. 'penstock ingest', 'train', 'score' and 'monitor' make them."
    screen.show(found, table(columns, rows, right=["took"]) if rows else empty)


def show(screen: Screen, run_id: str = RUN) -> None:
    """Show a run."""
    with open_services(screen.home) as services:
        run = shown_run(services, _find(services, run_id))
        now, again = services.clock.now(), next_try(services, run)
    facts = [
        ("run", run.run_id),
        ("pipeline", run.pipeline),
        ("about", run.subject),
        ("state", run.state),
        ("began", ago(run.created_at, now)),
        ("took", _took(run, now)),
        ("with", pairs(run.parameters) or "-"),
        ("error", run.error or "-"),
        *([("again", _again(again, now))] if again else []),
    ]
    retry_it = f"[dim]penstock runs retry {run.run_id}[/]" if run.state == "failed" else ""
    screen.show(run, table(["", ""], facts), steps_table(run), retry_it)


def retry(screen: Screen, run_id: str = RUN) -> None:
    """Let a failed or interrupted run go on."""
    with opened_as(screen, "admin") as services:
        run = _find(services, run_id)
        with executing(services):
            if run.state in {"failed", "cancelled"}:
                retry_run(services, run_id)
            elif run.state == "succeeded":
                screen.say(f"Run {run_id} has succeeded; there is nothing to retry.")
            done = follow_run(screen, services, run_id, steps=len(run.steps))
    screen.show(done, steps_table(done), f"[green]✓[/] {run_id} succeeded.")


def _find(services: LocalServices, run_id: str) -> RunInfo:
    run = services.workflows.get(run_id)
    if run is None:
        known = [found.run_id for found in services.workflows.runs()]
        raise NotFoundError.of("run", run_id, known, hint="See 'penstock runs list'.")
    return run


def _row(run: RunInfo, now: datetime) -> tuple[str, ...]:
    error = run.error.splitlines()[0] if run.error else ""
    short = error if len(error) <= ERROR_WIDTH else f"{error[: ERROR_WIDTH - 1]}…"
    began = ago(run.created_at, now)
    return (run.run_id, run.pipeline, run.subject, run.state, began, _took(run, now), short)


def _again(found: NextTry, now: datetime) -> str:
    """What the worker does with a failed run by itself."""
    if found.at is None:
        return f"not by itself: {found.tried} of {found.times} retries were made"
    when = ago(found.at, now) if found.at > now else "as soon as a worker looks"
    return f"{when}, retry {found.tried + 1} of {found.times}"


def _took(run: RunInfo, now: datetime) -> str:
    end = run.ended_at or (now if run.state == "running" else None)
    return span((end - run.created_at).total_seconds()) if end else "-"
