"""A deployment as it is routed now: what is declared, with what was changed at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.spec import Route, challenger, shadow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.records import RouteChanges
    from penstock.spec import Deployment

__all__ = ["routed"]


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


def _declared(declared: Deployment, changes: RouteChanges) -> Iterator[Route]:
    """The declared routes that are on, with their shares."""
    for route in declared.routes:
        share = changes.shares.get(route.target, route.share)
        if route.role == "challenger" and share:
            salt = changes.salts.get(route.target, route.salt)
            yield msgspec.structs.replace(route, share=share, salt=salt)
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
            added = challenger(share=share, alias=alias, version=version)
            salt = changes.salts.get(target, "")
            yield msgspec.structs.replace(added, salt=salt) if salt else added
    for target, wanted in sorted(changes.shadows.items()):
        if wanted and ("shadow", target) not in known:
            alias, version = _target(target)
            yield shadow(alias, version=version)


def _pinned(route: Route, changes: RouteChanges) -> Route:
    version = changes.pins.get(route.alias, 0)
    return msgspec.structs.replace(route, version=version) if version else route


def _target(text: str) -> tuple[str, int]:
    """An alias or a version, of ``candidate`` or ``@3``."""
    return ("", int(text[1:])) if text.startswith("@") else (text, 0)
