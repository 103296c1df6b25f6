"""The people and programs that may call: made, given a new token, removed."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import ConflictError, InputError, NotFoundError
from penstock.ports import Audit, Delete, Put
from penstock.records import Denial, Grant, Identity

from .identities import require_role, token_hash

if TYPE_CHECKING:
    from penstock.ports import Metadata, Services
    from penstock.records import Role

__all__ = ["ADMIN", "PROCESS_NAMES", "add_user", "remove_user", "renew_token", "user_of", "users"]

ADMIN = "admin"
"""The local administrator, whom ``penstock init`` makes."""

PROCESS_NAMES = frozenset({"api", "cli", "serve", "stream", "up", "worker"})
"""Names under which processes act; nobody else has them in the audit table."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
TOKEN_BYTES = 32


def users(metadata: Metadata) -> list[Identity]:
    """Everybody who may call, by name."""
    return metadata.find(Identity)


def user_of(metadata: Metadata, name: str) -> Identity:
    """The user of that name.

    Raises:
        NotFoundError: There is none; names the nearest.
    """
    found = metadata.read(Identity, name)
    if found is None:
        known = [one.name for one in users(metadata)]
        raise NotFoundError.of(
            "user", name, known, hint="See 'penstock users list', or add them: 'users add NAME'."
        )
    return found


def add_user(services: Services, name: str, role: Role) -> str:
    """Make a user.

    Args:
        services: The ports; the caller is an admin.
        name: Letters, digits, ``_``, ``.``, ``@`` and ``-``, 64 at most.
        role: What they may do.

    Returns:
        Their token. It is not kept: this is the only time it is told.

    Raises:
        AccessError: The caller is no admin.
        InputError: It is no name for a user.
        ConflictError: There is one of that name.
    """
    require_role(services.caller, "admin")
    if not NAME.fullmatch(name) or name in PROCESS_NAMES:
        raise InputError(
            f"{name!r} is no name for a user. Give letters, digits, '_', '.', '@' and '-', 64 at "
            "most, beginning with a letter or a digit; the names of processes, such as 'worker', "
            "are taken.",
            name=name,
        )
    token = secrets.token_urlsafe(TOKEN_BYTES)
    user = Identity(
        name=name, role=role, token_sha256=token_hash(token), created_at=services.clock.now()
    )
    # Of an earlier user of that name, granted in the moment in which they were removed. While there
    # is no user there are no new ones.
    stale = [Delete(one) for one in services.metadata.find(Grant, where={"user": name})]
    try:
        audit = _audit(services, "add", name, role=role)
        services.metadata.write(Put(user, None), *stale, audit=audit)
    except ConflictError as error:
        raise ConflictError(
            f"There is a user {name!r} already. Give them a new token with 'penstock users token "
            f"{name}', or choose another name.",
            name=name,
        ) from error
    return token


def renew_token(services: Services, name: str) -> str:
    """Give a user a new token; the old one is nobody's from now on.

    Args:
        services: The ports; the caller is an admin.
        name: The user.

    Returns:
        The token. It is not kept: this is the only time it is told.

    Raises:
        AccessError: The caller is no admin.
        NotFoundError: There is no such user.
        InputError: It is the local administrator.
    """
    require_role(services.caller, "admin")
    user = _other_than_admin(services, name, "its token is that of the file .penstock/token")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    renewed = msgspec.structs.replace(user, token_sha256=token_hash(token))
    audit = _audit(services, "renew token", name)
    services.metadata.write(Put(renewed, user), audit=audit)
    return token


def remove_user(services: Services, name: str) -> tuple[Grant, ...]:
    """Remove a user, their token, and what they were granted: nobody of that name inherits it.

    Args:
        services: The ports; the caller is an admin.
        name: The user.

    Returns:
        The grants that are gone.

    Raises:
        AccessError: The caller is no admin.
        NotFoundError: There is no such user.
        InputError: It is the local administrator.
    """
    require_role(services.caller, "admin")
    user = _other_than_admin(services, name, "the commands of this machine act as it")
    grants = tuple(services.metadata.find(Grant, where={"user": name}))
    lost = [f"{one.what} {one.name}" for one in grants]
    denials = services.metadata.find(Denial, where={"user": name})
    audit = _audit(services, "remove", name, role=user.role, grants=lost)
    gone = (Delete(one) for one in (user, *grants, *denials))
    services.metadata.write(*gone, audit=audit)
    return grants


def _other_than_admin(services: Services, name: str, why: str) -> Identity:
    user = user_of(services.metadata, name)
    if name == ADMIN:
        raise InputError(f"{ADMIN!r} is the local administrator and stays: {why}.", name=name)
    return user


def _audit(services: Services, action: str, name: str, **difference: object) -> Audit:
    return Audit(
        actor=services.actor, action=action, subject=f"identity/{name}", difference=difference
    )
