"""Deployments: a named endpoint, who answers on it, and when something happens by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from .base import Declared, Named, Value, unique_faults
from .cron import cron_times
from .durations import duration_us
from .models import Model
from .sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BatchScoring",
    "Cron",
    "Deployment",
    "Fallback",
    "NewData",
    "Route",
    "Schedule",
    "Trigger",
    "challenger",
    "champion",
    "cron",
    "new_data",
    "shadow",
]


class NewData(Value, frozen=True, tag="new_data"):
    """Whenever a batch of the source has been stored."""

    source: Source


class Cron(Value, frozen=True, tag="cron"):
    """At the times of a cron expression, in UTC: minute, hour, day, month, weekday."""

    expression: str

    def _faults(self) -> Iterator[str]:
        try:
            cron_times(self.expression)
        except ValueError as error:
            yield str(error)


Schedule = NewData | Cron


class Route(Value, frozen=True, omit_defaults=True):
    """A share of the traffic, and who answers it.

    Attributes:
        role: ``champion`` takes what others leave; ``challenger`` takes ``share`` of the entities;
            ``shadow`` scores everything, after the answer, and answers nothing.
        alias: The registry's alias whose version serves.
        share: Share of the entities, by hash of their key: the same entity always meets the same
            route.
    """

    role: Literal["champion", "challenger", "shadow"]
    alias: str
    share: float = 0.0

    def _faults(self) -> Iterator[str]:
        if self.role == "challenger" and not 0 < self.share < 1:
            yield f"challenger's share={self.share} is not between 0 and 1"


class Fallback(Value, frozen=True, omit_defaults=True):
    """What answers when a route is late or fails.

    Attributes:
        deadline: Longest wait for the route, such as ``"20ms"``.
        to: ``previous`` answers with the version before the champion, ``constant`` with ``value``.
            Where there is no previous version, or it is late too, ``value`` answers.
        value: The constant; none makes the request fail with 503.
    """

    deadline: str
    to: Literal["previous", "constant"] = "previous"
    value: float | None = None

    @property
    def deadline_us(self) -> int:
        """Longest wait in microseconds."""
        return duration_us(self.deadline)

    def _faults(self) -> Iterator[str]:
        try:
            duration_us(self.deadline)
        except ValueError as error:
            yield f"deadline: {error}"
        if self.to == "constant" and self.value is None:
            yield "to='constant' needs a value"


class BatchScoring(Value, frozen=True, omit_defaults=True):
    """Score every new row of the spine into the scores table."""

    on: Schedule


class Deployment(Named, frozen=True, kw_only=True, tag="deployment"):
    """A named endpoint.

    Attributes:
        model: The model that answers.
        routes: Who takes which share; one champion.
        fallback: What answers when a route is late.
        batch: Asynchronous scoring of new rows.
        stale: What happens to a request by entity while a view that is read is older than its
            ``freshness``: ``serve`` answers and counts it, ``refuse`` fails it with 503, or answers
            with the fallback where one is declared.
        precompute: Keep the whole feature vector of each entity ready in the online store, for a
            model with many windows; the values are the same, and cost one look.
    """

    model: Model
    routes: Sequence[Route] = (Route(role="champion", alias="champion"),)
    fallback: Fallback | None = None
    batch: BatchScoring | None = None
    stale: Literal["serve", "refuse"] = "serve"
    precompute: bool = False

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        roles = [route.role for route in self.routes]
        if roles.count("champion") != 1:
            yield f"it has {roles.count('champion')} champion routes; it needs exactly one"
        yield from unique_faults("route", [f"{route.role} {route.alias}" for route in self.routes])
        if self.stale not in {"serve", "refuse"}:
            yield f"stale={self.stale!r}; give 'serve' or 'refuse'"
        total = sum(route.share for route in self.routes)
        if total >= 1:
            yield f"challengers share {total:g} of the traffic; leave some to the champion"


class _Retraining(Declared, frozen=True):
    model: Model


class Trigger(_Retraining, frozen=True, kw_only=True, tag="trigger"):
    """When a model is trained again by itself. Takes the model's name when none is given.

    Attributes:
        model: The model to train.
        on: The occasions.
    """

    on: Sequence[Schedule]
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            msgspec.structs.force_setattr(self, "name", self.model.name)
        super().__post_init__()

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if not self.on:
            yield "it has no occasion; give ps.new_data(source) or ps.cron(...)"


def champion() -> Route:
    """The version that the alias ``champion`` points to."""
    return Route(role="champion", alias="champion")


def challenger(*, share: float) -> Route:
    """The version that the alias ``challenger`` points to, for a share of the entities."""
    return Route(role="challenger", alias="challenger", share=share)


def shadow(alias: str) -> Route:
    """A version that scores everything and answers nothing."""
    return Route(role="shadow", alias=alias)


def new_data(source: Source) -> NewData:
    """Whenever a batch of the source has been stored."""
    return NewData(source=source)


def cron(expression: str) -> Cron:
    """At the times of a cron expression, in UTC."""
    return Cron(expression=expression)
