"""Changing a deployment's routes while it runs: by compare-and-set, audited, seen by every process.

What is changed stands in one record beside the declaration. Serving processes follow it like the
aliases: what it asks for is loaded beside what answers, and then swapped in. Applying a project
that declares other routes for the deployment ends all of it; applying anything else ends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.access import require_role
from penstock.algebra import check_rules
from penstock.errors import ConflictError, NotFoundError, NotReadyError
from penstock.plan import Catalogue, routed
from penstock.ports import Audit, Put
from penstock.records import ALIASES, OFF, AppliedDeclaration, RouteChanges
from penstock.registry import aliases, get_version
from penstock.spec import Fallback, key_of

from .checks import check_version
from .package import package
from .route_edits import RouteEdit, differing, edited
from .routed import RouteState, changes_of, route_states
from .waiting import living, wait_until_taken_in

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import Aliases
    from penstock.spec import Deployment

__all__ = ["Rerouted", "change_routes", "reset_routes", "show_routes"]

WAIT_S = 30.0


class Rerouted(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment's routes as they are now.

    Attributes:
        deployment: Name of the deployment.
        revision: Revision of the changes; a writer names the one it read.
        routes: The routes in order.
        fallback: What answers when a route is late.
        changes: What is otherwise than declared.
        changed: Whether this call changed anything.
        processes: Serving processes that have taken it in.
        behind: Process ids of those that have not yet.
    """

    deployment: str
    revision: int
    routes: tuple[RouteState, ...]
    fallback: Fallback | None
    changes: RouteChanges
    changed: bool = False
    processes: int = 0
    behind: tuple[int, ...] = ()


def show_routes(services: Services, deployment: str) -> Rerouted:
    """The routes as they are now, and how many processes have them.

    Args:
        services: The ports; uses metadata.
        deployment: Name of the deployment.

    Raises:
        NotFoundError: There is no such deployment.
    """
    declared = Catalogue.load(services.metadata).deployment(deployment)
    return _shown(services, declared, changes_of(services.metadata, deployment))


def change_routes(  # noqa: PLR0913 - the change, why, against what, and how long to wait
    services: Services,
    deployment: str,
    edit: RouteEdit,
    *,
    reason: str = "",
    expected: int | None = None,
    wait_s: float = WAIT_S,
) -> Rerouted:
    """Change routes or the fallback, in one transaction with its audit entry.

    What is to answer is packaged and checked first, as for a deployment. A change that leaves
    everything as it is writes nothing.

    Args:
        services: The ports; the caller is an admin.
        deployment: Name of the deployment.
        edit: What is to be changed.
        reason: Why; kept with the change and in the audit table.
        expected: Revision of the changes as the caller knows them; as they are when left out.
        wait_s: How long to wait for the serving processes.

    Raises:
        AccessError: The caller is no admin.
        NotFoundError: There is no such deployment, alias, version or route to turn off.
        NotReadyError: An alias that is to answer points to no version.
        InputError: Nothing is to be changed, a share is not from 0 to below 1, or a rule is no
            condition.
        DeclarationError: The routes would not work together, such as shares of 1 and more, or a
            rule reads what no request says.
        GateError: A version that is to answer was refused by its gates.
        ConflictError: The changes have another revision than expected; or a version does not fit
            what is applied.
        StateError: A version cannot be loaded.
        UnavailableError: A serving process has not taken it in in time; it stays in force.
    """
    require_role(services.caller, "admin")
    catalogue = Catalogue.load(services.metadata)
    declared = catalogue.deployment(deployment)
    before = _expected(services, deployment, expected)
    by, at = services.actor, services.clock.now()
    after = edited(declared, before, edit, by=by, at=at, reason=reason)
    if not differing(before, after):
        return _shown(services, declared, before)
    check_rules(routed(declared, after))
    _prepare(services, catalogue, declared, after)
    _store(services, declared, before, after, "change routes")
    return _taken_in(services, declared, after, wait_s)


def reset_routes(
    services: Services,
    deployment: str,
    *,
    reason: str = "",
    expected: int | None = None,
    wait_s: float = WAIT_S,
) -> Rerouted:
    """Take every change at run time back, in one transaction with its audit entry.

    Args:
        services: The ports; the caller is an admin.
        deployment: Name of the deployment.
        reason: Why.
        expected: Revision of the changes as the caller knows them; as they are when left out.
        wait_s: How long to wait for the serving processes.

    Raises:
        AccessError: The caller is no admin.
        NotFoundError: There is no such deployment.
        ConflictError: The changes have another revision than expected.
        UnavailableError: A serving process has not taken it in in time; it stays in force.
    """
    require_role(services.caller, "admin")
    declared = Catalogue.load(services.metadata).deployment(deployment)
    before = _expected(services, deployment, expected)
    if before.is_empty:
        return _shown(services, declared, before)
    after = before.ended(by=services.actor, at=services.clock.now(), reason=reason)
    _store(services, declared, before, after, "reset routes")
    return _taken_in(services, declared, after, wait_s)


def _expected(services: Services, deployment: str, expected: int | None) -> RouteChanges:
    before = changes_of(services.metadata, deployment)
    if expected is not None and before.revision != expected:
        raise ConflictError(
            f"The routes of {deployment!r} are at revision {before.revision}, not {expected}: "
            f"{before.changed_by or 'nobody'} changed them last. Look at 'penstock routes show "
            f"{deployment}' and decide again.",
            deployment=deployment,
            revision=before.revision,
            expected=expected,
        )
    return before


def _prepare(
    services: Services, catalogue: Catalogue, declared: Deployment, after: RouteChanges
) -> None:
    """See that every version that the changes name is there, and whatever answers is fit to."""
    model = declared.model
    pointers = aliases(services.metadata, model.name)
    answering = [target for target, share in after.shares.items() if share]
    led = (*after.headers.values(), *after.rules.values())
    answering += [target for target in led if target != OFF]
    shadows = [target for target, wanted in after.shadows.items() if wanted]
    numbers = {f"@{version}": True for version in after.pins.values()}
    numbers |= dict.fromkeys(answering, True)
    for target, answers in {**dict.fromkeys(shadows, False), **numbers}.items():
        number = _number(target, declared, pointers)
        version = package(services, get_version(services.metadata, model.name, number))
        if answers:
            check_version(services.artifacts, catalogue, model, version)


def _number(target: str, declared: Deployment, pointers: Aliases) -> int:
    """The version that a target means."""
    if target.startswith("@") and target[1:].isdecimal():
        return int(target[1:])
    if target not in ALIASES:
        raise NotFoundError.of("alias", target, ALIASES, hint="Or name a version, such as @3.")
    number = int(getattr(pointers, target))
    if not number:
        raise NotReadyError(
            f"No version of {declared.model.name!r} is {target}. Name one by its number, such as "
            f"@3; 'penstock models list {declared.model.name}' shows those there are.",
            alias=target,
        )
    return number


def _store(
    services: Services,
    declared: Deployment,
    before: RouteChanges,
    after: RouteChanges,
    action: str,
) -> None:
    """Store the next revision on condition that nobody else has, and nothing else was declared.

    Raises:
        ConflictError: Somebody has; nothing was changed.
    """
    applied = services.metadata.read(AppliedDeclaration, key_of(declared))
    if applied is None:
        raise NotFoundError.of("deployment", declared.name)
    difference = differing(before, after) | ({"reason": after.reason} if after.reason else {})
    services.metadata.write(
        Put(after, expected=before if before.revision else None),
        Put(applied, expected=applied),
        audit=Audit(
            actor=services.actor,
            action=action,
            subject=f"deployment/{declared.name}",
            difference=difference | {"revision": after.revision},
        ),
    )


def _taken_in(
    services: Services, declared: Deployment, after: RouteChanges, wait_s: float
) -> Rerouted:
    """Wait until every serving process routes by the changes."""
    wait_until_taken_in(
        services,
        declared.name,
        lambda status: status.routes.get(declared.name, 0) < after.revision,
        wait_s,
        done="The routes are changed",
    )
    shown = _shown(services, declared, after)
    return msgspec.structs.replace(shown, changed=True)


def _shown(services: Services, declared: Deployment, changes: RouteChanges) -> Rerouted:
    pointers = aliases(services.metadata, declared.model.name)
    serving = living(services, declared.name)
    behind = [one for one in serving if one.routes.get(declared.name, 0) < changes.revision]
    return Rerouted(
        deployment=declared.name,
        revision=changes.revision,
        routes=tuple(route_states(declared, changes, pointers)),
        fallback=routed(declared, changes).fallback,
        changes=changes,
        processes=len(serving) - len(behind),
        behind=tuple(one.process_id for one in behind),
    )
