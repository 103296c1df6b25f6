"""The moves of an experiment, each one transaction: counting, promoted, its share given back, told.

Each is on condition that nothing has changed since, and may be done again by whoever finds it half
done: what follows a move goes by the stage that the move has stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.deployment import changes_of, deploy, split_put, wait_for_split
from penstock.errors import PenstockError, RetryableError
from penstock.ports import Audit, Put, announce
from penstock.records import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Services
    from penstock.records import ExperimentState

__all__ = ["count_from_now", "end", "move", "move_audit", "promote_tried", "tell"]


def count_from_now(services: Services, state: ExperimentState) -> ExperimentState:
    """Count from when every serving process splits the traffic: both arms over the same time.

    Raises:
        UnavailableError: One does not in time; call again.
    """
    wait_for_split(services, state.deployment)
    return move(services, state, stage="running", from_us=services.clock.now_us())


def promote_tried(services: Services, state: ExperimentState) -> ExperimentState:
    """Make the tried version the champion, then give its share back; both may be done again.

    Raises:
        UnavailableError: A serving process has not taken it in in time; call again.
    """
    try:
        deploy(services, state.deployment, version=state.version)
        outcome = f"{state.label} is the champion"
    except RetryableError:
        raise
    except PenstockError as error:
        outcome = f"the promotion failed: {error.message}"
    return end(services, state, verdict=state.verdict, reason=state.reason, outcome=outcome)


def end(services: Services, state: ExperimentState, **changed: object) -> ExperimentState:
    """Give its share back, in one transaction with its end; then tell it."""
    puts: list[Put] = []
    shares = changes_of(services.metadata, state.deployment).shares
    if state.target in shares:
        told = f"end of experiment {state.name}"
        puts = [split_put(services, state.deployment, {state.target: 0.0}, reason=told)]
    at = services.clock.now()
    return tell(services, move(services, state, *puts, stage="ending", ended_at=at, **changed))


def tell(services: Services, state: ExperimentState) -> ExperimentState:
    """Announce that it is over, and only then call it so; the id lets it be announced once."""
    event = Event(
        event_id=f"experiment.ended:{state.key}",
        kind="experiment.ended",
        subject=state.deployment,
        ids={"experiment": state.name, "verdict": state.verdict, "version": str(state.version)},
        at_us=services.clock.now_us(),
    )
    announce(services.log, event)
    return move(services, state, stage="ended")


def move(
    services: Services, before: ExperimentState, *more: Put, **changed: object
) -> ExperimentState:
    """Store an experiment with some of its fields changed.

    Args:
        services: The ports.
        before: The experiment as it is stored now.
        more: What else changes in the same transaction.
        changed: The fields.

    Raises:
        ConflictError: It is not as it was; nothing was stored.
    """
    after = msgspec.structs.replace(before, **changed)
    told: dict[str, object] = {"stage": [before.stage, after.stage]}
    if after.verdict:
        told |= {"verdict": after.verdict, "reason": after.reason}
    if after.outcome:
        told["outcome"] = after.outcome
    audit = move_audit(services, after, f"experiment {after.stage}", told)
    services.metadata.write(Put(after, expected=before), *more, audit=audit)
    return after


def move_audit(
    services: Services, state: ExperimentState, action: str, difference: Mapping[str, object]
) -> Audit:
    """The entry of the audit table about a move."""
    return Audit(
        actor=services.actor,
        action=action,
        subject=f"deployment/{state.deployment}",
        difference={"experiment": state.name, "tried": state.label, **difference},
    )
