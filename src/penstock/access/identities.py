"""Tokens to identities, and what each role may do."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock.errors import AccessError
from penstock.records import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Metadata
    from penstock.records import Role

__all__ = ["identify", "one_or_all", "require_role", "system_identity", "token_hash"]

RANK: Mapping[Role, int] = {"reader": 0, "writer": 1, "admin": 2}
SINCE = datetime(1970, 1, 1, tzinfo=UTC)


def token_hash(token: str) -> str:
    """What is kept of a token: its sha256, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def identify(metadata: Metadata, token: str) -> Identity:
    """Whose token it is.

    The token is looked up by its hash, so the time taken says nothing about stored tokens.

    Args:
        metadata: Where identities are kept.
        token: The token as the caller sent it.

    Raises:
        AccessError: Nobody has that token.
    """
    found = metadata.find(Identity, where={"token_sha256": token_hash(token)})
    if not found:
        raise AccessError(
            "Nobody has that token. Use the one in .penstock/token of the project folder that "
            "the server runs on, or run 'penstock init' there to make one; for a token of your "
            "own, an admin runs 'penstock users add NAME'."
        )
    return found[0]


def system_identity(name: str) -> Identity:
    """The platform itself, as one of its processes: it may read whatever it computes with.

    No token is its own, so nobody can call as it.

    Args:
        name: Of the process, such as ``worker``.
    """
    return Identity(name=name, role="admin", token_sha256="", created_at=SINCE)


def require_role(identity: Identity, role: Role) -> None:
    """Refuse a caller whose role does not reach.

    Raises:
        AccessError: The role is too small; ``error.facts`` hold ``name``, ``role`` and ``needed``.
    """
    if RANK[identity.role] < RANK[role]:
        raise AccessError(
            f"{identity.name!r} is {identity.role}, but this takes the role {role}. "
            f"Use the token of somebody who is {role}.",
            name=identity.name,
            role=identity.role,
            needed=role,
        )


def one_or_all(caller: Identity, user: str) -> str:
    """Whose records a caller is shown: an admin anybody's, or everybody's; others their own.

    Args:
        caller: Who asks.
        user: Whose they ask for; empty for everybody's.

    Returns:
        A name; empty for everybody.

    Raises:
        AccessError: The caller asks for somebody else's and is no admin.
    """
    if caller.role == "admin":
        return user
    if user not in {"", caller.name}:
        require_role(caller, "admin")
    return caller.name
