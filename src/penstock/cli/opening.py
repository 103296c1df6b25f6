"""Opening a project for a command that changes something."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.access import identify, require_role
from penstock.errors import AccessError
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
        AccessError: The caller's role is too small, or the folder's token is nobody's.
        StateError: The folder's token is gone.
    """
    with open_services(screen.home) as services:
        try:
            require_role(services.caller, role)
        except AccessError:
            # Who lost the token of the folder is told so; to whom it is closed, it is not theirs.
            path = services.layout.token
            if os.access(path, os.R_OK) or not path.exists():
                identify(services.metadata, services.token)
            raise
        yield services
