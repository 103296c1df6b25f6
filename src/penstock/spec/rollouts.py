"""How a new version comes behind a deployment: its checks, its canary, who approves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from .base import Value, unique_faults
from .durations import duration_us
from .expressions import Function

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Approval", "Canary", "Checks"]


class Checks(Value, frozen=True, omit_defaults=True):
    """What a version has to hold before it takes traffic, beyond what is always checked.

    Always checked are its files, environment and formats, that it loads in a process of its own,
    that it predicts its sample as it did when it was trained, and that its predictions are
    finite and, for a classification, between 0 and 1.

    Attributes:
        latency: Longest time that one row may take, such as ``"2ms"``; the median of many calls.
        latency_64: The same for a batch of 64 rows.
        memory_mb: How many megabytes (1e6 bytes) loading it may take.
        low: Smallest prediction allowed on the sample.
        high: Greatest prediction allowed on the sample.
        functions: Checks of your own, each as ``ps.function(body)``. It is called with the
            predictions of the sample (float64, one per row) and its features (a mapping of full
            name to a float64 array, NaN for null). It returns None or True where all is well, and
            False or a text that says what is not.
        replay: How many of the newest stored requests the version is asked again; 0 for none.
        mean_difference: Greatest mean difference from what was answered then.
        max_difference: Greatest difference of any single answer.
        max_flips: Greatest share of answers that fall on the other side of 0.5; for a
            classification.
    """

    latency: str = ""
    latency_64: str = ""
    memory_mb: float | None = None
    low: float | None = None
    high: float | None = None
    functions: Sequence[Function] = ()
    replay: int = 200
    mean_difference: float | None = None
    max_difference: float | None = None
    max_flips: float | None = None

    def _faults(self) -> Iterator[str]:
        for name in ("latency", "latency_64"):
            text = getattr(self, name)
            if text:
                yield from _duration_faults(name, text)
        for name in ("memory_mb", "mean_difference", "max_difference"):
            value = getattr(self, name)
            if value is not None and value < 0:
                yield f"{name}={value} is negative"
        if self.max_flips is not None and not 0 <= self.max_flips <= 1:
            yield f"max_flips={self.max_flips} is no share; give a number from 0 to 1"
        if self.low is not None and self.high is not None and self.low > self.high:
            yield f"low={self.low} is above high={self.high}"
        if self.replay < 0:
            yield f"replay={self.replay} is negative; give 0 to replay nothing"
        yield from _function_faults(self.functions)


class Canary(Value, frozen=True, omit_defaults=True):
    """A new version takes a growing share of the entities before it takes all.

    An entity that has met the new version goes on meeting it. After each step the new version's
    errors, late answers and latency, and a metric where outcomes have come, are compared with the
    champion's in the same time. A bound that breaks brings all traffic back at once.

    Attributes:
        steps: The shares, growing, each above 0 and below 1.
        every: How long each step takes at least, such as ``"10m"``.
        min_scores: How many answers of the new version each step needs at least.
        max_errors: How much greater than the champion's its share of errors may be.
        max_late: The same for answers past the deadline.
        latency: How many times the champion's its 99th percentile of latency may be. Below
            ``latency_floor`` no latency counts as slow.
        latency_floor: See above.
        metric: The metric that is compared where outcomes have come; empty for none.
        min_observed: With fewer outcomes of either version the metric is not compared.
        metric_drop: How much worse than the champion's the metric may be.
        most: How long a step may take at most before the canary is called off for want of answers;
            empty for as long as it takes.
    """

    steps: Sequence[float] = (0.05, 0.25, 0.5)
    every: str = "10m"
    min_scores: int = 100
    max_errors: float = 0.01
    max_late: float = 0.01
    latency: float = 2.0
    latency_floor: str = "5ms"
    metric: str = ""
    min_observed: int = 200
    metric_drop: float = 0.02
    most: str = ""

    @property
    def every_us(self) -> int:
        """How long each step takes at least, in microseconds."""
        return duration_us(self.every)

    @property
    def most_us(self) -> int:
        """How long a step may take, in microseconds; 0 for as long as it takes."""
        return duration_us(self.most) if self.most else 0

    @property
    def latency_floor_us(self) -> int:
        """Below it no latency counts as slow, in microseconds."""
        return duration_us(self.latency_floor)

    def _faults(self) -> Iterator[str]:
        if not self.steps:
            yield "it has no steps; give shares such as [0.05, 0.25, 0.5]"
        for share in self.steps:
            if not 0 < share < 1:
                yield f"the step {share} is no share; give a number above 0 and below 1"
        if list(self.steps) != sorted(set(self.steps)):
            yield f"steps={list(self.steps)} do not grow"
        yield from self._bound_faults()

    def _bound_faults(self) -> Iterator[str]:
        yield from _duration_faults("every", self.every)
        yield from _duration_faults("latency_floor", self.latency_floor)
        if self.most:
            yield from _duration_faults("most", self.most)
        for name in ("max_errors", "max_late", "metric_drop"):
            if getattr(self, name) < 0:
                yield f"{name}={getattr(self, name)} is negative"
        if self.latency < 1:
            yield f"latency={self.latency} is below 1; the same latency must be allowed"
        for name in ("min_scores", "min_observed"):
            if getattr(self, name) < 1:
                yield f"{name}={getattr(self, name)}; give at least 1"


class Approval(Value, frozen=True, omit_defaults=True):
    """Somebody has to approve a version that passed its checks before it takes traffic.

    Attributes:
        role: The role it takes at least: ``writer`` or ``admin``.
        four_eyes: Whether it must be somebody else than who asked for the deployment.
    """

    role: Literal["writer", "admin"] = "admin"
    four_eyes: bool = True

    def _faults(self) -> Iterator[str]:
        if self.role not in {"writer", "admin"}:
            yield f"role={self.role!r}; give 'writer' or 'admin'"


def _function_faults(functions: Sequence[object]) -> Iterator[str]:
    known = [one for one in functions if isinstance(one, Function)]
    for one in functions:
        if not isinstance(one, Function):
            yield f"functions has {one!r}; give ps.function(...) of a function"
    for one in known:
        if one.args:
            yield f"function {one.qualname!r} names columns; a check is given all of them"
    yield from unique_faults("function", [one.qualname for one in known])


def _duration_faults(name: str, text: str) -> Iterator[str]:
    try:
        length_us = duration_us(text)
    except ValueError as error:
        yield f"{name}: {error}"
    else:
        if not length_us:
            yield f"{name} is zero"
