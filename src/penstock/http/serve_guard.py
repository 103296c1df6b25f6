"""Who may ask for scores and features: decided from identities and grants held in memory."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import TYPE_CHECKING, NoReturn

from penstock.access import Permissions, require_role, tell_denial, token_hash
from penstock.errors import AccessError

from .identity import bearer_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from penstock.ports import Services
    from penstock.records import Identity, Role
    from penstock.spec import View

__all__ = ["Guard"]

REMEMBERED = 1_024
TOLD_EVERY_S = 60.0


class Guard:
    """Knows every identity and every grant, and the headers it has seen lately.

    A request costs a look into a dictionary or two; a token or a grant that was withdrawn is
    refused as soon as ``refresh`` has been told so.

    Args:
        services: The ports; denials go to the audit table.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._by_hash: dict[str, Identity] = {}
        self._let_in: defaultdict[Role, dict[bytes, Identity]] = defaultdict(dict)
        self._permissions = Permissions()
        self._decided: dict[tuple[bytes, str], AccessError | None] = {}
        self._told_s: dict[tuple[str, str], float] = {}

    def refresh(self, identities: Iterable[Identity], permissions: Permissions) -> None:
        """Take identities and permissions as they are now."""
        self._by_hash = {one.token_sha256: one for one in identities if one.token_sha256}
        self._let_in = defaultdict(dict)
        self._permissions = permissions
        self._decided = {}

    def check(self, header: bytes, role: Role) -> Identity:
        """Let a caller in.

        Args:
            header: The request's ``Authorization``; empty when it has none.
            role: The role it takes.

        Raises:
            AccessError: There is no valid token, or its role does not reach.
        """
        return self._let_in[role].get(header) or self._identify(header, role)

    def refusal(
        self,
        header: bytes,
        what: str,
        names: Callable[[], Iterable[str]],
        views: Callable[[], Iterable[View]] = tuple,
    ) -> AccessError | None:
        """Why a caller may not read some features; none where they may.

        Decided once until ``refresh``, and then a look into a dictionary.

        Args:
            header: The request's ``Authorization``, which ``check`` has let in.
            what: Tells these features from any others: the same ones each time it is given.
            names: Gives their full names.
            views: Gives definitions that count beside those applied.
        """
        if not self._permissions.protections:
            return None
        key = (header, what)
        if key not in self._decided:
            if len(self._decided) >= REMEMBERED:
                self._decided.clear()
            self._decided[key] = self._decide(header, names(), views())
        return self._decided[key]

    async def refuse(self, error: AccessError, header: bytes, subject: str) -> NoReturn:
        """Refuse a caller, and audit it: once a minute for each of them and each subject.

        Args:
            error: What ``refusal`` gave.
            header: The request's ``Authorization``.
            subject: What the audit table calls what was asked for.

        Raises:
            AccessError: Always.
        """
        await self._tell(error, self.check(header, "reader").name, subject)
        raise AccessError(error.message, **error.facts)

    def _decide(
        self, header: bytes, names: Iterable[str], views: Iterable[View]
    ) -> AccessError | None:
        identity = self.check(header, "reader")
        try:
            self._permissions.with_views(views).require(identity, names)
        except AccessError as error:
            return error
        return None

    async def _tell(self, error: AccessError, user: str, subject: str) -> None:
        """Audit a refusal, unless this process has done so within the minute: that costs nothing.

        What other processes have told is looked up there.
        """
        now_s = time.monotonic()
        key = (user, subject)
        if now_s - self._told_s.get(key, -TOLD_EVERY_S) < TOLD_EVERY_S:
            return
        if len(self._told_s) >= REMEMBERED:
            self._told_s.clear()
        self._told_s[key] = now_s
        metadata, clock = self._services.metadata, self._services.clock
        await asyncio.to_thread(tell_denial, metadata, clock, error, user=user, subject=subject)

    def _identify(self, header: bytes, role: Role) -> Identity:
        token = bearer_token(header.decode("latin-1"))
        found = self._by_hash.get(token_hash(token))
        if found is None:
            raise AccessError(
                "Nobody has that token. Use the one in .penstock/token of the project folder that "
                "the server runs on, or run 'penstock init' there to make one; for a token of your "
                "own, an admin runs 'penstock users add NAME'."
            )
        require_role(found, role)
        let_in = self._let_in[role]
        if len(let_in) >= REMEMBERED:
            let_in.clear()
        let_in[header] = found
        return found
