"""Deployments: a named endpoint, who answers on it, and when something happens by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from penstock.errors import nearest

from .bandits import Bandit
from .base import Declared, Named, Value, unique_faults
from .cron import cron_times
from .experiments import Experiment
from .graphs import Graph
from .models import METRICS, Model
from .retries import Retry
from .rollouts import Approval, Canary, Checks
from .routes import Fallback, Route, champion
from .score_logs import ScoreLog
from .sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BatchScoring",
    "Cron",
    "Deployment",
    "NewData",
    "NewPins",
    "Schedule",
    "Trigger",
    "cron",
    "new_data",
    "new_pins",
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


class NewPins(Value, frozen=True, tag="new_pins"):
    """Whenever a version of a graph made now would be pinned to other versions than its newest is.

    That is when a champion that it predicts with has changed, and when it can be made at all for
    the first time.
    """


Schedule = NewData | Cron | NewPins


class BatchScoring(Value, frozen=True, omit_defaults=True):
    """Score every new row of the spine into the scores table.

    Attributes:
        on: The occasion.
        retry: What becomes of a run of it that fails.
    """

    LATER: ClassVar[tuple[str, ...]] = ("retry",)

    on: Schedule
    retry: Retry = Retry()

    def _faults(self) -> Iterator[str]:
        if isinstance(self.on, NewPins):
            yield "ps.new_pins() is for a trigger; give ps.new_data(source) or ps.cron(...)"


class Deployment(Named, frozen=True, kw_only=True, tag="deployment"):
    """A named endpoint.

    Attributes:
        model: The model that answers, or the graph.
        routes: Who takes which share; one champion.
        fallback: What answers when a route is late.
        batch: Asynchronous scoring of new rows.
        stale: What happens to a request by entity while a view that is read is older than its
            ``freshness``: ``serve`` answers and counts it, ``refuse`` fails it with 503, or answers
            with the fallback where one is declared.
        missing: What happens to a request by entity while the online store has nothing of its
            entities in any view that is read: ``serve`` answers from the features of an unknown one
            and counts it, ``refuse`` fails it with 422, or answers with the fallback where one is
            declared.
        precompute: Keep the whole feature vector of each entity ready in the online store, for a
            model with many windows; the values are the same, and cost one look.
        checks: What a version has to hold before it takes traffic, beyond what always is checked.
        canary: The steps in which a new version takes traffic; all at once when left out.
        approve: Who has to approve a version that passed its checks; nobody when left out.
        log: What the score log stores of features, and how long scores are kept; all of them for
            ever when left out.
        on_breach: What becomes of a champion that fails or is late again and again: ``return`` to
            the previous version, within two seconds, or ``stay``. What falls back answers
            meanwhile. A pinned champion stays.
        experiment: An A/B experiment with the champion; begins as soon as both versions are there.
        bandit: Versions whose shares follow what they bring.
    """

    LATER: ClassVar[tuple[str, ...]] = (
        "checks", "approve", "canary", "log", "on_breach", "experiment", "bandit", "missing",
    )  # fmt: skip

    model: Model | Graph
    routes: Sequence[Route] = (champion(),)
    fallback: Fallback | None = None
    batch: BatchScoring | None = None
    stale: Literal["serve", "refuse"] = "serve"
    precompute: bool = False
    checks: Checks | None = None
    approve: Approval | None = None
    canary: Canary | None = None
    log: ScoreLog | None = None
    on_breach: Literal["return", "stay"] = "return"
    experiment: Experiment | None = None
    bandit: Bandit | None = None
    missing: Literal["serve", "refuse"] = "serve"

    @property
    def named_routes(self) -> dict[str, Route]:
        """The routes by the name they have in a status.

        That is the role, with the target, header or rule where one of that role comes before.
        """
        found: dict[str, Route] = {}
        for route in self.routes:
            name = route.role if route.role not in found else f"{route.role} {route.label}"
            found[name] = route
        return found

    @property
    def ready_space(self) -> str:
        """The online space of the batch scores it answers with; empty where it does not."""
        wanted = any(route.role == "precomputed" for route in self.routes)
        return f"scores:{self.name}" if wanted else ""

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        roles = [route.role for route in self.routes]
        if roles.count("champion") != 1:
            yield f"it has {roles.count('champion')} champion routes; it needs exactly one"
        if roles.count("cached") > 1:
            yield f"it has {roles.count('cached')} cached routes; one is enough"
        if "precomputed" in roles:
            yield from self._ready_faults(roles.count("precomputed"))
        yield from self._keep_faults()
        yield from unique_faults("route", [f"{route.role} {route.label}" for route in self.routes])
        dataset = self.model.dataset
        for route in self.routes:
            yield from route.unknown((*dataset.entity_dtypes, *dataset.request_fields))
        if self.stale not in {"serve", "refuse"}:
            yield f"stale={self.stale!r}; give 'serve' or 'refuse'"
        if self.missing not in {"serve", "refuse"}:
            yield f"missing={self.missing!r}; give 'serve' or 'refuse'"
        yield from self._rollout_faults()
        yield from self._trial_faults()
        yield from self._bandit_faults()
        if self.on_breach not in {"return", "stay"}:
            yield f"on_breach={self.on_breach!r}; give 'return' or 'stay'"
        total = sum(route.share for route in self.routes)
        if total >= 1:
            yield f"challengers share {total:g} of the traffic; leave some to the champion"

    def _ready_faults(self, count: int) -> Iterator[str]:
        if count > 1:
            yield f"it has {count} precomputed routes; one is enough"
        if self.batch is None:
            yield "precomputed answers with batch scores; give batch=ps.BatchScoring(on=...)"
        if self.experiment is not None or self.bandit is not None:
            yield "precomputed scores count for no arm of an experiment or a bandit; leave one out"

    def _trial_faults(self) -> Iterator[str]:
        task = self.model.dataset.task
        # Routes with an order of their own are those that an experiment or bandit has by now.
        others = sum(route.share for route in self.routes if not route.salt)
        if self.experiment is not None:
            yield from self.experiment.faults_for(task)
            if self.experiment.share + others >= 1:
                yield (
                    f"experiment: its share of {self.experiment.share:g} and the challengers' "
                    f"{others:g} leave nothing to the champion"
                )
            asked = {"approval": self.approve, "canary": self.canary}
            passed = [name for name, one in asked.items() if one is not None]
            if passed and self.experiment.on_win == "promote":
                yield (
                    f"experiment: on_win='promote' would pass by the {' and the '.join(passed)} "
                    "that a version has to go by; give on_win='report'"
                )

    def _bandit_faults(self) -> Iterator[str]:
        if self.bandit is None:
            return
        yield from self.bandit.faults_for(self.model.dataset.task)
        if self.experiment is not None:
            yield "it has an experiment and a bandit, which would move each other's shares"
        if self.canary is not None:
            yield "it has a bandit and a canary, which would move each other's shares"
        if any(route.role == "challenger" and not route.salt for route in self.routes):
            yield "it has a bandit and challengers; make them arms of the bandit"

    def _keep_faults(self) -> Iterator[str]:
        """What is answered with has to be there, as lineage and replay ask for it."""
        if self.log is None or not self.log.keep:
            return
        for route in self.routes:
            if route.role == "precomputed" and route.max_age_us > self.log.keep_us:
                yield (
                    f"scores are kept for {self.log.keep} and precomputed ones answer for "
                    f"{route.max_age}; keep them at least as long"
                )

    def _rollout_faults(self) -> Iterator[str]:
        metric, task = self.canary.metric if self.canary else "", self.model.dataset.task
        if metric and metric not in METRICS[task]:
            yield f"canary: {metric!r} is no metric of {task}. {nearest(metric, METRICS[task])}"
        flips = self.checks.max_flips if self.checks else None
        if flips is not None and self.model.dataset.task != "classification":
            yield "checks: max_flips is for a classification; bound mean_difference instead"


class _Retraining(Declared, frozen=True):
    model: Model | Graph


class Trigger(_Retraining, frozen=True, kw_only=True, tag="trigger"):
    """When a model is trained again by itself. Takes the model's name when none is given.

    Attributes:
        model: The model to train.
        on: The occasions.
        retry: What becomes of a training of it that fails.
    """

    LATER: ClassVar[tuple[str, ...]] = ("retry",)

    on: Sequence[Schedule]
    name: str = ""
    retry: Retry = Retry()

    def __post_init__(self) -> None:
        if not self.name:
            msgspec.structs.force_setattr(self, "name", self.model.name)
        super().__post_init__()

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if not self.on:
            yield "it has no occasion; give ps.new_data(source) or ps.cron(...)"
        if any(isinstance(one, NewPins) for one in self.on) and not isinstance(self.model, Graph):
            yield f"ps.new_pins() is for a graph, and {self.model.name!r} is a model"


def new_data(source: Source) -> NewData:
    """Whenever a batch of the source has been stored."""
    return NewData(source=source)


def new_pins() -> NewPins:
    """Whenever a model of a graph has moved on to another version; for a trigger of the graph."""
    return NewPins()


def cron(expression: str) -> Cron:
    """At the times of a cron expression, in UTC."""
    return Cron(expression=expression)
