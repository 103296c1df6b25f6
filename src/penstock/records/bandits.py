"""Bandits: the shares of their arms, and what is known of what each brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from .base import Record

__all__ = ["BanditArm", "BanditState", "BanditUpdate"]


class BanditArm(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one arm of a bandit.

    Attributes:
        target: ``champion``, another alias, or ``@3``.
        version: The version behind it; 0 for none yet.
        scores: Its scores whose outcome is known.
        entities: Of how many entities.
        mean: Their mean reward; none without any.
        weighed: What it would have brought had it answered everything, by inverse propensity.
        error: Standard error of that.
        chance: Chance that it is the best; none before there are scores enough.
        share: Share of the entities that it has from now on.
        reason: Why no version of it answers; empty where one does.
    """

    target: str
    version: int
    share: float
    scores: int = 0
    entities: int = 0
    mean: float | None = None
    weighed: float | None = None
    error: float | None = None
    chance: float | None = None
    reason: str = ""


class BanditUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """The shares as they were set at one time.

    Attributes:
        at_us: From rewards of scores up to this time, in microseconds since 1970 UTC.
        shares: Share by target.
    """

    at_us: int
    shares: Mapping[str, float]


class BanditState(Record, frozen=True):
    """A bandit of a deployment.

    Attributes:
        deployment: Name of the deployment.
        name: Name of the bandit.
        plan: What is declared, as a document; another one begins anew.
        began_us: Scores from this time on count, in microseconds since 1970 UTC.
        arms: The arms as they were seen last.
        at_us: When that was.
        updates: The shares from the first to the last; of long ones not every one is kept.
        held: Why it leaves the shares alone for now; empty where it does not.
        ended: Why it moves shares no longer; empty while it does.
    """

    KIND: ClassVar[str] = "bandit"
    INDEXED: ClassVar[tuple[str, ...]] = ("deployment",)

    deployment: str
    name: str
    plan: Mapping[str, object]
    began_us: int
    arms: tuple[BanditArm, ...]
    at_us: int = 0
    updates: tuple[BanditUpdate, ...] = ()
    held: str = ""
    ended: str = ""

    @property
    def key(self) -> str:
        """``deployment/name``."""
        return f"{self.deployment}/{self.name}"
