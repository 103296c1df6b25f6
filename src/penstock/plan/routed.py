"""A deployment as it is routed now: what is declared, with what was changed at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.records import OFF
from penstock.spec import (
    Route,
    by_header,
    by_rule,
    cached,
    challenger,
    read_expression,
    shadow,
)

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
        DeclarationError: Both do not go together, such as shares above 1, or a rule that reads what
            no request says.
        InputError: A rule that is added is no condition.
    """
    if changes is None or changes.is_empty:
        return declared
    routes = [*_declared(declared, changes), *_added(declared, changes)]
    pinned = tuple(_pinned(route, changes) for route in routes)
    fallback = changes.fallback or declared.fallback
    return msgspec.structs.replace(declared, routes=pinned, fallback=fallback)


def _declared(declared: Deployment, changes: RouteChanges) -> Iterator[Route]:
    """The declared routes that are on, as they are now."""
    for route in declared.routes:
        if route.role == "challenger":
            share = changes.shares.get(route.target, route.share)
            if share:
                salt = changes.salts.get(route.target, route.salt)
                yield msgspec.structs.replace(route, share=share, salt=salt)
        elif route.role == "shadow":
            if changes.shadows.get(route.target, True):
                yield route
        else:
            yield from _led(route, changes)


def _led(route: Route, changes: RouteChanges) -> Iterator[Route]:
    """A route that goes by something else than shares; nothing where it is off."""
    if route.role in {"header", "rule"}:
        to = (changes.headers if route.role == "header" else changes.rules).get(route.label, "")
        if to and to != OFF:
            alias, version = _target(to)
            route = msgspec.structs.replace(route, alias=alias, version=version)
    else:
        to = changes.ages.get(route.role, "")
        if to and to != OFF:
            route = msgspec.structs.replace(route, max_age=to)
    if to != OFF:
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
    yield from _led_anew(declared, changes)


def _led_anew(declared: Deployment, changes: RouteChanges) -> Iterator[Route]:
    """The headers and rules that are on and not declared, and scores that answer at once."""
    known = {(route.role, route.label) for route in declared.routes}
    for label, to in sorted(changes.headers.items()):
        if to != OFF and ("header", label) not in known:
            name, _, value = label.partition("=")
            alias, version = _target(to)
            yield by_header(name, value, alias=alias, version=version)
    for label, to in sorted(changes.rules.items()):
        if to != OFF and ("rule", label) not in known:
            alias, version = _target(to)
            yield by_rule(read_expression(label), alias=alias, version=version)
    age = changes.ages.get("cached", OFF)
    if age != OFF and all(route.role != "cached" for route in declared.routes):
        yield cached(max_age=age)


def _pinned(route: Route, changes: RouteChanges) -> Route:
    version = changes.pins.get(route.alias, 0)
    return msgspec.structs.replace(route, version=version) if version else route


def _target(text: str) -> tuple[str, int]:
    """An alias or a version, of ``candidate`` or ``@3``."""
    is_version = text.startswith("@") and text[1:].isdecimal()
    return ("", int(text[1:])) if is_version else (text, 0)
