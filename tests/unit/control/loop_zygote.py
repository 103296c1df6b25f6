"""Does steps of the loop in forked children that kill themselves at the n-th call of a port.

Each line on standard input is ``<what> <method> <n> <before|after> <home>``; the child's exit
status is printed. Nothing that starts threads runs before the fork.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from penstock.adapters.dbos import DbosWorkflows
from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileArtifacts
from penstock.adapters.sqlite import SqliteEventLog, SqliteMetadata
from penstock.control import advance_canaries, carry_out, due, react, start
from penstock.deployment import decide_rollout
from penstock.monitoring import drain_observations
from penstock.records import MonitorReport, ProcessCounts, Rollout, VersionCounts
from penstock.runtime import open_services

if TYPE_CHECKING:
    from penstock.ports import Services


def act(services: Services) -> None:
    (report,) = services.metadata.find(MonitorReport)
    react(services, report)


def trigger(services: Services) -> None:
    for submission in due(services):
        start(services, submission)


def drain(services: Services) -> None:
    drain_observations(services)


def roll_out(services: Services) -> None:
    """Carry out the rollout that there is, as far as it goes."""
    (rollout,) = services.metadata.find(Rollout)
    carry_out(services, rollout)


def approve(services: Services) -> None:
    (rollout,) = services.metadata.find(Rollout)
    if rollout.state == "waiting":
        decide_rollout(services, rollout.rollout_id, approved=True, reason="")


def step(services: Services) -> None:
    """Look once at the canary that there is: both versions answer once a microsecond, and well."""
    (rollout,) = services.metadata.find(Rollout)
    answers = services.clock.now_us()
    well = VersionCounts(answers=answers, bounds_us=(1_000,), buckets=(answers, 0))
    counted = ProcessCounts(
        process="p",
        deployment=rollout.deployment,
        versions={str(rollout.version): well, str(rollout.champion): well},
    )
    advance_canaries(services, [counted])


WORK = {
    "act": act,
    "trigger": trigger,
    "drain": drain,
    "roll_out": roll_out,
    "approve": approve,
    "step": step,
}
PORTS: dict[str, type] = {
    "write": SqliteMetadata,
    "publish": SqliteEventLog,
    "commit": SqliteEventLog,
    "append": DeltaTables,
    "submit": DbosWorkflows,
    "put": FileArtifacts,
}


def arm(method: str, place: int, *, after: bool) -> None:
    """Let the n-th call of the method be the last thing that this process does."""
    port, calls = PORTS[method], [0]
    real = getattr(port, method)

    def deadly(*arguments: object, **named: object) -> object:
        calls[0] += 1
        if calls[0] == place and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **named)
        if calls[0] == place:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(port, method, deadly)


def main() -> None:
    # Standard output is the answers; what is logged goes beside it.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    for line in sys.stdin:
        what, method, place, moment, home = line.rstrip().split(" ", 4)
        child = os.fork()
        if child == 0:
            arm(method, int(place), after=moment == "after")
            with open_services(Path(home), actor="worker") as services:
                WORK[what](services)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
