"""The serving processes of a deployment, and waiting for what they have taken in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

from penstock.errors import UnavailableError
from penstock.records import ServingStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.ports import Services

__all__ = ["living", "wait_for", "wait_until_taken_in"]

POLL_S = 0.05
CLOCKS_S = 2.0  # how far the process table's clock may be from ours


def living(services: Services, deployment: str) -> list[ServingStatus]:
    """What the living serving processes say that serve a deployment.

    Args:
        services: The ports; uses metadata.
        deployment: Name of the deployment.
    """
    found = services.metadata.find(ServingStatus)
    return [one for one in found if _lives(one) and deployment not in one.unloaded]


def wait_for(
    services: Services,
    deployment: str,
    is_behind: Callable[[ServingStatus], bool],
    wait_s: float,
) -> tuple[int, list[ServingStatus]]:
    """Wait until no serving process is behind.

    Args:
        services: The ports; uses metadata and the clock.
        deployment: Name of the deployment.
        is_behind: Whether one is still behind; may raise where it never will be otherwise.
        wait_s: How long at most.

    Returns:
        How many processes serve the deployment, and those that are still behind.
    """
    end_us = services.clock.now_us() + int(wait_s * 1e6)
    while True:
        serving = living(services, deployment)
        behind = [status for status in serving if is_behind(status)]
        if not behind or services.clock.now_us() >= end_us:
            return len(serving), behind
        time.sleep(POLL_S)


def wait_until_taken_in(
    services: Services,
    deployment: str,
    is_behind: Callable[[ServingStatus], bool],
    wait_s: float,
    *,
    done: str,
) -> None:
    """Wait until every serving process has taken a change in.

    Args:
        services: The ports; uses metadata and the clock.
        deployment: Name of the deployment.
        is_behind: Whether one is still behind.
        wait_s: How long at most.
        done: What has been changed, for the error.

    Raises:
        UnavailableError: One has not in time; the change stays in force.
    """
    _, behind = wait_for(services, deployment, is_behind, wait_s)
    if behind:
        raise UnavailableError(
            f"{done}, but {len(behind)} serving processes of {deployment!r} have not taken that in "
            f"within {wait_s:g} s, the first being {behind[0].process_id} at "
            f"{behind[0].address}. Look at 'penstock status' and their log.",
            behind=[status.process_id for status in behind],
        )


def _lives(status: ServingStatus) -> bool:
    """Whether the process that wrote the status still runs: ids of dead ones are used again."""
    try:
        process = psutil.Process(status.process_id)
        started_s = process.create_time()
        zombie = process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return not zombie and started_s <= status.at.timestamp() + CLOCKS_S
