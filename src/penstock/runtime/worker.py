"""The process ``penstock worker``: runs workflows, and submits those that are due."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import structlog

from penstock import control
from penstock.errors import PenstockError, UnavailableError
from penstock.ports import Delete
from penstock.records import Process

from .board import read_boards
from .counted import version_counts
from .heartbeat import Heartbeat, is_alive, living_processes
from .logs import configure_logs
from .run_traces import tracing_runs
from .services import LocalServices, open_services
from .stopping import leave, stop_on_signals
from .webhooks import WebhookLane

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from penstock.records import ProcessCounts

__all__ = ["executing", "look_for_work", "work"]

TICK_S = 0.5
RECOVER_EVERY_S = 3.0
RECOVERY_LOCK = "workflows/recovery"
LONGEST_WAIT_S = 30.0
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US


class Stop(Protocol):
    """What a loop waits for between two turns: ``threading.Event``."""

    def wait(self, wait_s: float, /) -> bool:
        """Wait; whether it is over."""
        ...


def work(home: Path) -> None:
    """Run workflows until SIGTERM or SIGINT.

    A run in flight at the end stays unfinished, and the next worker goes on with it from its last
    finished step.

    Args:
        home: The project folder.
    """
    with stop_on_signals() as stop, open_services(home, kind="worker") as services:
        configure_logs(services.layout.logs, "worker", level=services.settings.log_level)
        log = structlog.get_logger("penstock.worker")
        # The heartbeat comes first: a run of an executor that nobody knows would be taken over.
        with (
            tracing_runs(services) as watch,
            Heartbeat(services, executor_id=services.executor_id),
        ):
            services.workflows.launch(control.step_functions(services), watch=watch)
            webhooks = WebhookLane(services)
            webhooks.start()
            log.info("worker is ready", executor=services.executor_id)
            look_for_work(services, stop)
            webhooks.stop()
            webhooks.join(LONGEST_WAIT_S)
        log.info("worker stops")
    leave()


@contextmanager
def executing(services: LocalServices) -> Generator[None]:
    """See to it that somebody executes submitted runs while the context is open.

    Does nothing where a worker is alive; else this process becomes one for the time being.
    """
    if living_processes(services, kind="worker"):
        yield
        return
    with (
        tracing_runs(services) as watch,
        Heartbeat(services, executor_id=services.executor_id),
    ):
        services.workflows.launch(control.step_functions(services), watch=watch)
        recover(services)
        yield


def recover(services: LocalServices) -> list[str]:
    """Take over the runs of processes that are gone, and forget these; returns the runs' ids.

    One process at a time does it: of two, the second could put back on the queue what a third has
    just begun.
    """
    try:
        with services.locks.hold(RECOVERY_LOCK, wait_s=0):
            now = services.clock.now()
            known = services.metadata.find(Process)
            living = [process for process in known if is_alive(process, now)]
            taken = services.workflows.recover(living=[process.executor_id for process in living])
            dead = [Delete(process) for process in known if process not in living]
            if dead:
                services.metadata.write(*dead)
            return taken
    except UnavailableError:
        return []


def counted(services: LocalServices) -> list[ProcessCounts]:
    """What the living serving processes have counted, by version."""
    return version_counts(read_boards(services.layout.serving))


def look_for_work(services: LocalServices, stop: Stop) -> None:
    """Submit what is due, take over what was left and try again what failed, until told to stop.

    A look that fails is followed by another, after a wait that doubles up to 30 s.

    Args:
        services: The project.
        stop: Waits between looks, and says when it is over.
    """
    log = structlog.get_logger("penstock.worker")
    next_recovery_s = 0.0
    failures = 0
    settings, known = services.settings, control.Known()
    check = control.CheckSchedule(
        settings.features_check_minutes * MINUTE_US, settings.features_check_max
    )
    profile = control.ProfileSchedule(
        settings.features_profile_minutes * MINUTE_US,
        settings.features_profile_days,
        settings.features_profile_sample,
    )
    vacuum = control.VacuumSchedule(
        settings.features_vacuum_hours * HOUR_US, settings.features_retention_hours
    )
    prune = control.PruneSchedule(settings.scores_prune_hours * HOUR_US)
    while not stop.wait(min(TICK_S * 2 ** min(failures, 10), LONGEST_WAIT_S)):
        try:
            if time.monotonic() >= next_recovery_s:
                next_recovery_s = time.monotonic() + RECOVER_EVERY_S
                for run_id in recover(services):
                    log.warning("took over a run whose worker is gone", run=run_id)
                for retried in control.retry_failed(services):
                    log.warning("a run had failed", run=retried.run_id, now=retried.became)
            for moved in control.advance_canaries(services, counted(services)):
                log.info("canary", rollout=moved.rollout_id, state=moved.state, step=moved.step)
            due = control.due(
                services, known=known, check=check, profile=profile, vacuum=vacuum, prune=prune
            )
            for submission in due:
                log.info("submitted", run=control.start(services, submission))
            failures = 0
        except PenstockError as error:
            failures += 1
            log.warning("could not look for work", error=str(error), failures=failures)
        except Exception:  # a bug met here must not end the runs that are under way
            failures += 1
            log.exception("could not look for work", failures=failures)
