"""Which route answers a request: by header, by rule, or by a hash of the entity's key."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from penstock.algebra import compile_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.ports import Ids
    from penstock.spec import Deployment, Route

    from .ask import Ask

__all__ = ["Chosen", "RouteTable", "share_of"]


def share_of(deployment: str, key: str) -> float:
    """Where an entity lies between 0 and 1 in a deployment: even over entities, and fixed.

    Args:
        deployment: Name of the deployment; each has its own order of entities.
        key: The entity's key as text.
    """
    digest = hashlib.blake2b(f"{deployment}\0{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


class Chosen(NamedTuple):
    """A route that answers.

    Attributes:
        name: Its name; see ``Deployment.named_routes``.
        why: Why, for the score; empty for the champion, which takes the rest.
    """

    name: str
    why: str


CHAMPION = Chosen("champion", "")


class RouteTable:
    """Which route answers: by header, else by rule, else by share, else the champion.

    Each challenger has its own order of the entities, and takes the first of those that challengers
    before it have left. So a share that grows keeps the entities it had, and another share that
    changes costs a challenger none but those that a challenger before it takes on.

    Args:
        deployment: The deployment as it is routed now.

    Attributes:
        headers: Names of the headers that its routes ask for.
        is_plain: Whether the champion takes everything.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._entity = next(iter(deployment.model.dataset.entity_dtypes), "")
        self._headers: list[tuple[str, str, Chosen]] = []
        self._rules: list[tuple[Callable[[Mapping[str, object]], bool], Chosen]] = []
        self._bounds: list[tuple[str, float, Chosen]] = []
        left = 1.0
        for name, route in deployment.named_routes.items():
            chosen = Chosen(name, route.why)
            if route.role == "header":
                self._headers.append((route.header, route.value, chosen))
            elif route.when is not None:
                self._rules.append((compile_rule(route.when), chosen))
            elif route.role == "challenger":
                self._bounds.append((_order(deployment.name, route), route.share / left, chosen))
                left -= route.share
        # Whoever weighs what a bandit's arms bring has to know the share of each at the time.
        self._champion = Chosen("champion", f"share {left:g}") if deployment.bandit else CHAMPION
        self.headers = tuple(dict.fromkeys(name for name, _, _ in self._headers))
        self.is_plain = not (self._headers or self._rules or self._bounds)

    def choose(self, ask: Ask, ids: Ids) -> Chosen:
        """The route that answers a request.

        Args:
            ask: The request.
            ids: Makes what stands for a key where the request has none.

        Raises:
            InputError: A value has not the type that a rule takes.
            UserCodeError: A function in a rule failed.
        """
        for name, value, chosen in self._headers:
            if ask.headers.get(name) == value:
                return chosen
        if self._rules:
            row = {self._entity: ask.key, **ask.given}
            for holds, chosen in self._rules:
                if holds(row):
                    return chosen
        if not self._bounds:
            return self._champion
        return self.by_share(ids.new() if ask.key is None else str(ask.key))

    def by_share(self, key: str) -> Chosen:
        """The route that answers an entity: the champion or a challenger.

        Args:
            key: The entity's key as text; for features handed in without one, anything that
                spreads evenly.
        """
        for order, bound, chosen in self._bounds:
            if share_of(order, key) < bound:
                return chosen
        return self._champion


def _order(deployment: str, route: Route) -> str:
    """What a challenger's order of the entities goes by."""
    if route.salt:
        return f"{deployment}\0{route.salt}\0{route.target}"
    return deployment if route.target == route.role else f"{deployment}\0{route.target}"
