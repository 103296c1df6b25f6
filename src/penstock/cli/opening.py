"""Opening a project for a command that changes something."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.access import require_role
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Generator

    from penstock.records import Role
    from penstock.runtime import LocalServices

    from .screen import Screen

__all__ = ["opened_as"]


@contextmanager
def opened_as(screen: Screen, role: Role) -> Generator[LocalServices]:
    """The project's ports, for a caller of at least a role: the one that HTTP asks for the same.

    Args:
        screen: Knows the project folder.
        role: The role.

    Raises:
        AccessError: The caller's role is too small.
    """
    with open_services(screen.home) as services:
        require_role(services.caller, role)
        yield services
