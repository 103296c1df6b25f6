"""What of a deployment's routes was changed at run time, and where each leads now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from penstock.plan import routed
from penstock.records import RouteChanges

if TYPE_CHECKING:
    from penstock.ports import Metadata
    from penstock.records import Aliases
    from penstock.spec import Deployment, Route

__all__ = ["RouteState", "changes_of", "route_states", "version_behind"]


class RouteState(msgspec.Struct, frozen=True, kw_only=True):
    """One route as it is now.

    Attributes:
        name: What a status calls it: its role, with the target where another of that role is.
        target: Where it leads: the alias, or ``@3``.
        why: Which requests it takes: the header, the rule or the share; empty for the rest.
        version: The version behind it; 0 while the alias points to none.
        share: Share of the entities; none where it goes by something else.
        takes: The same as it is now: the champion takes what would go to no version.
        pinned: Whether it stays with its version wherever the alias points.
        changed: Whether it is otherwise than declared.
    """

    name: str
    target: str
    why: str
    version: int
    share: float | None
    takes: float | None
    pinned: bool
    changed: bool


def changes_of(metadata: Metadata, deployment: str) -> RouteChanges:
    """What was changed at run time; empty at revision 0 where nothing ever was."""
    found = metadata.read(RouteChanges, deployment)
    never = datetime.fromtimestamp(0, tz=UTC)
    return found or RouteChanges(deployment=deployment, changed_at=never, changed_by="")


def version_behind(route: Route, pointers: Aliases) -> int:
    """The version that a route leads to; 0 for none."""
    return route.version or (int(getattr(pointers, route.alias)) if route.alias else 0)


def route_states(declared: Deployment, changes: RouteChanges, now: Aliases) -> list[RouteState]:
    """Every route as it is now, in order.

    Args:
        declared: What is declared.
        changes: What was changed.
        now: Where the model's aliases point.
    """
    present = routed(declared, changes)
    known = set(declared.routes)
    left = 1.0 - sum(route.share for route in present.routes)
    taken = {
        name: route.share if version_behind(route, now) else 0.0
        for name, route in present.named_routes.items()
        if route.role == "challenger"
    }
    taken["champion"] = 1.0 - sum(taken.values())
    return [
        RouteState(
            name=name,
            target=_leads_to(route),
            why=route.why,
            version=version_behind(route, now),
            share={"champion": left, "challenger": route.share}.get(route.role),
            takes=taken.get(name),
            pinned=bool(route.version),
            changed=route not in known,
        )
        for name, route in present.named_routes.items()
    ]


def _leads_to(route: Route) -> str:
    repeated = {"cached": "the last score", "precomputed": "the newest batch score"}
    return repeated.get(route.role, route.target)
