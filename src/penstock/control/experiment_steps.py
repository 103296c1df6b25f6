"""The steps of the pipelines of experiments and bandits, and which deployments are due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from penstock.monitoring import drain_observations
from penstock.records import LIVE_EXPERIMENTS, BanditState, ExperimentState
from penstock.scoring import drain_scores
from penstock.spec import Deployment, duration_us

from .bandits import advance_bandit
from .experiments import advance_experiment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.plan import Catalogue
    from penstock.ports import Services

    Values: TypeAlias = Mapping[str, Any]  # plain JSON, as it comes back from storage
    Step: TypeAlias = Callable[[Services, Values, Values], Mapping[str, object]]

__all__ = ["EXPERIMENT_STEPS", "bandits_to_share", "experiments_to_look_at"]


def experiments_to_look_at(services: Services, catalogue: Catalogue) -> dict[str, int]:
    """The deployments whose experiment is to begin or is under way, and how often it is looked at.

    Args:
        services: The ports; uses metadata.
        catalogue: What is applied.

    Returns:
        Microseconds between looks, by deployment.
    """
    metadata, found = services.metadata, dict[str, int]()
    for declared in catalogue.all(Deployment):
        plan = declared.experiment
        if plan and metadata.read(ExperimentState, f"{declared.name}/{plan.name}") is None:
            found[declared.name] = plan.every_us
    for stage in LIVE_EXPERIMENTS:
        for state in metadata.find(ExperimentState, where={"stage": stage}):
            found[state.deployment] = duration_us(str(state.plan["every"]))
    return found


def bandits_to_share(services: Services, catalogue: Catalogue) -> dict[str, int]:
    """The deployments whose bandit sets shares, or is to give them back, and how often.

    Args:
        services: The ports; uses metadata.
        catalogue: What is applied.

    Returns:
        Microseconds between looks, by deployment.
    """
    found = {
        state.deployment: duration_us(str(state.plan["every"]))
        for state in services.metadata.find(BanditState)
        if not state.ended
    }
    declared = [one for one in catalogue.all(Deployment) if one.bandit is not None]
    return found | {one.name: one.bandit.every_us for one in declared if one.bandit is not None}


def _drain(services: Services, given: Values, _: Values) -> Mapping[str, object]:
    scores = drain_scores(services, given["deployment"])
    observations = drain_observations(services)
    # The time is an output, so that a look that is taken again is the same look.
    return {"scores": scores, "observations": observations, "now_us": services.clock.now_us()}


def _look(services: Services, given: Values, outputs: Values) -> Mapping[str, object]:
    to_us = outputs["drain"]["now_us"]
    state, waits = advance_experiment(services, given["deployment"], to_us=to_us)
    if state is None:
        return {"waits_for": waits}
    return {"experiment": state.name, "stage": state.stage, "verdict": state.verdict}


def _share(services: Services, given: Values, outputs: Values) -> Mapping[str, object]:
    state = advance_bandit(services, given["deployment"], to_us=outputs["drain"]["now_us"])
    if state is None:
        return {"waits_for": "a bandit, and a champion"}
    return {"bandit": state.name, "shares": {arm.target: arm.share for arm in state.arms}}


EXPERIMENT_STEPS: Mapping[str, Step] = {
    "experiment.drain": _drain,
    "experiment.look": _look,
    "bandit.drain": _drain,
    "bandit.share": _share,
}
