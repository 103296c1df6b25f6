"""Which route answers an entity: by hash, so that it is always the same one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.spec import Deployment, Route

__all__ = ["RouteTable", "role_keys", "share_of"]


def share_of(deployment: str, key: str) -> float:
    """Where an entity lies between 0 and 1 in a deployment: even over entities, and fixed.

    Args:
        deployment: Name of the deployment; each has its own order of entities.
        key: The entity's key as text.
    """
    digest = hashlib.blake2b(f"{deployment}\0{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def role_keys(deployment: Deployment) -> dict[str, Route]:
    """The routes by the name they have in a status: their role, with the alias where it repeats."""
    found: dict[str, Route] = {}
    for route in deployment.routes:
        name = route.role if route.role not in found else f"{route.role} {route.alias}"
        found[name] = route
    return found


class RouteTable:
    """The shares of one deployment.

    Challengers take the lowest part of the range, in the order they are declared; so a share that
    grows keeps the entities it had.

    Args:
        deployment: Its declaration.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._name = deployment.name
        self._bounds: list[tuple[float, str]] = []
        bound = 0.0
        for name, route in role_keys(deployment).items():
            if route.role == "challenger":
                bound += route.share
                self._bounds.append((bound, name))

    def role_of(self, key: str) -> str:
        """The role that answers an entity: ``champion`` or a challenger's.

        Args:
            key: The entity's key as text; for features handed in without one, anything that
                spreads evenly.
        """
        if not self._bounds:
            return "champion"
        place = share_of(self._name, key)
        for bound, role in self._bounds:
            if place < bound:
                return role
        return "champion"
