"""Canaries under way, taken from step to step by whoever looks: all that is known is stored.

A look compares what the serving processes have counted since the step began. Each move, a greater
share, a return, a promotion, is one transaction of the rollout, the routes and the audit entry, on
condition that nothing has changed since: of two who look one moves it, and who is killed has moved
it or not.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from penstock.deployment import (
    compare_counts,
    compare_metric,
    has_share,
    move_rollout,
    share_back,
    share_put,
)
from penstock.errors import ConflictError, PenstockError, RetryableError
from penstock.monitoring import drain_observations, measure_version
from penstock.ports import Put, announce
from penstock.records import CanaryCounts, CanaryStep, Event, Rollout
from penstock.registry import aliases
from penstock.scoring import drain_scores
from penstock.spec import SMALLER_IS_BETTER, Canary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ports import Services
    from penstock.records import DeployCheck, ProcessCounts

__all__ = ["advance_canaries", "begin_step"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def advance_canaries(services: Services, counted: Sequence[ProcessCounts]) -> list[Rollout]:
    """Look at every canary once, and move those whose time or bound has come.

    Args:
        services: The ports.
        counted: What the living serving processes have counted.

    Returns:
        Those that moved, as they are now.
    """
    moved: list[Rollout] = []
    for state in ("canary", "returning"):
        for rollout in services.metadata.find(Rollout, where={"state": state}):
            try:
                with services.locks.hold(f"canary/{rollout.model}", wait_s=0):
                    after = _look(services, rollout, counted)
            except (ConflictError, RetryableError):
                continue  # somebody else looks, or has just moved it; the next look sees
            if after is not None:
                moved.append(after)
    return moved


def begin_step(services: Services, rollout: Rollout, step: int, *done: CanaryStep) -> Rollout:
    """Give the new version the share of a step, in one transaction with the rollout.

    Args:
        services: The ports.
        rollout: The rollout as it is stored now.
        step: The step, from 0.
        done: The step that has ended, where one has.

    Raises:
        DeclarationError: The share does not go together with the other routes.
        ConflictError: Somebody has changed the routes or the rollout meanwhile.
    """
    share = _plan(rollout).steps[step]
    return move_rollout(
        services,
        rollout,
        share_put(services, rollout, share),
        action="canary step",
        difference={"step": step + 1, "share": share},
        state="canary",
        step=step,
        step_at=services.clock.now(),
        steps=(*rollout.steps, *done),
    )


def _look(services: Services, rollout: Rollout, counted: Sequence[ProcessCounts]) -> Rollout | None:
    """Look at one; where it cannot go on, it gives its share back and is in nobody's way."""
    if rollout.state == "returning":
        return _returned(services, rollout)
    try:
        return _compared(services, rollout, counted)
    except (ConflictError, RetryableError):
        raise
    except PenstockError as error:
        return _return(services, rollout, why=error.message)


def _compared(
    services: Services, rollout: Rollout, counted: Sequence[ProcessCounts]
) -> Rollout | None:
    """Compare both versions, and move the rollout where its time or a bound has come."""
    plan = _plan(rollout)
    gone = _disturbed(services, rollout, plan.steps[rollout.step])
    if gone:
        return _return(services, rollout, why=gone)
    counts = _counts(services, rollout, counted)
    new = counts.of(rollout.version)
    checks = compare_counts(plan, new, counts.of(rollout.champion))
    began = rollout.step_at or rollout.asked_at
    took_us = (services.clock.now() - began) // timedelta(microseconds=1)
    is_over = took_us >= plan.every_us and new.answers >= plan.min_scores
    if is_over and plan.metric and _hold(checks):
        checks = (*checks, _metric(services, rollout, plan))
    if not _hold(checks):
        return _return(services, rollout, checks, answers=new.answers)
    if is_over:
        return _stepped(services, rollout, plan, new.answers, checks)
    if plan.most_us and took_us > plan.most_us:
        why = f"{new.answers} answers within {plan.most}, {plan.min_scores} needed"
        return _return(services, rollout, checks, answers=new.answers, why=why)
    return None


def _hold(checks: Sequence[DeployCheck]) -> bool:
    return all(check.passed for check in checks)


def _stepped(
    services: Services,
    rollout: Rollout,
    plan: Canary,
    answers: int,
    checks: tuple[DeployCheck, ...],
) -> Rollout:
    """On to the next step, or to the promotion after the last."""
    now = services.clock.now()
    ended = CanaryStep(
        share=plan.steps[rollout.step], began_at=rollout.step_at or now, ended_at=now,
        answers=answers, checks=checks,
    )  # fmt: skip
    if rollout.step + 1 < len(plan.steps):
        return begin_step(services, rollout, rollout.step + 1, ended)
    # The share stays until the promotion is done: whoever has met the version goes on meeting it.
    return move_rollout(services, rollout, state="promoting", steps=(*rollout.steps, ended))


def _plan(rollout: Rollout) -> Canary:
    return msgspec.convert(rollout.canary, Canary)


def _disturbed(services: Services, rollout: Rollout, share: float) -> str:
    """What keeps the comparison from meaning anything; empty for nothing."""
    champion = aliases(services.metadata, rollout.model).champion
    if champion != rollout.champion:
        return f"{rollout.model}@{champion} has become the champion meanwhile"
    if not has_share(services, rollout, share):
        return f"somebody changed the routes of {rollout.deployment!r} meanwhile"
    return ""


def _counts(services: Services, rollout: Rollout, counted: Sequence[ProcessCounts]) -> CanaryCounts:
    """What is known of the step; stored, so that processes that end keep what they counted."""
    now = {one.process: one for one in counted if one.deployment == rollout.deployment}
    known = services.metadata.read(CanaryCounts, rollout.rollout_id)
    if known is None or known.step != rollout.step:
        after = CanaryCounts(rollout_id=rollout.rollout_id, step=rollout.step, began=now, last=now)
    else:
        after = msgspec.structs.replace(known, last={**known.last, **now})
    if after != known:
        services.metadata.write(Put(after))
    return after


def _metric(services: Services, rollout: Rollout, plan: Canary) -> DeployCheck:
    drain_scores(services, rollout.deployment)
    drain_observations(services)
    began = rollout.steps[0].began_at if rollout.steps else rollout.step_at or EPOCH
    from_us = (began - EPOCH) // timedelta(microseconds=1)
    new, champion = (
        measure_version(
            services.tables, rollout.deployment, rollout.model, version, plan.metric, from_us
        )
        for version in (rollout.version, rollout.champion)
    )
    return compare_metric(plan, new, champion, smaller_is_better=plan.metric in SMALLER_IS_BETTER)


def _return(
    services: Services,
    rollout: Rollout,
    checks: Sequence[DeployCheck] = (),
    *,
    answers: int = 0,
    why: str = "",
) -> Rollout:
    """Bring all traffic back, in one transaction; then tell it."""
    broken = [f"{check.name}: {check.reason}" for check in checks if not check.passed]
    share = _plan(rollout).steps[rollout.step]
    now = services.clock.now()
    ended = CanaryStep(
        share=share,
        began_at=rollout.step_at or now,
        ended_at=now,
        answers=answers,
        checks=tuple(checks),
    )
    back = move_rollout(
        services,
        rollout,
        *share_back(services, rollout),
        action="return canary",
        difference={"share": [share, 0.0]},
        state="returning",
        steps=(*rollout.steps, ended),
        reason=why or "; ".join(broken),
    )
    return _returned(services, back)


def _returned(services: Services, rollout: Rollout) -> Rollout:
    """Announce it, and only then end the rollout; the id lets it be announced once."""
    event = Event(
        event_id=f"deployment.changed:{rollout.deployment}:{rollout.rollout_id}",
        kind="deployment.changed",
        subject=rollout.deployment,
        ids={
            "model": rollout.model,
            "version": str(rollout.champion),
            "returned": str(rollout.version),
            "rollout_id": rollout.rollout_id,
        },
        at_us=services.clock.now_us(),
    )
    announce(services.log, event)
    return move_rollout(services, rollout, state="returned")
