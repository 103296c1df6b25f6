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
    "CanaryCounts",
    "CanaryStep",
    "DeployCheck",
    "Difference",
    "ProcessCounts",
    "Regression",
    "Rollout",
    "RolloutState",
    "VersionCounts",
]

RolloutState = Literal[
    "checking", "waiting", "approved", "canary", "returning", "promoting", "done", "refused",
    "rejected", "aborted", "returned", "failed",
]  # fmt: skip
LIVE_STATES: tuple[RolloutState, ...] = (
    "checking", "waiting", "approved", "canary", "returning", "promoting",
)  # fmt: skip
"""The states of a rollout that is under way."""


class DeployCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was checked before the version took traffic.

    Attributes:
        kind: ``package``, ``unit``, ``user`` (a function of the project), ``replay`` or
            ``canary``.
        name: What was checked.
        passed: Whether it holds; a check without a bound always does.
        reason: What was found, in words.
        value: What was measured; none where nothing was.
        bound: The bound; none where it is only shown.
    """

    kind: Literal["package", "unit", "user", "replay", "canary"]
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


class VersionCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one version has done in some time.

    Attributes:
        answers: How often it answered.
        errors: How often it was asked in vain, late ones left out.
        late: How often it was later than the deadline.
        buckets: Its answers by duration: so many within each bound, and the rest.
        bounds_us: The upper bounds of the buckets, in microseconds.
    """

    answers: int = 0
    errors: int = 0
    late: int = 0
    buckets: tuple[int, ...] = ()
    bounds_us: tuple[int, ...] = ()

    @property
    def asked(self) -> int:
        """How often it was asked."""
        return self.answers + self.errors + self.late

    def without(self, before: VersionCounts) -> VersionCounts:
        """What it has done since then."""
        return self._joined(before, -1)

    def plus(self, other: VersionCounts) -> VersionCounts:
        """What both have done."""
        return self._joined(other, 1)

    def quantile_us(self, share: float) -> int:
        """The bound that so many of its answers kept; twice the last one beyond it, 0 for none."""
        wanted, seen = share * sum(self.buckets), 0
        for bound_us, count in zip(self.bounds_us, self.buckets, strict=False):
            seen += count
            if seen and seen >= wanted:
                return bound_us
        return 2 * self.bounds_us[-1] if sum(self.buckets) else 0

    def _joined(self, other: VersionCounts, sign: int) -> VersionCounts:
        width = max(len(self.buckets), len(other.buckets))
        mine = (*self.buckets, *[0] * (width - len(self.buckets)))
        theirs = (*other.buckets, *[0] * (width - len(other.buckets)))
        return VersionCounts(
            answers=self.answers + sign * other.answers,
            errors=self.errors + sign * other.errors,
            late=self.late + sign * other.late,
            buckets=tuple(a + sign * b for a, b in zip(mine, theirs, strict=True)),
            bounds_us=self.bounds_us or other.bounds_us,
        )


class ProcessCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What the versions of one deployment have done in one serving process since it started.

    Attributes:
        process: Names the process for ever: its id and when it started.
        deployment: Name of the deployment.
        versions: Counts by version, as text.
    """

    process: str
    deployment: str
    versions: Mapping[str, VersionCounts]


class CanaryCounts(Record, frozen=True):
    """What serving processes had counted when a canary's step began, and when looked at last.

    Attributes:
        rollout_id: The rollout.
        step: The step.
        began: Counts by process at the step's beginning.
        last: Counts by process as they were seen last, of processes that are gone too.
    """

    KIND: ClassVar[str] = "canary_counts"

    rollout_id: str
    step: int
    began: Mapping[str, ProcessCounts]
    last: Mapping[str, ProcessCounts]

    @property
    def key(self) -> str:
        """The rollout's id."""
        return self.rollout_id

    def of(self, version: int) -> VersionCounts:
        """What a version has done since the step began, in all processes."""
        total, name = VersionCounts(), str(version)
        for process, last in self.last.items():
            began = self.began.get(process)
            before = began.versions.get(name, VersionCounts()) if began else VersionCounts()
            total = total.plus(last.versions.get(name, VersionCounts()).without(before))
        return total


class CanaryStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a canary, as it ended.

    Attributes:
        share: Share of the entities that met the new version.
        began_at: When it began.
        ended_at: When it ended.
        answers: How often the new version answered.
        checks: How it compares with the champion.
    """

    share: float
    began_at: datetime
    ended_at: datetime
    answers: int
    checks: tuple[DeployCheck, ...]


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
        canary: The plan of its canary, as a document; empty for none.
        step: The canary's step that it is at, from 0.
        step_at: When that step began; none before the first.
        steps: The steps that have ended.
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
    canary: Mapping[str, object] = {}
    step: int = 0
    step_at: datetime | None = None
    steps: tuple[CanaryStep, ...] = ()
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
