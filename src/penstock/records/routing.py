"""What was changed of a deployment's routes while it runs, beside what is declared."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

import msgspec

from penstock.spec import Fallback

from .base import Record

__all__ = ["OFF", "RouteChanges"]

OFF = "off"
"""What a header, a rule or an age is changed to where its route is to answer nothing."""

CHANGED = ("shares", "shadows", "pins", "headers", "rules", "ages", "fallback")


class RouteChanges(Record, frozen=True):
    """The changes at run time that hold for a deployment; what they leave out is as declared.

    They hold until they are taken back, or until a project is applied that declares other routes or
    another fallback for the deployment.

    Attributes:
        deployment: Name of the deployment.
        revision: Counts the changes, taking back too; a writer names the one it read. 0 for none.
        split: The revision since which each entity has met the version that it meets by shares and
            pins; 0 for from the beginning.
        shares: Share of the entities of a challenger, by its target: an alias, or ``@3`` for a
            version. 0 turns the challenger off; one that is not declared is added.
        shadows: Whether a shadow scores, by its target; one that is not declared is added.
        salts: An order of the entities of its own for a challenger, by its target: an experiment's,
            so that its halves say nothing of those of another.
        pins: The version that an alias stands for in this deployment, wherever it points.
        headers: Where requests with a header go, by ``name=value``: an alias, ``@3``, or ``off``;
            one that is not declared is added.
        rules: Where requests that fulfil a condition go, by its text; likewise.
        ages: How old a score may be that answers at once, by the role of the route (``cached``,
            ``precomputed``), or ``off``.
        fallback: Takes the place of the declared one; none for the declared one.
        reason: Why, in the words of whoever changed it last.
        changed_at: When it was changed last.
        changed_by: By whom.
    """

    KIND: ClassVar[str] = "route_changes"

    deployment: str
    changed_at: datetime
    changed_by: str
    revision: int = 0
    split: int = 0
    shares: Mapping[str, float] = {}
    salts: Mapping[str, str] = {}
    shadows: Mapping[str, bool] = {}
    pins: Mapping[str, int] = {}
    headers: Mapping[str, str] = {}
    rules: Mapping[str, str] = {}
    ages: Mapping[str, str] = {}
    fallback: Fallback | None = None
    reason: str = ""

    @property
    def key(self) -> str:
        """The deployment's name."""
        return self.deployment

    @property
    def is_empty(self) -> bool:
        """Whether everything is as declared."""
        return not any(getattr(self, name) for name in CHANGED)

    @property
    def text(self) -> str:
        """What holds, in words: ``"share of @3 is 0.1; champion is pinned to 2"``."""
        parts = [f"share of {target} is {share:g}" for target, share in self.shares.items()]
        parts += [f"shadow {name} is {'on' if on else 'off'}" for name, on in self.shadows.items()]
        parts += [f"{alias} is pinned to {version}" for alias, version in self.pins.items()]
        for what, changed in (("header", self.headers), ("rule", self.rules)):
            parts += [
                f"{what} {label} {'is off' if to == OFF else f'leads to {to}'}"
                for label, to in changed.items()
            ]
        parts += [
            f"{role} scores {'are off' if age == OFF else f'answer for {age}'}"
            for role, age in self.ages.items()
        ]
        if self.fallback is not None:
            parts.append("another fallback")
        return "; ".join(parts)

    def ended(self, *, by: str, at: datetime, reason: str) -> RouteChanges:
        """The next revision, in which everything is as declared."""
        bare = RouteChanges(deployment=self.deployment, changed_at=at, changed_by=by, reason=reason)
        return self._before(bare)

    def followed_by(self, *, by: str, at: datetime, **changed: object) -> RouteChanges:
        """The next revision, with these fields changed."""
        after = msgspec.structs.replace(self, changed_by=by, changed_at=at, **changed)
        return self._before(after)

    def _before(self, after: RouteChanges) -> RouteChanges:
        """What comes after this, numbered."""
        revision = self.revision + 1
        same = self._splitting == after._splitting
        split = self.split if same else revision
        return msgspec.structs.replace(after, revision=revision, split=split)

    @property
    def _splitting(self) -> object:
        """What says which version an entity meets."""
        return dict(self.shares), dict(self.salts), self.pins.get("champion", 0)
