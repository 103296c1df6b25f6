"""Shares of the entities that the platform itself gives and takes while a deployment runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.plan import Catalogue, routed
from penstock.ports import Put
from penstock.registry import aliases

from .routed import changes_of, version_behind
from .waiting import wait_until_taken_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Services
    from penstock.records import RouteChanges
    from penstock.spec import Deployment

__all__ = [
    "challenger_shares", "champion_behind", "split_put", "target_version", "wait_for_split",
]  # fmt: skip

WAIT_S = 30.0


def split_put(
    services: Services,
    deployment: str,
    shares: Mapping[str, float],
    *,
    reason: str,
    salt: str = "",
) -> Put:
    """The conditional write that gives versions their shares of the entities, or takes them back.

    Args:
        services: The ports; uses metadata and the clock.
        deployment: Name of the deployment.
        shares: Share by target; 0 to take it back.
        reason: Why.
        salt: Gives them an order of the entities of their own.

    Raises:
        DeclarationError: They do not go together with the other routes.
    """
    declared = Catalogue.load(services.metadata).deployment(deployment)
    before = changes_of(services.metadata, deployment)
    given = {target: share for target, share in shares.items() if share}
    salted = dict.fromkeys(given, salt) if salt else {}
    after = before.followed_by(
        by=services.actor,
        at=services.clock.now(),
        shares=_without(before.shares, shares) | given,
        salts=_without(before.salts, shares) | salted,
        reason=reason,
    )
    routed(declared, after)
    return Put(after, expected=before if before.revision else None)


def challenger_shares(declared: Deployment, changes: RouteChanges) -> dict[str, float]:
    """The share of the entities of each challenger as it is now, by target."""
    routes = routed(declared, changes).routes
    return {route.target: route.share for route in routes if route.role == "challenger"}


def champion_behind(services: Services, declared: Deployment, changes: RouteChanges) -> int:
    """The version that the champion's route leads to now; 0 for none."""
    pointers = aliases(services.metadata, declared.model.name)
    routes = routed(declared, changes).routes
    return next(version_behind(route, pointers) for route in routes if route.role == "champion")


def target_version(services: Services, declared: Deployment, target: str) -> int:
    """The version that a target means on a deployment now; 0 for none.

    Args:
        services: The ports; uses metadata.
        declared: The deployment.
        target: An alias, or ``@3``.
    """
    if target.startswith("@"):
        return int(target[1:])
    pinned = changes_of(services.metadata, declared.name).pins.get(target, 0)
    return pinned or int(getattr(aliases(services.metadata, declared.model.name), target))


def wait_for_split(services: Services, deployment: str) -> None:
    """Wait until every serving process routes by the shares as they are stored.

    Raises:
        UnavailableError: One does not in time; it stays in force.
    """
    revision = changes_of(services.metadata, deployment).revision
    wait_until_taken_in(
        services,
        deployment,
        lambda status: status.routes.get(deployment, 0) < revision,
        WAIT_S,
        done="The shares are set",
    )


def _without(before: Mapping[str, object], targets: Mapping[str, float]) -> dict[str, object]:
    return {target: one for target, one in before.items() if target not in targets}
