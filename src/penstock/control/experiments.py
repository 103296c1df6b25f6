"""Experiments, taken from stage to stage by whoever looks: all that is known is stored.

An experiment begins by itself once the version that it tries is there, and ends by its stop rule,
by hand, or because versions or routes changed under it. Each move, the split, a verdict, the
return of the traffic, is one transaction of the experiment, the routes and the audit entry, on
condition that nothing has changed since: of two who look one moves it, and who is killed has moved
it or not. A promotion goes on where it was left, and a look that is taken again is the same look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.access import require_role
from penstock.deployment import (
    challenger_shares,
    champion_behind,
    changes_of,
    check_version,
    live_rollout,
    package,
    split_put,
    target_version,
    verify,
)
from penstock.errors import GateError, NotFoundError, NotReadyError, PenstockError, RetryableError
from penstock.plan import Catalogue
from penstock.ports import Put
from penstock.records import (
    LIVE_EXPERIMENTS,
    AppliedDeclaration,
    ExperimentState,
    to_plain,
)
from penstock.registry import aliases, get_version
from penstock.spec import Deployment, Experiment, key_of

from .experiment_looks import judge, look_at, smaller_is_better
from .experiment_moves import count_from_now, end, move, move_audit, promote_tried, tell
from .named import one_called

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.ports import Metadata, Services
    from penstock.records import ModelVersion

__all__ = [
    "advance_experiment",
    "experiments",
    "find_experiment",
    "live_experiment",
    "stop_experiment",
    "waiting_for",
]

LOOKS = 240
"""So many looks are kept; of more, every second of those before the last."""

LOCK_WAIT_S = 60.0


def experiments(metadata: Metadata, *, deployment: str = "") -> list[ExperimentState]:
    """Every experiment that has begun, the newest first.

    Args:
        metadata: The records.
        deployment: Only those of this deployment.
    """
    where = {"deployment": deployment} if deployment else {}
    found = metadata.find(ExperimentState, where=where)
    return sorted(found, key=lambda one: one.asked_at, reverse=True)


def find_experiment(metadata: Metadata, name: str) -> ExperimentState:
    """An experiment that has begun.

    Args:
        metadata: The records.
        name: Its name, or ``deployment/name`` where several deployments have one of that name.

    Raises:
        NotFoundError: None of that name has begun.
        ConflictError: Several deployments have one of that name.
    """
    hint = "'penstock experiments list' says what an experiment that is declared waits for."
    return one_called(experiments(metadata), name, what="experiment", hint=hint)


def live_experiment(metadata: Metadata, deployment: str) -> ExperimentState | None:
    """The experiment that splits a deployment's traffic; None where none does."""
    for stage in LIVE_EXPERIMENTS:
        found = metadata.find(ExperimentState, where={"deployment": deployment, "stage": stage})
        if found:
            return found[0]
    return None


def waiting_for(services: Services, declared: Deployment) -> str:
    """Why a declared experiment has not begun; empty where nothing keeps it from beginning."""
    return next(_waits(services, declared), "")


def _waits(services: Services, declared: Deployment) -> Iterator[str]:
    plan = declared.experiment
    if plan is None:
        yield "no experiment is declared"
        return
    if services.metadata.read(ExperimentState, f"{declared.name}/{plan.name}") is not None:
        yield f"{plan.name!r} has been; another question takes another name"
    live = live_experiment(services.metadata, declared.name)
    if live is not None:
        yield f"the experiment {live.name!r} splits the traffic"
    changes = changes_of(services.metadata, declared.name)
    champion = champion_behind(services, declared, changes)
    if not champion:
        yield f"nothing has been deployed on {declared.name!r}"
    version = target_version(services, declared, plan.target)
    if not version:
        yield f"no version of {declared.model.name!r} is {plan.target}"
    try:
        get_version(services.metadata, declared.model.name, version)
    except (NotFoundError, NotReadyError) as error:
        yield error.message.rstrip(".")
    if version == champion:
        yield f"{plan.target} is version {version}, which is the champion"
    if f"@{version}" in challenger_shares(declared, changes):
        yield f"version {version} is a challenger already"
    rollout = live_rollout(services.metadata, declared.model.name)
    if rollout is not None:
        yield f"{rollout.label} is on its way behind {rollout.deployment!r}"


def advance_experiment(
    services: Services, deployment: str, *, to_us: int
) -> tuple[ExperimentState | None, str]:
    """Begin a deployment's experiment, or look at it once and do what follows.

    Args:
        services: The ports.
        deployment: Name of the deployment.
        to_us: The end of the look, in microseconds since 1970 UTC; the same end is the same look.

    Returns:
        The experiment as it stands, and what it waits for where none has begun.

    Raises:
        UnavailableError: Something could not be done now; call again.
    """
    with services.locks.hold(f"experiment/{deployment}", wait_s=LOCK_WAIT_S):
        live = live_experiment(services.metadata, deployment)
        return _begun(services, deployment) if live is None else (_next(services, live, to_us), "")


def _next(services: Services, live: ExperimentState, to_us: int) -> ExperimentState:
    """What follows from where an experiment stands."""
    if live.stage == "ending":
        return tell(services, live)
    if live.stage == "promoting":
        return promote_tried(services, live)
    declared = _declared(services, live.deployment)
    wrong = _disturbed(services, declared, live)
    if declared is None or wrong:
        return end(
            services, live, verdict=live.verdict or "disturbed", reason=live.reason or wrong,
            outcome=f"ended: {wrong}",
        )  # fmt: skip
    if live.stage == "starting":
        return count_from_now(services, live)
    return _looked(services, declared, live, to_us) if live.stage == "running" else live


def stop_experiment(
    services: Services, name: str, *, winner: bool, reason: str = ""
) -> ExperimentState:
    """End an experiment by hand: promote the version that is tried, or give all traffic back.

    Args:
        services: The ports; the caller is an admin.
        name: Its name, or ``deployment/name``.
        winner: Whether the tried version becomes the champion.
        reason: Why; kept with it and in the audit table.

    Raises:
        AccessError: The caller is no admin.
        NotFoundError: There is no such experiment.
        NotReadyError: It has ended already; or its winner takes an approval or a canary.
        UnavailableError: A serving process has not taken the champion in in time; ask again.
    """
    require_role(services.caller, "admin")
    state = find_experiment(services.metadata, name)
    with services.locks.hold(f"experiment/{state.deployment}", wait_s=LOCK_WAIT_S):
        state = find_experiment(services.metadata, state.key)
        if not state.is_live:
            raise NotReadyError(
                f"The experiment {state.name!r} has ended ({state.verdict}): {state.reason}.",
                experiment=state.key,
            )
        declared = _declared(services, state.deployment)
        if winner and declared is not None and (declared.approve or declared.canary):
            raise NotReadyError(
                f"A version goes behind {state.deployment!r} by an approval or a canary. Stop "
                f"{state.name!r} with no winner, then run 'penstock deploy {state.deployment} "
                f"--version {state.version}'.",
                experiment=state.key,
            )
        said = f"stopped by {services.caller.name}" + (f": {reason}" if reason else "")
        verdict = state.verdict or "stopped"
        kept = f"{state.reason}; {said}" if state.reason else said
        if state.stage in {"promoting", "ending"}:
            goes_on = promote_tried if state.stage == "promoting" else tell
            return goes_on(services, state)
        if not winner:
            return end(services, state, verdict=verdict, reason=kept, outcome="not promoted")
        moved = move(services, state, verdict=verdict, reason=kept, stage="promoting")
        return promote_tried(services, moved)


def _declared(services: Services, deployment: str) -> Deployment | None:
    known = Catalogue.load(services.metadata).all(Deployment)
    return next((one for one in known if one.name == deployment), None)


def _begun(services: Services, deployment: str) -> tuple[ExperimentState | None, str]:
    """Split the traffic, in one transaction with the experiment; then see that it is split."""
    catalogue = Catalogue.load(services.metadata)
    declared = catalogue.deployment(deployment)
    with services.locks.hold(f"rollout/{declared.model.name}", wait_s=LOCK_WAIT_S):
        waits = waiting_for(services, declared)
        if waits or declared.experiment is None:
            return None, waits
        state = _new(services, declared, declared.experiment)
        try:
            record = get_version(services.metadata, state.model, state.version)
            _check(services, catalogue, declared, package(services, record))
            split = split_put(
                services, deployment, {state.target: declared.experiment.share},
                salt=f"experiment {state.name}", reason=f"experiment {state.name}",
            )  # fmt: skip
        except RetryableError:
            raise
        except PenstockError as error:
            return None, error.message
        applied = services.metadata.read(AppliedDeclaration, key_of(declared))
        still = [Put(applied, expected=applied)] if applied is not None else []
        told = {"version": [state.champion, state.version], "share": declared.experiment.share}
        services.metadata.write(
            Put(state, expected=None),
            split,
            *still,
            audit=move_audit(services, state, "begin experiment", told),
        )
    return count_from_now(services, state), ""


def _check(
    services: Services, catalogue: Catalogue, declared: Deployment, version: ModelVersion
) -> None:
    """See that a version may take traffic: what it always has to hold, and what is declared.

    Raises:
        GateError: It does not hold; says what.
    """
    check_version(services.artifacts, catalogue, declared.model, version)
    found = verify(services, catalogue, declared, version) if declared.checks else ()
    broken = "; ".join(f"{one.name}: {one.reason}" for one in found if not one.passed)
    if broken:
        raise GateError(f"{version.label} does not hold what {declared.name!r} asks: {broken}.")


def _new(services: Services, declared: Deployment, plan: Experiment) -> ExperimentState:
    changes = changes_of(services.metadata, declared.name)
    version = target_version(services, declared, plan.target)
    metric = plan.metric_of(declared.model.dataset.task)
    target = f"@{version}"
    return ExperimentState(
        deployment=declared.name,
        name=plan.name,
        model=declared.model.name,
        plan=_document(plan),
        metric=metric,
        smaller_is_better=smaller_is_better(metric, plan.better),
        version=version,
        champion=champion_behind(services, declared, changes),
        target=target,
        shares=challenger_shares(declared, changes) | {target: plan.share},
        split=changes.revision + 1,  # the change that begins it, on condition that it is the next
        crowned=aliases(services.metadata, declared.model.name).crowned,
        asked_at=services.clock.now(),
    )


def _looked(
    services: Services, declared: Deployment, state: ExperimentState, to_us: int
) -> ExperimentState:
    if to_us <= state.from_us or (state.looks and state.looks[-1].at_us >= to_us):
        return state
    plan = msgspec.convert(state.plan, Experiment)
    look = look_at(services, declared, state, plan, to_us)
    looks = _thinned((*state.looks, look))
    found = judge(state, plan, look)
    if found is None:
        after = msgspec.structs.replace(state, looks=looks)
        services.metadata.write(Put(after, expected=state))
        return after
    verdict, reason = found
    if verdict == "win" and plan.on_win == "promote":
        moved = move(
            services, state, verdict=verdict, reason=reason, looks=looks, stage="promoting"
        )
        return promote_tried(services, moved)
    if "report" in {"win": (plan.on_win,), "loss": (plan.on_loss,)}.get(verdict, ()):
        outcome = "the traffic stays split until somebody stops the experiment"
        return move(
            services, state, verdict=verdict, reason=reason, looks=looks, outcome=outcome,
            stage="decided",
        )  # fmt: skip
    outcome = f"{state.model}@{state.champion} answers all again"
    return end(services, state, verdict=verdict, reason=reason, looks=looks, outcome=outcome)


def _disturbed(services: Services, declared: Deployment | None, state: ExperimentState) -> str:
    """What keeps the comparison from meaning anything; empty for nothing."""
    if declared is None:
        return f"{state.deployment!r} is declared no more"
    plan = declared.experiment
    if plan is None or plan.name != state.name:
        return "it is declared no more"
    if _document(plan) != dict(state.plan):
        return "it was declared otherwise; another question takes another name"
    return next(_moved(services, declared, state), "")


def _moved(services: Services, declared: Deployment, state: ExperimentState) -> Iterator[str]:
    """How entities have met others than the two versions since it began, by now or for a while."""
    changes = changes_of(services.metadata, declared.name)
    champion = champion_behind(services, declared, changes)
    if champion != state.champion:
        yield f"{state.model}@{champion} has become the champion meanwhile"
    if challenger_shares(declared, changes) != dict(state.shares):
        yield f"the routes of {declared.name!r} were changed meanwhile"
    if state.split and changes.split != state.split:
        yield f"the routes of {declared.name!r} were changed meanwhile, and changed back"
    crowned = aliases(services.metadata, state.model).crowned
    if state.crowned not in {-1, crowned} and "champion" not in changes.pins:
        yield f"{state.model}@{champion} was not the champion for a while"


def _document(plan: Experiment) -> dict[str, object]:
    plain = to_plain(plan)
    return plain if isinstance(plain, dict) else {}


def _thinned(looks: tuple[object, ...]) -> tuple[object, ...]:
    return looks if len(looks) <= LOOKS else (*looks[:-1][::2], looks[-1])
