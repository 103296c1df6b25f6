"""An experiment: two versions of a model on two parts of the entities, and when it is over."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from penstock.errors import nearest

from .base import NAME_CHARACTERS, Value, unique_faults
from .durations import duration_us
from .routes import ALIASES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "EXPERIMENT_LOSSES",
    "MEASURES",
    "OUTCOME",
    "Experiment",
    "Guardrail",
    "value_faults",
]

OUTCOME = "outcome"
"""The metric that is the observed value itself, whatever was predicted."""

MEASURES = "measures."
"""What a metric begins with that was told beside the observed value: ``measures.revenue``."""

MEASURED = re.compile(r"measures\.[a-z][a-z0-9_]{0,62}")
LATENCY = "latency_ms"

EXPERIMENT_LOSSES: Mapping[str, tuple[str, ...]] = {
    "classification": ("log_loss", "brier", "error"),
    "regression": ("squared_error", "absolute_error"),
}
"""What can be measured of each score whose outcome is known, by task; the first is the default."""

ALPHA_MOST = 0.5
MONTHS = 3_660.0


def value_faults(whose: str, metric: str, task: str, *more: str) -> Iterator[str]:
    """Yield what keeps a metric from being measured of each score.

    Args:
        whose: Whose metric it is.
        metric: The metric.
        task: ``classification`` or ``regression``.
        more: What else whose metric it is may measure.
    """
    known = (*EXPERIMENT_LOSSES[task], OUTCOME, *more)
    if metric not in known and not MEASURED.fullmatch(metric):
        hint = nearest(metric, known)
        yield f"{whose}: {metric!r} cannot be measured of a score of {task}. {hint}"


class Guardrail(Value, frozen=True, omit_defaults=True):
    """What the new version must not make worse, whatever it does to the metric.

    Attributes:
        metric: Measured of each score: as for the experiment, or ``latency_ms``, the time to answer
            in milliseconds, which needs no outcome.
        worse: By how much its mean may be worse; a difference that is surely greater ends the
            experiment as lost.
        better: For ``outcome`` and measures: whether ``larger`` or ``smaller`` is better.
    """

    metric: str
    worse: float = 0.0
    better: Literal["larger", "smaller"] = "larger"

    def _faults(self) -> Iterator[str]:
        if self.worse < 0:
            yield f"worse={self.worse} is negative; say how much worse it may be"


class Experiment(Value, frozen=True, omit_defaults=True):
    """An A/B experiment between the champion and another version, judged at any time.

    Each entity belongs to one arm, by a hash of its key that the experiment's name salts: the
    halves of one experiment say nothing of the halves of another. The interval for the difference
    of the means is valid at every look and not only at one that was planned, so the experiment may
    end as soon as it excludes zero.

    Attributes:
        name: Names it for ever; another question takes another name.
        alias: The alias whose version is tried, as it stands when the experiment begins.
        version: The version by its number, in place of an alias.
        share: Share of the entities that meet it; what the other routes leave meets the champion.
        metric: Measured of each score whose outcome is known. A classification has ``log_loss``,
            ``brier`` and ``error`` (the wrong side of 0.5), a regression ``squared_error`` and
            ``absolute_error``; of both the smaller is better, and the first is the default. Both
            have ``outcome``, the observed value itself, and ``measures.revenue`` for what was
            observed beside it under that name.
        better: For ``outcome`` and measures: whether ``larger`` or ``smaller`` is better.
        alpha: Chance that it ever finds a difference where there is none.
        min_scores: Scores with an outcome that each arm needs before anything is decided.
        expected_scores: At so many scores with an outcome, of both arms, the interval is made to be
            narrowest; before and after it is valid as well.
        max_days: It ends undecided after so many days.
        every: How often it is looked at, such as ``"10m"``.
        on_win: ``promote`` makes the version the champion; ``report`` leaves the traffic split
            until somebody decides.
        on_loss: ``return`` gives all traffic back to the champion; ``report`` as above.
        guardrails: What the version must not make worse.
    """

    name: str
    alias: str = ""
    version: int = 0
    share: float = 0.5
    metric: str = ""
    better: Literal["larger", "smaller"] = "larger"
    alpha: float = 0.05
    min_scores: int = 200
    expected_scores: int = 10_000
    max_days: float = 30.0
    every: str = "10m"
    on_win: Literal["promote", "report"] = "report"
    on_loss: Literal["return", "report"] = "return"
    guardrails: Sequence[Guardrail] = ()

    @property
    def target(self) -> str:
        """Whom it tries: an alias, or ``@3`` for a version."""
        return f"@{self.version}" if self.version else self.alias or "candidate"

    @property
    def every_us(self) -> int:
        """How often it is looked at, in microseconds."""
        return duration_us(self.every)

    def metric_of(self, task: str) -> str:
        """What is measured of each score of a task."""
        return self.metric or EXPERIMENT_LOSSES[task][0]

    def faults_for(self, task: str) -> Iterator[str]:
        """Yield what does not go with the model's task.

        Args:
            task: ``classification`` or ``regression``.
        """
        if self.metric:
            yield from value_faults("experiment", self.metric, task)
        for one in self.guardrails:
            if one.metric != LATENCY:
                yield from value_faults("experiment: guardrail", one.metric, task, LATENCY)

    def _faults(self) -> Iterator[str]:
        if not self.name or not set(self.name) <= NAME_CHARACTERS:
            yield f"name {self.name!r}: use lower-case letters, digits, '_' and '-'"
        if self.alias and self.version:
            yield "it names an alias and a version; give one of them"
        if self.version < 0:
            yield f"version={self.version} is no version"
        if self.alias and self.alias not in ALIASES:
            yield f"there is no alias {self.alias!r}. {nearest(self.alias, ALIASES)}"
        if self.alias == "champion":
            yield "the champion is the other arm; name the version to be tried"
        if not 0 < self.share < 1:
            yield f"share={self.share} is not between 0 and 1"
        yield from self._stop_faults()
        if self.on_win not in {"promote", "report"}:
            yield f"on_win={self.on_win!r}; give 'promote' or 'report'"
        if self.on_loss not in {"return", "report"}:
            yield f"on_loss={self.on_loss!r}; give 'return' or 'report'"
        yield from unique_faults("guardrail", [one.metric for one in self.guardrails])

    def _stop_faults(self) -> Iterator[str]:
        if self.better not in {"larger", "smaller"}:
            yield f"better={self.better!r}; give 'larger' or 'smaller'"
        if not 0 < self.alpha < ALPHA_MOST:
            yield f"alpha={self.alpha} is no small chance; give a number such as 0.05"
        for name in ("min_scores", "expected_scores"):
            if getattr(self, name) < 1:
                yield f"{name}={getattr(self, name)}; give at least 1"
        if not 0 < self.max_days <= MONTHS:
            yield f"max_days={self.max_days} is no length of an experiment; give days, such as 30"
        try:
            if not duration_us(self.every):
                yield "every is zero"
        except ValueError as error:
            yield f"every: {error}"
