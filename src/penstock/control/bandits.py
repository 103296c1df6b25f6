"""Bandits: the shares of their arms, set anew from the rewards that have come.

Nothing of a bandit is on the way of a request: the shares are a change of the routes like any
other, and an entity's arm is a hash. Each score of a bandit's arms says the share that its arm had
(``share 0.35``), which is the propensity that its reward is weighed by. Shares, state and audit
entry are one transaction, on condition that nothing has changed since, and are a function of the
tables alone: whoever is killed has set them or not, and the next to look comes to the same.

Shares that somebody changed by hand are left alone until ``routes reset`` takes them back.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from penstock.algebra import arm_mean, chances_best, floored, weighed
from penstock.deployment import (
    champion_behind,
    changes_of,
    check_version,
    package,
    split_put,
    target_version,
)
from penstock.errors import PenstockError, RetryableError
from penstock.plan import Catalogue
from penstock.ports import Audit, Put
from penstock.records import BanditArm, BanditState, BanditUpdate, to_plain
from penstock.registry import get_version
from penstock.spec import Deployment

from .named import one_called
from .rewards import keep_rewards, rewards_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from penstock.algebra import FloatArray
    from penstock.ports import Metadata, Services
    from penstock.records import RouteChanges
    from penstock.spec import Bandit

    from .rewards import Rewards

__all__ = ["advance_bandit", "bandits", "find_bandit", "keeping_rewards"]

UNITS = 10_000
"""Shares are whole ten-thousandths: so many entities more or less are nothing to a bandit."""

UPDATES = 240
LOCK_WAIT_S = 60.0
CHAMPION = "champion"


def bandits(metadata: Metadata) -> list[BanditState]:
    """Every bandit that has set shares, by deployment."""
    return metadata.find(BanditState)


def find_bandit(metadata: Metadata, name: str) -> BanditState:
    """A bandit that has set shares.

    Args:
        metadata: The records.
        name: Its name, or ``deployment/name`` where several deployments have one of that name.

    Raises:
        NotFoundError: There is none of that name.
        ConflictError: Several deployments have one of that name.
    """
    hint = "A bandit that is declared sets its first shares at the worker's next look."
    return one_called(bandits(metadata), name, what="bandit", hint=hint)


def advance_bandit(services: Services, deployment: str, *, to_us: int) -> BanditState | None:
    """Set the shares of a deployment's bandit from the rewards that have come.

    Args:
        services: The ports.
        deployment: Name of the deployment.
        to_us: Scores up to this time count, in microseconds since 1970 UTC; the same time is the
            same look.

    Returns:
        The bandit as it stands; None where there is none, or nothing has been deployed.

    Raises:
        UnavailableError: Something could not be done now; call again.
    """
    with services.locks.hold(f"bandit/{deployment}", wait_s=LOCK_WAIT_S):
        known = Catalogue.load(services.metadata).all(Deployment)
        declared = next((one for one in known if one.name == deployment), None)
        plan = declared.bandit if declared is not None else None
        where = {"deployment": deployment}
        for state in services.metadata.find(BanditState, where=where):
            if not state.ended and (plan is None or plan.name != state.name):
                _end(services, state, declared=declared is not None)
        if declared is None or plan is None:
            return None
        return _look(services, declared, plan, to_us)


@contextmanager
def keeping_rewards(services: Services, deployment: str, *, below_us: int) -> Generator[None]:
    """Let scores be removed while the block is open: what their bandit learned of them is kept.

    Args:
        services: The ports.
        deployment: Name of the deployment.
        below_us: Scores before this time are removed, in microseconds since 1970 UTC.

    Raises:
        UnavailableError: Somebody looks at the bandit all the time.
    """
    with services.locks.hold(f"bandit/{deployment}", wait_s=LOCK_WAIT_S):
        declared = Catalogue.load(services.metadata).deployment(deployment)
        for state in services.metadata.find(BanditState, where={"deployment": deployment}):
            plan = declared.bandit
            if plan is not None and plan.name == state.name and not state.ended:
                keep_rewards(services, declared, state, below_us)
        yield


def _look(services: Services, declared: Deployment, plan: Bandit, to_us: int) -> BanditState | None:
    before = services.metadata.read(BanditState, f"{declared.name}/{plan.name}")
    changes = changes_of(services.metadata, declared.name)
    champion = champion_behind(services, declared, changes)
    if not champion:
        return None
    state = before
    if state is None or state.ended or state.plan != to_plain(plan):
        # What was set last stays known, or it would look as if somebody had set it by hand.
        updates = before.updates if before is not None and not before.ended else ()
        state = _new(declared, plan, services.clock.now_us(), updates)
    elif state.at_us >= to_us:
        return state
    arms = _arms(services, declared, plan, state, champion)
    seen = _judged(plan, arms, rewards_of(services, declared, plan, state, to_us))
    mine = _last_set(state)
    now = {one: share for one, share in changes.shares.items() if one in {*plan.targets, *mine}}
    wanted = {arm.target: arm.share for arm in seen if arm.target != CHAMPION}
    held = _held(state, changes) if now and now != mine else ""
    moves = not held and now != {one: share for one, share in wanted.items() if share}
    update = BanditUpdate(at_us=to_us, shares={arm.target: arm.share for arm in seen})
    after = msgspec.structs.replace(
        state,
        arms=tuple(seen),
        at_us=to_us,
        held=held,
        updates=_thinned((*state.updates, update)) if moves else state.updates,
    )
    if moves:
        split = split_put(
            services, declared.name, dict.fromkeys(mine, 0.0) | wanted,
            salt=f"bandit {plan.name}", reason=f"bandit {plan.name}",
        )  # fmt: skip
        told = {"shares": [now, wanted]}
        audit = _audit(services, after, "bandit shares", told)
        services.metadata.write(Put(after, expected=before), split, audit=audit)
    else:
        services.metadata.write(Put(after, expected=before))
    return after


def _new(
    declared: Deployment, plan: Bandit, now_us: int, updates: tuple[BanditUpdate, ...]
) -> BanditState:
    document = to_plain(plan)
    return BanditState(
        deployment=declared.name,
        name=plan.name,
        plan=document if isinstance(document, dict) else {},
        began_us=now_us,
        arms=(),
        updates=updates,
    )


def _last_set(state: BanditState) -> dict[str, float]:
    """The shares that it set last, those of arms that are declared no more too."""
    last = state.updates[-1].shares if state.updates else {}
    return {target: share for target, share in last.items() if share and target != CHAMPION}


def _held(state: BanditState, changes: RouteChanges) -> str:
    """Why the shares are left alone: they are otherwise than it set them."""
    return (
        f"{changes.changed_by} changed the shares by hand; 'penstock routes reset "
        f"{state.deployment}' gives them back to the bandit"
    )


def _arms(
    services: Services, declared: Deployment, plan: Bandit, state: BanditState, champion: int
) -> list[BanditArm]:
    """The arms with the versions behind them, and why one has none."""
    found = [BanditArm(target=CHAMPION, version=champion, share=0.0)]
    for target in plan.targets:
        version = target_version(services, declared, target)
        why = "" if version else f"no version is {target}"
        if version and any(version == arm.version for arm in found):
            version, why = 0, f"version {version} is an arm already"
        if version and all(version != arm.version for arm in state.arms):
            why = _unfit(services, declared, version)
        found.append(BanditArm(target=target, version=0 if why else version, share=0.0, reason=why))
    return found


def _unfit(services: Services, declared: Deployment, number: int) -> str:
    """Why a version cannot answer; empty where it can."""
    try:
        version = package(services, get_version(services.metadata, declared.model.name, number))
        catalogue = Catalogue.load(services.metadata)
        check_version(services.artifacts, catalogue, declared.model, version)
    except RetryableError:
        raise
    except PenstockError as error:
        return error.message
    return ""


def _judged(plan: Bandit, arms: Sequence[BanditArm], rewards: Rewards) -> list[BanditArm]:
    """The arms with what they brought, the chance that each is the best, and its share."""
    playing = [arm for arm in arms if arm.version]
    means = []
    for arm in playing:
        mine = rewards.version == arm.version
        means.append(
            arm_mean(
                rewards.mean[mine], rewards.entity[mine],
                scores=rewards.scores[mine], spreads=rewards.spread[mine],
            )
        )  # fmt: skip
    enough = all(mean.scores >= plan.min_scores for mean in means)
    even = np.full(len(playing), 1 / len(playing))
    chances = chances_best(means, binary=rewards.binary) if enough else even
    units = _units(floored(chances, plan.floor), plan.floor)
    found: dict[str, BanditArm] = {}
    for place, (arm, mean) in enumerate(zip(playing, means, strict=True)):
        mine = rewards.version == arm.version
        would = weighed(rewards.weighed[mine], 1 / rewards.weight[mine], rewards.entity[mine])
        found[arm.target] = msgspec.structs.replace(
            arm,
            share=units[place] / UNITS,
            scores=mean.scores,
            entities=mean.entities,
            mean=_known(mean.mean),
            weighed=_known(would.mean),
            error=_known(would.error),
            chance=float(chances[place]) if enough else None,
        )
    return [found.get(arm.target, arm) for arm in arms]


def _units(shares: FloatArray, floor: float) -> list[int]:
    """Shares as whole units that add up, none below its floor: the greatest gives what is over."""
    units = np.maximum(np.round(shares * UNITS), np.ceil(floor * UNITS - 1e-6)).astype(np.int64)
    units[int(np.argmax(units))] += UNITS - int(units.sum())
    return [int(one) for one in units]


def _known(value: float) -> float | None:
    return None if value != value else value  # noqa: PLR0124 - not-a-number is unequal to itself


def _end(services: Services, state: BanditState, *, declared: bool) -> None:
    """Take the shares back, in one transaction with the end."""
    shares = changes_of(services.metadata, state.deployment).shares
    gone = {arm.target: 0.0 for arm in state.arms if arm.target in shares}
    reason = f"end of bandit {state.name}"
    puts = [split_put(services, state.deployment, gone, reason=reason)] if declared and gone else []
    after = msgspec.structs.replace(state, ended="it is declared no more")
    audit = _audit(services, after, "end bandit", {"shares": [sorted(gone), []]})
    services.metadata.write(Put(after, expected=state), *puts, audit=audit)


def _audit(
    services: Services, state: BanditState, action: str, difference: Mapping[str, object]
) -> Audit:
    return Audit(
        actor=services.actor,
        action=action,
        subject=f"deployment/{state.deployment}",
        difference={"bandit": state.name, **difference},
    )


def _thinned(updates: tuple[BanditUpdate, ...]) -> tuple[BanditUpdate, ...]:
    return updates if len(updates) <= UPDATES else (*updates[:-1][::2], updates[-1])
