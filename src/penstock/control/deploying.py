"""The steps of a deployment: packaged, checked, asked what was asked before, approved, promoted.

Each step looks where the rollout stands, and does nothing where it has moved on: a step that was
killed and is run again ends the same, and one that was aborted meanwhile goes no further.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from penstock.deployment import (
    compare_answers,
    deploy,
    get_rollout,
    move_rollout,
    package,
    regression_checks,
    rollout_page,
    share_back,
    verify,
)
from penstock.errors import ConflictError, PenstockError, RetryableError, UnavailableError
from penstock.plan import Catalogue
from penstock.registry import aliases, get_version
from penstock.spec import Checks

from .canary import begin_step
from .regressing import replay_stored

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from penstock.deployment import Replayed
    from penstock.ports import Services
    from penstock.records import DeployCheck, Regression, Rollout

    Values: TypeAlias = Mapping[str, Any]  # plain JSON, as it comes back from storage
    Step: TypeAlias = Callable[[Services, Values, Values], Mapping[str, object]]

__all__ = ["DEPLOY_STEPS", "carry_out"]

REPORT = "report.html"


def carry_out(services: Services, rollout: Rollout) -> Rollout:
    """Do every step of a rollout here and now, as far as it goes without anybody's approval.

    Args:
        services: The ports.
        rollout: The rollout.

    Returns:
        It as it stands then.
    """
    given = {"rollout_id": rollout.rollout_id}
    for step in DEPLOY_STEPS.values():
        if step(services, given, {}).get("stop"):
            break
    return get_rollout(services.metadata, rollout.rollout_id)


def _step(
    part: Callable[[Services, Rollout], Rollout], states: Sequence[str], services: Services,
    given: Values, _: Values,
) -> Mapping[str, object]:  # fmt: skip
    """Do a part where the rollout stands at it; one that was ended meanwhile goes no further."""
    rollout = get_rollout(services.metadata, given["rollout_id"])
    if rollout.state in states:
        try:
            with _ending(services, rollout):
                rollout = part(services, rollout)
        except ConflictError:
            rollout = get_rollout(services.metadata, rollout.rollout_id)
            if rollout.is_live:
                raise
    return _told(rollout)


def _package(services: Services, rollout: Rollout) -> Rollout:
    version = get_version(services.metadata, rollout.model, rollout.version)
    package(services, version, in_worker=True)
    return rollout


def _check(services: Services, rollout: Rollout) -> Rollout:
    if rollout.checks:
        return rollout
    catalogue = Catalogue.load(services.metadata)
    declared = catalogue.deployment(rollout.deployment)
    version = get_version(services.metadata, rollout.model, rollout.version)
    return _judged(services, rollout, verify(services, catalogue, declared, version))


def _replay(services: Services, rollout: Rollout) -> Rollout:
    return _replayed(services, rollout) if rollout.regression is None else rollout


def _release(services: Services, rollout: Rollout) -> Rollout:
    if rollout.state == "checking" and rollout.approval:
        return move_rollout(services, rollout, action="ask for approval", state="waiting")
    if rollout.state != "promoting" and rollout.canary:
        return begin_step(services, rollout, 0)
    if rollout.state != "promoting":
        rollout = move_rollout(services, rollout, state="promoting")
    try:
        deploy(services, rollout.deployment, version=rollout.version)
    except UnavailableError as error:
        if aliases(services.metadata, rollout.model).champion != rollout.version:
            raise
        # It is the champion; a serving process that is late will follow, or its log says why not.
        return _done(services, rollout, error.message)
    except ConflictError as error:
        # It was pinned or declared otherwise while the rollout waited: trying again helps nobody,
        # and a rollout under way keeps every other version of the model from being deployed.
        _fail(services, rollout, error)
        raise
    return _done(services, rollout)


def _fail(services: Services, rollout: Rollout, error: PenstockError) -> None:
    """End it where it stands; what a canary had as its share goes back."""
    back = share_back(services, rollout) if rollout.steps or rollout.state == "canary" else ()
    move_rollout(services, rollout, *back, state="failed", reason=error.message)


def _done(services: Services, rollout: Rollout, reason: str = "") -> Rollout:
    """End it well; what a canary had as its share is part of the champion's now."""
    back = share_back(services, rollout) if rollout.steps else ()
    return move_rollout(services, rollout, *back, state="done", reason=reason)


def _told(rollout: Rollout) -> Mapping[str, object]:
    """What a step's output says; whoever does not go on by itself stops the run."""
    said = f"{rollout.label} is {rollout.state} on {rollout.deployment}"
    message = f"{said}: {rollout.reason}" if rollout.reason else said
    goes_on = rollout.state in {"checking", "approved", "promoting"}
    return {"state": rollout.state, "message": message} | ({} if goes_on else {"stop": True})


def _judged(
    services: Services,
    rollout: Rollout,
    found: Sequence[DeployCheck],
    regression: Regression | None = None,
) -> Rollout:
    """The rollout with what was found out; refused where something does not hold."""
    checks = (*rollout.checks, *found)
    broken = [check for check in found if not check.passed]
    told: dict[str, object] = {"passed": len(found) - len(broken), "of": len(found)}
    kept = regression or rollout.regression
    if not broken:
        action = "replay requests" if regression else "check rollout"
        return move_rollout(
            services, rollout, action=action, difference=told, checks=checks, regression=kept
        )
    return move_rollout(
        services,
        rollout,
        difference=told,
        checks=checks,
        regression=kept,
        state="refused",
        reason="; ".join(f"{check.name}: {check.reason}" for check in broken),
    )


def _replayed(services: Services, rollout: Rollout) -> Rollout:
    declared = Catalogue.load(services.metadata).deployment(rollout.deployment)
    checks = declared.checks or Checks()
    version = get_version(services.metadata, rollout.model, rollout.version)
    found = replay_stored(
        services,
        rollout.deployment,
        version,
        most=checks.replay,
        champion=rollout.champion,
    )
    regression = compare_answers(found)
    verdicts = regression_checks(regression, checks)
    page = _page(services, rollout, verdicts, found, regression)
    return _judged(services, rollout, verdicts, msgspec.structs.replace(regression, report=page))


def _page(
    services: Services,
    rollout: Rollout,
    verdicts: Sequence[DeployCheck],
    found: Replayed,
    regression: Regression,
) -> str:
    """Keep the report; returns its reference."""
    services.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=services.scratch) as scratch:
        folder = Path(scratch) / "rollout"
        folder.mkdir()
        page = rollout_page(rollout, (*rollout.checks, *verdicts), found, regression)
        (folder / REPORT).write_text(page, encoding="utf-8")
        return services.artifacts.put(folder)


@contextmanager
def _ending(services: Services, rollout: Rollout) -> Generator[None]:
    """End the rollout where its step fails for good: it must not be in the way of the next one.

    What may succeed when it is tried again leaves it as it is.
    """
    try:
        yield
    except (RetryableError, ConflictError):
        raise
    except PenstockError as error:
        now = get_rollout(services.metadata, rollout.rollout_id)
        if now.is_live:
            _fail(services, now, error)
        raise


DEPLOY_STEPS: Mapping[str, Step] = {
    "deploy.package": partial(_step, _package, ("checking",)),
    "deploy.check": partial(_step, _check, ("checking",)),
    "deploy.replay": partial(_step, _replay, ("checking",)),
    "deploy.release": partial(_step, _release, ("checking", "approved", "promoting")),
}
"""The steps by the names that the pipeline calls them."""
