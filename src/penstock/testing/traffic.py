"""Scores and outcomes of a deployment as its routes would make them, without a serving process.

Whoever tests what is done about scores, such as experiments, needs thousands of them
with outcomes that differ by version. They take the same ways as those of a serving process: routed
by its table, logged into its files, observed through the topic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

import penstock as ps
from penstock.deployment import changes_of, route_states
from penstock.monitoring import observe
from penstock.plan import Catalogue, apply, routed
from penstock.records import Observation, Score
from penstock.registry import aliases
from penstock.scoring import Ask, RouteTable, ScoreLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime import LocalServices

__all__ = ["declare", "traffic"]


def declare(services: LocalServices, deployment: str = "btc", **fields: object) -> None:
    """Apply the project again with other fields of one deployment.

    Args:
        services: A project that is applied.
        deployment: Name of the deployment.
        fields: Its fields.
    """
    known = Catalogue.load(services.metadata).all(ps.Deployment)
    changed = [
        msgspec.structs.replace(one, **fields) if one.name == deployment else one for one in known
    ]
    project = ps.Project("served", declarations=changed)
    apply(services.metadata, project, actor="tester", now=services.clock.now())


def traffic(  # noqa: PLR0913 - what traffic is made of
    services: LocalServices,
    rate: Callable[[int], float],
    *,
    deployment: str = "btc",
    scores: int = 1_000,
    entities: int = 500,
    seed: int = 1,
    fails: Callable[[int], bool] = lambda version: False,  # noqa: ARG005 - nothing fails
    observed: Callable[[int], float] = lambda version: 1.0,  # noqa: ARG005 - all is observed
    revenue: Callable[[int], float] | None = None,
) -> dict[int, int]:
    """Let a deployment answer, and tell what came true.

    Args:
        services: The project.
        rate: Chance of outcome 1 by the version that answers; 0.5 is always predicted. A version
            takes about as many milliseconds as its number says.
        deployment: Name of the deployment.
        scores: How many answers.
        entities: Of how many entities, each as likely.
        seed: Of all that is random.
        fails: Whether a version fails, so that the champion answers for it.
        observed: Share of the answers whose outcome is told, by the version that answers.
        revenue: Mean of the measure ``revenue`` by the version that answers; told of none if left
            out.

    Returns:
        How many answers each version gave.
    """
    declared = Catalogue.load(services.metadata).deployment(deployment)
    changes = changes_of(services.metadata, deployment)
    pointers = aliases(services.metadata, declared.model.name)
    behind = {one.name: one.version for one in route_states(declared, changes, pointers)}
    table, rng = RouteTable(routed(declared, changes)), np.random.default_rng(seed)
    made: list[Score] = []
    for key in rng.integers(0, entities, scores).tolist():
        chosen = table.choose(Ask(0, key=f"E{key}"), services.ids)
        version, failed = behind[chosen.name], fails(behind[chosen.name])
        answering = behind["champion"] if failed else version
        score = _score(services, declared, f"E{key}", answering, int(rng.integers(0, 1_000)))
        role, why = ("fallback", "it failed") if failed else (chosen.name, chosen.why)
        made.append(msgspec.structs.replace(score, route=role.partition(" ")[0], reason=why))
    log = ScoreLog(services.score_log / deployment, services.ids)
    log.append(made)
    log.close()
    told = [
        Observation(
            prediction_id=one.prediction_id,
            value=float(rng.random() < rate(one.version)),
            observed_at_us=services.clock.now_us(),
            measures={"revenue": rng.exponential(revenue(one.version))} if revenue else {},
        )
        for one in made
        if rng.random() < observed(one.version)
    ]
    observe(services, deployment, told)
    answered: dict[int, int] = {}
    for one in made:
        answered[one.version] = answered.get(one.version, 0) + 1
    return answered


def _score(
    services: LocalServices, declared: ps.Deployment, entity: str, version: int, more_us: int
) -> Score:
    now_us = services.clock.now_us()
    return Score(
        prediction_id=services.ids.new(),
        deployment=declared.name,
        model=declared.model.name,
        version=version,
        route="champion",
        engine="native",
        entity=entity,
        at_us=now_us,
        features=(),
        prediction=0.5,
        scored_at_us=now_us,
        duration_us=1_000 * version + more_us,
    )
