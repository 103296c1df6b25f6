"""Who may ask for scores: tokens checked against identities held in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import AccessError

from .identity import bearer_token, require_role, token_hash

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.records import Identity, Role

__all__ = ["Guard"]

REMEMBERED = 1_024


class Guard:
    """Knows every identity, and the headers it has seen lately.

    A request costs a look into a dictionary; a token that was withdrawn is refused as soon as
    ``refresh`` has been told so.
    """

    def __init__(self) -> None:
        self._by_hash: dict[str, Identity] = {}
        self._by_header: dict[bytes, Identity] = {}

    def refresh(self, identities: Iterable[Identity]) -> None:
        """Take the identities as they are now."""
        self._by_hash = {one.token_sha256: one for one in identities}
        self._by_header = {}

    def check(self, header: bytes, role: Role) -> Identity:
        """Let a caller in.

        Args:
            header: The request's ``Authorization``; empty when it has none.
            role: The role it takes.

        Raises:
            AccessError: There is no valid token, or its role does not reach.
        """
        identity = self._by_header.get(header)
        if identity is None:
            identity = self._identify(header)
        require_role(identity, role)
        return identity

    def _identify(self, header: bytes) -> Identity:
        token = bearer_token(header.decode("latin-1"))
        found = self._by_hash.get(token_hash(token))
        if found is None:
            raise AccessError(
                "Nobody has that token. Use the one in .penstock/token of the project folder that "
                "the server runs on, or run 'penstock init' there to make one."
            )
        if len(self._by_header) >= REMEMBERED:
            self._by_header.clear()
        self._by_header[header] = found
        return found
