"""A deployment as it is routed now: what is declared, with what was changed at run time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from penstock.records import RouteChanges
from penstock.spec import Route, challenger, shadow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.ports import Metadata
    from penstock.records import Aliases
    from penstock.spec import Deployment

__all__ = ["RouteState", "changes_of", "route_states", "routed", "version_behind"]


class RouteState(msgspec.Struct, frozen=True, kw_only=True):
    """One route as it is now.

    Attributes:
        name: What a status calls it: its role, with the target where another of that role is.
        target: Where it leads: the alias, or ``@3``.
        why: Which requests it takes: the header, the rule or the share; empty for the rest.
        version: The version behind it; 0 while the alias points to none.
        share: Share of the entities; none where it goes by something else.
        pinned: Whether it stays with its version wherever the alias points.
        changed: Whether it is otherwise than declared.
    """

    name: str
    target: str
    why: str
    version: int
    share: float | None
    pinned: bool
    changed: bool


def changes_of(metadata: Metadata, deployment: str) -> RouteChanges:
    """What was changed at run time; empty at revision 0 where nothing ever was."""
    found = metadata.read(RouteChanges, deployment)
    never = datetime.fromtimestamp(0, tz=UTC)
    return found or RouteChanges(deployment=deployment, changed_at=never, changed_by="")


def routed(declared: Deployment, changes: RouteChanges | None) -> Deployment:
    """The deployment with its routes and its fallback as they are now.

    Routes that are added come last, in the order of their targets; so the entities of those before
    stay where they are.

    Args:
        declared: What is declared.
        changes: What was changed.

    Raises:
        DeclarationError: Both do not go together, such as shares above 1.
    """
    if changes is None or changes.is_empty:
        return declared
    routes = [*_declared(declared, changes), *_added(declared, changes)]
    pinned = tuple(_pinned(route, changes) for route in routes)
    fallback = changes.fallback or declared.fallback
    return msgspec.structs.replace(declared, routes=pinned, fallback=fallback)


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
    return [
        RouteState(
            name=name,
            target=_leads_to(route),
            why=route.why,
            version=version_behind(route, now),
            share={"champion": left, "challenger": route.share}.get(route.role),
            pinned=bool(route.version),
            changed=route not in known,
        )
        for name, route in present.named_routes.items()
    ]


def _declared(declared: Deployment, changes: RouteChanges) -> Iterator[Route]:
    """The declared routes that are on, with their shares."""
    for route in declared.routes:
        share = changes.shares.get(route.target, route.share)
        if route.role == "challenger" and share:
            yield msgspec.structs.replace(route, share=share)
        elif route.role == "shadow":
            if changes.shadows.get(route.target, True):
                yield route
        elif route.role != "challenger":
            yield route


def _added(declared: Deployment, changes: RouteChanges) -> Iterator[Route]:
    """The routes that are on and not declared."""
    known = {(route.role, route.target) for route in declared.routes}
    for target, share in sorted(changes.shares.items()):
        if share and ("challenger", target) not in known:
            alias, version = _target(target)
            yield challenger(share=share, alias=alias, version=version)
    for target, wanted in sorted(changes.shadows.items()):
        if wanted and ("shadow", target) not in known:
            alias, version = _target(target)
            yield shadow(alias, version=version)


def _pinned(route: Route, changes: RouteChanges) -> Route:
    version = changes.pins.get(route.alias, 0)
    return msgspec.structs.replace(route, version=version) if version else route


def _leads_to(route: Route) -> str:
    return "the last score" if route.role == "cached" else route.target


def _target(text: str) -> tuple[str, int]:
    """An alias or a version, of ``candidate`` or ``@3``."""
    return ("", int(text[1:])) if text.startswith("@") else (text, 0)
