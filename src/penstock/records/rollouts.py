"""Rollouts: a version on its way behind a deployment, and what was found out about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from .base import Record

__all__ = [
    "LIVE_STATES",
    "Approver",
    "DeployCheck",
    "Difference",
    "Regression",
    "Rollout",
    "RolloutState",
]

RolloutState = Literal[
    "checking", "waiting", "approved", "promoting", "done", "refused", "rejected", "aborted",
    "failed",
]  # fmt: skip
LIVE_STATES: tuple[RolloutState, ...] = ("checking", "waiting", "approved", "promoting")
"""The states of a rollout that is under way."""


class DeployCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was checked before the version took traffic.

    Attributes:
        kind: ``package``, ``unit``, ``user`` (a function of the project) or ``replay``.
        name: What was checked.
        passed: Whether it holds; a check without a bound always does.
        reason: What was found, in words.
        value: What was measured; none where nothing was.
        bound: The bound; none where it is only shown.
    """

    kind: Literal["package", "unit", "user", "replay"]
    name: str
    passed: bool
    reason: str
    value: float | None = None
    bound: float | None = None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A stored request that the new version answers otherwise.

    Attributes:
        prediction_id: The score.
        before: What was answered.
        after: What the new version says; none where it has no finite prediction.
    """

    prediction_id: str
    before: float
    after: float | None


class Regression(msgspec.Struct, frozen=True, kw_only=True):
    """Stored requests asked again of the new version.

    Attributes:
        rows: How many were asked.
        skipped: How many stored ones could not be, by why.
        against: ``model@version`` that had answered them; several where the champion had not.
        mean_difference: Mean of the absolute differences.
        max_difference: Greatest of them.
        quantiles: The 50, 90 and 99 % quantiles of them.
        flips: How many fall on the other side of 0.5; 0 for a regression.
        failed: How many have no finite prediction now.
        most: Those that differ most, the greatest difference first.
        report: Reference of the artifact with the report.
    """

    rows: int
    skipped: Mapping[str, int] = {}
    against: tuple[str, ...] = ()
    mean_difference: float = 0.0
    max_difference: float = 0.0
    quantiles: tuple[float, float, float] = (0.0, 0.0, 0.0)
    flips: int = 0
    failed: int = 0
    most: tuple[Difference, ...] = ()
    report: str = ""


class Approver(msgspec.Struct, frozen=True, kw_only=True):
    """Who decided about a rollout.

    Attributes:
        name: Who.
        approved: Whether they approved it; else they rejected it.
        reason: Why, in their words.
        at: When.
    """

    name: str
    approved: bool
    reason: str
    at: datetime


class Rollout(Record, frozen=True):
    """A version on its way behind a deployment. At most one is under way per model.

    Attributes:
        rollout_id: Its id, ordered by time.
        run_id: The run that carries it out: one of its own with the same id, or a training.
        deployment: The deployment that it was asked for.
        model: Name of the model.
        version: The version.
        champion: The champion when it was asked for; 0 for none.
        asked_by: Who asked for it.
        asked_at: When.
        state: Where it stands.
        approval: Who has to approve it, as a document; empty for nobody.
        checks: What was checked.
        regression: Stored requests asked again; none before, or where none are asked.
        approver: Who decided; none before.
        reason: Why it ended as it did; empty while it goes well.
        ended_at: When it ended.
    """

    KIND: ClassVar[str] = "rollout"
    INDEXED: ClassVar[tuple[str, ...]] = ("deployment", "model", "state")

    rollout_id: str
    run_id: str
    deployment: str
    model: str
    version: int
    asked_by: str
    asked_at: datetime
    state: RolloutState
    champion: int = 0
    approval: Mapping[str, object] = {}
    checks: tuple[DeployCheck, ...] = ()
    regression: Regression | None = None
    approver: Approver | None = None
    reason: str = ""
    ended_at: datetime | None = None

    @property
    def key(self) -> str:
        """The rollout's id."""
        return self.rollout_id

    @property
    def label(self) -> str:
        """How people write the version: ``btc-direction@3``."""
        return f"{self.model}@{self.version}"

    @property
    def is_live(self) -> bool:
        """Whether it is under way."""
        return self.state in LIVE_STATES
