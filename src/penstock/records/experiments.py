"""Experiments: where each stands, and what was seen of its arms at each look."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from .base import Record

__all__ = [
    "LIVE_EXPERIMENTS",
    "Arm",
    "ExperimentLook",
    "ExperimentStage",
    "ExperimentState",
    "GuardrailLook",
    "Verdict",
]

ExperimentStage = Literal["starting", "running", "decided", "promoting", "ending", "ended"]
LIVE_EXPERIMENTS: tuple[ExperimentStage, ...] = (
    "starting", "running", "decided", "promoting", "ending",
)  # fmt: skip
"""The stages of an experiment that is under way."""

Verdict = Literal["", "win", "loss", "undecided", "invalid", "disturbed", "stopped"]


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one arm of an experiment.

    Attributes:
        entities: Entities that were scored.
        scores: Their scores.
        answered: How many of these the arm's own version gave; a fallback gave the others.
        observed_entities: Entities with a score whose outcome is known.
        observed: Scores whose outcome is known.
        effective: As how many entities with equally many such scores they count.
        mean: Mean of the metric over those; none without any.
    """

    entities: int = 0
    scores: int = 0
    answered: int = 0
    observed_entities: int = 0
    observed: int = 0
    effective: float = 0.0
    mean: float | None = None


class GuardrailLook(msgspec.Struct, frozen=True, kw_only=True):
    """A guardrail as it was seen at one look.

    Attributes:
        metric: What is measured.
        difference: The tried version's mean less the champion's; none where too little is known.
        low: Lower end of its interval.
        high: Upper end.
        breached: Whether it is surely worse by more than allowed.
    """

    metric: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    breached: bool = False


class ExperimentLook(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment as it was seen at one time.

    Attributes:
        at_us: Scores up to this time, in microseconds since 1970 UTC.
        tried: The arm of the version that is tried.
        champion: The champion's.
        difference: The tried arm's mean less the champion's; none where too little is known.
        low: Lower end of its interval, which is valid at every look.
        high: Upper end.
        ratio: Evidence against the share of the tried arm among the scored entities: the smaller
            the stronger; see ``penstock.algebra.ratio_evidence``.
        observed_ratio: The same among the entities with a known outcome.
        without_key: Scores of requests that named no entity; they belong to no arm.
        guardrails: Each guardrail.
    """

    at_us: int
    tried: Arm
    champion: Arm
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float = 1.0
    observed_ratio: float = 1.0
    without_key: int = 0
    guardrails: tuple[GuardrailLook, ...] = ()


class ExperimentState(Record, frozen=True):
    """An experiment of a deployment. At most one splits the traffic of a deployment at a time.

    Attributes:
        deployment: Name of the deployment.
        name: Name of the experiment.
        model: Name of the model.
        plan: What was declared when it began, as a document.
        metric: What is measured of each score.
        smaller_is_better: Whether a smaller mean is better.
        version: The version that is tried.
        champion: The version it is compared with.
        target: What the version is called among the routes: ``@3``.
        shares: Share of the entities of each challenger while it runs, by target; others end it.
        stage: ``starting`` until every serving process splits the traffic; ``running``; ``decided``
            while the traffic stays split until somebody decides; ``promoting``; ``ending`` when
            the traffic is no longer split and nobody was told yet; ``ended``.
        verdict: ``win``, ``loss``, ``undecided`` in the time it had, ``invalid`` where entities do
            not fall to the arms as they should, ``disturbed`` where versions or routes changed
            meanwhile, ``stopped`` by hand; empty while it runs.
        reason: The verdict in a sentence.
        outcome: What was done about it.
        split: The changes of the routes that it began with, by their ``split``; 0 where that was
            not kept.
        crowned: Since when its champion is champion, as the aliases say it; -1 where that was not
            kept.
        asked_at: When it began.
        from_us: Scores from this time on count, in microseconds since 1970 UTC; 0 before.
        ended_at: When the traffic was no longer split.
        looks: Looks from the first to the last; of long experiments not every one is kept.
    """

    KIND: ClassVar[str] = "experiment"
    INDEXED: ClassVar[tuple[str, ...]] = ("deployment", "stage")

    deployment: str
    name: str
    model: str
    plan: Mapping[str, object]
    metric: str
    smaller_is_better: bool
    version: int
    champion: int
    target: str
    asked_at: datetime
    shares: Mapping[str, float] = {}
    split: int = 0
    crowned: int = -1
    stage: ExperimentStage = "starting"
    verdict: Verdict = ""
    reason: str = ""
    outcome: str = ""
    from_us: int = 0
    ended_at: datetime | None = None
    looks: tuple[ExperimentLook, ...] = ()

    @property
    def key(self) -> str:
        """``deployment/name``."""
        return f"{self.deployment}/{self.name}"

    @property
    def is_live(self) -> bool:
        """Whether it is under way."""
        return self.stage in LIVE_EXPERIMENTS

    @property
    def label(self) -> str:
        """The version that is tried: ``btc-direction@3``."""
        return f"{self.model}@{self.version}"
