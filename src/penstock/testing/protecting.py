"""Protecting views of a project that is applied already, for tests of who may read what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import penstock as ps
from penstock.access import add_user
from penstock.plan import Catalogue, apply

if TYPE_CHECKING:
    from penstock.records import Role
    from penstock.runtime import LocalServices

__all__ = ["protect"]


def protect(services: LocalServices, *views: str, user: str = "ana", role: Role = "reader") -> str:
    """Protect feature views by their names, beside what is applied, and add a user.

    Args:
        services: The ports, of an administrator.
        views: Names of feature views.
        user: Somebody without any grant.
        role: Of that user.

    Returns:
        The user's token.
    """
    catalogue = Catalogue.load(services.metadata)
    protection = ps.Protection("tested", views=[catalogue.view(name) for name in views])
    declared = (*catalogue.declarations.values(), protection)
    project = ps.Project("protected", declarations=declared)
    apply(services.metadata, project, actor="tester", now=services.clock.now())
    return add_user(services, user, role)
