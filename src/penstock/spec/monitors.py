"""Monitors: what is measured of a live deployment, the bounds, and what a breach does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from penstock.errors import nearest

from .base import Declared, Value
from .deployments import Deployment
from .durations import duration_us
from .models import METRICS, SMALLER_IS_BETTER

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "AccuracyBound",
    "Action",
    "DriftBound",
    "LatencyBound",
    "Monitor",
    "notify",
    "p99",
    "psi",
    "retrain",
    "rollback",
    "rolling",
]


class DriftBound(Value, frozen=True, omit_defaults=True):
    """Population stability index of each feature against the training rows.

    Attributes:
        max: The greatest index allowed for any feature.
        over: The scores it is computed from.
        min_rows: With fewer scores there is no verdict.
    """

    max: float = 0.2
    over: str = "7d"
    min_rows: int = 200

    def _faults(self) -> Iterator[str]:
        yield from _window_faults(self.over)
        if self.max <= 0:
            yield f"max={self.max}; an index is above 0"


class AccuracyBound(Value, frozen=True, omit_defaults=True):
    """A metric over the scores whose observation has arrived.

    Attributes:
        metric: The metric.
        over: The scores it is computed from.
        min: Smallest value allowed.
        max: Greatest value allowed.
        min_rows: With fewer observed scores there is no verdict.
    """

    metric: str
    over: str = "7d"
    min: float | None = None
    max: float | None = None
    min_rows: int = 200

    def _faults(self) -> Iterator[str]:
        yield from _window_faults(self.over)
        if (self.min is None) == (self.max is None):
            side = "max" if self.metric in SMALLER_IS_BETTER else "min"
            yield f"give one bound; for {self.metric} that is {side}="


class LatencyBound(Value, frozen=True, omit_defaults=True):
    """99th percentile of the time from request to answer, inside the server.

    Attributes:
        max: The greatest allowed, such as ``"20ms"``.
        over: The scores it is computed from.
        min_rows: With fewer scores there is no verdict.
    """

    max: str
    over: str = "1h"
    min_rows: int = 200

    @property
    def max_us(self) -> int:
        """The greatest allowed, in microseconds."""
        return duration_us(self.max)

    def _faults(self) -> Iterator[str]:
        yield from _window_faults(self.over)
        yield from _window_faults(self.max, "max")


class Action(Value, frozen=True, omit_defaults=True):
    """What a breach does.

    Attributes:
        kind: ``notify`` tells a channel, ``rollback`` brings the previous version back (where
            there is one), ``retrain`` trains the model again.
        channel: Whom to tell.
    """

    kind: Literal["notify", "rollback", "retrain"]
    channel: str = ""


class _Watch(Declared, frozen=True):
    deployment: Deployment


class Monitor(_Watch, frozen=True, kw_only=True, tag="monitor"):
    """Watches a deployment. Takes its name when none is given.

    Attributes:
        deployment: What is watched.
        drift: Bound on the drift of its features.
        accuracy: Bound on how right it is.
        latency: Bound on how long it takes.
        every: How often it looks.
        on_breach: What a breach does, in order.
    """

    name: str = ""
    drift: DriftBound | None = None
    accuracy: AccuracyBound | None = None
    latency: LatencyBound | None = None
    every: str = "1m"
    on_breach: Sequence[Action] = ()

    def __post_init__(self) -> None:
        if not self.name:
            msgspec.structs.force_setattr(self, "name", self.deployment.name)
        super().__post_init__()

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.drift is None and self.accuracy is None and self.latency is None:
            yield "it watches nothing; give drift, accuracy or latency"
        yield from _window_faults(self.every, "every")
        known = METRICS[self.deployment.model.dataset.task]
        if self.accuracy is not None and self.accuracy.metric not in known:
            name = self.accuracy.metric
            task = self.deployment.model.dataset.task
            yield f"accuracy: {name!r} is no metric of {task}. {nearest(name, known)}"


def psi(*, max: float = 0.2, over: str = "7d", min_rows: int = 200) -> DriftBound:  # noqa: A002
    """Bound the population stability index of each feature."""
    return DriftBound(max=max, over=over, min_rows=min_rows)


def rolling(
    metric: str,
    *,
    over: str = "7d",
    min: float | None = None,  # noqa: A002 - reads as what it is
    max: float | None = None,  # noqa: A002 - reads as what it is
    min_rows: int = 200,
) -> AccuracyBound:
    """Bound a metric over the scores whose observation has arrived."""
    return AccuracyBound(metric=metric, over=over, min=min, max=max, min_rows=min_rows)


def p99(*, max: str, over: str = "1h", min_rows: int = 200) -> LatencyBound:  # noqa: A002
    """Bound the 99th percentile of the latency."""
    return LatencyBound(max=max, over=over, min_rows=min_rows)


def notify(channel: str) -> Action:
    """Tell a channel."""
    return Action(kind="notify", channel=channel)


def rollback() -> Action:
    """Bring the previous version back."""
    return Action(kind="rollback")


def retrain() -> Action:
    """Train the model again."""
    return Action(kind="retrain")


def _window_faults(text: str, name: str = "over") -> Iterator[str]:
    try:
        length = duration_us(text)
    except ValueError as error:
        yield f"{name}: {error}"
    else:
        if not length:
            yield f"{name} is zero"
