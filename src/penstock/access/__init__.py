"""Who may do what: identities and their roles, grants, and the one decision about features.

What reads declarations is loaded when it is first asked for: to know who calls takes none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .denials import denials_of, tell_denial
from .identities import identify, require_role, system_identity, token_hash
from .users import ADMIN, PROCESS_NAMES, add_user, remove_user, renew_token, user_of, users

if TYPE_CHECKING:
    from .grants import Granted, grant, grants_of, revoke
    from .permissions import Permissions
    from .requiring import hidden_features, require_features

__all__ = [
    "ADMIN",
    "PROCESS_NAMES",
    "Granted",
    "Permissions",
    "add_user",
    "denials_of",
    "grant",
    "grants_of",
    "hidden_features",
    "identify",
    "remove_user",
    "renew_token",
    "require_features",
    "require_role",
    "revoke",
    "system_identity",
    "tell_denial",
    "token_hash",
    "user_of",
    "users",
]

LAZY = {
    "Granted": ".grants",
    "grant": ".grants",
    "grants_of": ".grants",
    "revoke": ".grants",
    "Permissions": ".permissions",
    "hidden_features": ".requiring",
    "require_features": ".requiring",
}


def __getattr__(name: str) -> object:
    if name in LAZY:
        return getattr(import_module(LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
