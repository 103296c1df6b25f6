"""Pointing an alias that routes lead to at a version, after what a deployment checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from penstock.access import require_role
from penstock.errors import InputError, NotFoundError
from penstock.plan import Catalogue
from penstock.records import ALIASES
from penstock.registry import aliases, get_version, point

from .checks import check_version
from .package import package
from .waiting import wait_until_taken_in

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import Aliases

__all__ = ["SETTABLE", "Settable", "point_alias"]

Settable = Literal["challenger", "candidate"]
SETTABLE: tuple[Settable, ...] = ("challenger", "candidate")
WAIT_S = 30.0


def point_alias(  # noqa: PLR0913 - what is pointed where, why, and how long to wait
    services: Services,
    model: str,
    alias: str,
    version: int,
    *,
    reason: str = "",
    wait_s: float = WAIT_S,
) -> Aliases:
    """Point the alias ``challenger`` or ``candidate`` at a version, or at none; audited.

    The version is packaged and checked first, as for a deployment, since routes may lead to it.
    Pointing it where it points already changes nothing.

    Args:
        services: The ports; the caller is an admin.
        model: Name of the model.
        alias: Which.
        version: The version; 0 for none: the champion answers then what routes lead there.
        reason: Why; for the audit table.
        wait_s: How long to wait for the serving processes.

    Raises:
        AccessError: The caller is no admin.
        NotFoundError: There is no such model, alias or version.
        InputError: The alias moves by what is deployed.
        GateError: The version was refused by its gates.
        ConflictError: It does not fit what is applied; or somebody else moved an alias meanwhile.
        StateError: Its files are damaged, or do not predict what they predicted.
        UnavailableError: A serving process has not taken it in in time; it stays in force.
    """
    require_role(services.caller, "admin")
    if alias not in ALIASES:
        raise NotFoundError.of("alias", alias, SETTABLE)
    if alias not in SETTABLE:
        raise InputError(
            f"The alias {alias!r} moves by what is deployed: 'penstock deploy', 'penstock "
            "rollback' and 'penstock models promote' move it.",
            alias=alias,
        )
    catalogue = Catalogue.load(services.metadata)
    declared = catalogue.model(model)
    if version:
        found = package(services, get_version(services.metadata, model, version))
        check_version(services.artifacts, catalogue, declared, found)
    with services.locks.hold(f"registry/{model}"):
        before = aliases(services.metadata, model)
        after = point(
            services.metadata,
            model,
            alias=alias,
            version=version,
            actor=services.actor,
            now=services.clock.now(),
            reason=reason,
        )
    if after != before:
        for deployment in catalogue.deployments_of(model):
            wait_until_taken_in(
                services,
                deployment.name,
                lambda status: status.revision.get(model, 0) < after.revision,
                wait_s,
                done=f"The alias {alias!r} of {model!r} is set",
            )
    return after
