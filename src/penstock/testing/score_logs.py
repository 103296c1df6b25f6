"""Policies of the score log on a project that is applied already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

import penstock as ps
from penstock.plan import Catalogue, apply

if TYPE_CHECKING:
    from penstock.runtime import LocalServices

__all__ = ["declare_log"]


def declare_log(services: LocalServices, log: ps.ScoreLog | None) -> None:
    """Apply the served project again, with a policy on ``btc``.

    Its feature ``momentum.last_close`` has the tag ``pii``.

    Args:
        services: The project of ``served_project``.
        log: The policy.
    """
    replace = msgspec.structs.replace
    deployments: list[ps.Deployment] = []
    for one in Catalogue.load(services.metadata).all(ps.Deployment):
        dataset = one.model.dataset
        (view,) = dataset.base_views
        first, *others = view.features
        tagged = replace(view, features=[replace(first, tags=("pii",)), *others])
        service = ps.FeatureService("scoring", features=[tagged])
        model = replace(one.model, dataset=replace(dataset, features=service))
        own = log if one.name == "btc" else None
        deployments.append(replace(one, model=model, log=own))
    project = ps.Project("served", declarations=deployments)
    apply(services.metadata, project, actor="tester", now=services.clock.now())
