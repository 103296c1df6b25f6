"""Who may call what: a handler names the role it takes and gets the ports acting as the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

from penstock.access import identify, require_role
from penstock.runtime import LocalServices

from .identity import bearer_token

if TYPE_CHECKING:
    from penstock.records import Role

__all__ = ["Admin", "Reader", "Writer", "services_of"]


def services_of(request: Request) -> LocalServices:
    """The ports of the process, for a handler that anybody may call."""
    return cast("LocalServices", request.app.state.services)


def _let_in(request: Request, role: Role) -> LocalServices:
    """Identify the sender; returns the ports acting as them, whom the audit table then names.

    Raises:
        AccessError: The request has no valid token, or the sender's role does not reach.
    """
    services = services_of(request)
    token = bearer_token(request.headers.get("authorization", ""))
    identity = identify(services.metadata, token)
    require_role(identity, role)
    return services.acting(identity)


def _reader(request: Request) -> LocalServices:
    return _let_in(request, "reader")


def _writer(request: Request) -> LocalServices:
    return _let_in(request, "writer")


def _admin(request: Request) -> LocalServices:
    return _let_in(request, "admin")


Reader = Annotated[LocalServices, Depends(_reader)]
Writer = Annotated[LocalServices, Depends(_writer)]
Admin = Annotated[LocalServices, Depends(_admin)]
