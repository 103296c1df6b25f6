"""Who calls: tokens to identities, and what each role may do."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from penstock.errors import AccessError
from penstock.records import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Metadata
    from penstock.records import Role

__all__ = ["bearer_token", "identify", "require_role", "token_hash"]

RANK: Mapping[Role, int] = {"reader": 0, "writer": 1, "admin": 2}
SCHEME = "bearer "


def token_hash(token: str) -> str:
    """What is kept of a token: its sha256, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def bearer_token(header: str) -> str:
    """The token of an ``Authorization`` header.

    Args:
        header: The header's value; empty when the request has none.

    Raises:
        AccessError: There is no header, or it is no bearer token.
    """
    if not header:
        raise AccessError(
            "The request has no identity. Send the header 'Authorization: Bearer TOKEN'; "
            "the local token is in .penstock/token of the project folder."
        )
    scheme, token = header[: len(SCHEME)], header[len(SCHEME) :].strip()
    if scheme.lower() != SCHEME or not token:
        raise AccessError(
            "The Authorization header is no bearer token. Send 'Authorization: Bearer TOKEN'."
        )
    return token


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
            "the server runs on, or run 'penstock init' there to make one."
        )
    return found[0]


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
