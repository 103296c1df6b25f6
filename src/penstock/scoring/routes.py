"""Which route answers an entity: by hash, so that it is always the same one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.spec import Deployment

__all__ = ["RouteTable", "share_of"]


def share_of(deployment: str, key: str) -> float:
    """Where an entity lies between 0 and 1 in a deployment: even over entities, and fixed.

    Args:
        deployment: Name of the deployment; each has its own order of entities.
        key: The entity's key as text.
    """
    digest = hashlib.blake2b(f"{deployment}\0{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


class RouteTable:
    """The shares of one deployment.

    Each challenger has its own order of the entities, and takes the first of those that challengers
    before it have left. So a share that grows keeps the entities it had, and another share that
    changes costs a challenger none but those that a challenger before it takes on.

    Args:
        deployment: The deployment as it is routed now.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._bounds: list[tuple[str, float, str]] = []
        left = 1.0
        for name, route in deployment.named_routes.items():
            if route.role == "challenger":
                own = route.target == route.role
                order = deployment.name if own else f"{deployment.name}\0{route.target}"
                self._bounds.append((order, route.share / left, name))
                left -= route.share

    def role_of(self, key: str) -> str:
        """The route that answers an entity: ``champion`` or a challenger's.

        Args:
            key: The entity's key as text; for features handed in without one, anything that
                spreads evenly.
        """
        for order, bound, name in self._bounds:
            if share_of(order, key) < bound:
                return name
        return "champion"
