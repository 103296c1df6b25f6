"""Models: the candidates tried, how they are searched and chosen, and the gates they must pass."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from penstock.errors import nearest

from .base import Named, Value, unique_faults
from .datasets import Dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "METRICS",
    "Choice",
    "Gate",
    "Integer",
    "Model",
    "Objective",
    "Search",
    "SearchSpace",
    "Trainer",
    "Uniform",
    "at_least",
    "at_most",
    "beats",
    "choice",
    "custom",
    "integer",
    "lightgbm",
    "loguniform",
    "maximise",
    "minimise",
    "sklearn",
    "uniform",
    "xgboost",
]

Metric = str
METRICS: Mapping[str, frozenset[str]] = {
    "classification": frozenset(
        {
            "roc_auc",
            "average_precision",
            "log_loss",
            "brier",
            "accuracy",
            "f1",
            "precision",
            "recall",
        }
    ),
    "regression": frozenset({"rmse", "mae", "r2"}),
}
SMALLER_IS_BETTER = frozenset({"log_loss", "brier", "rmse", "mae"})


class Uniform(Value, frozen=True, tag="uniform"):
    """A float between ``low`` and ``high``; on a logarithmic scale when ``log``."""

    low: float
    high: float
    log: bool = False

    def _faults(self) -> Iterator[str]:
        if not self.low < self.high:
            yield f"low={self.low} is not below high={self.high}"
        if self.log and self.low <= 0:
            yield f"low={self.low} cannot be on a logarithmic scale; it has to be above 0"


class Integer(Value, frozen=True, tag="integer"):
    """A whole number from ``low`` to ``high``, both included; logarithmic when ``log``."""

    low: int
    high: int
    log: bool = False

    def _faults(self) -> Iterator[str]:
        if not self.low < self.high:
            yield f"low={self.low} is not below high={self.high}"
        if self.log and self.low <= 0:
            yield f"low={self.low} cannot be on a logarithmic scale; it has to be above 0"


class Choice(Value, frozen=True, tag="choice"):
    """One of the options."""

    options: tuple[float | int | str | bool | None, ...]

    def _faults(self) -> Iterator[str]:
        if not self.options:
            yield "it has no options"


SearchSpace = Uniform | Integer | Choice
Parameter = SearchSpace | float | int | str | bool | None


class Trainer(Value, frozen=True, omit_defaults=True):
    """One kind of model to try.

    Attributes:
        kind: The library that trains it; ``xgboost`` and ``lightgbm`` are extras; ``custom`` is a
            class of the user; ``graph`` stands for the steps of a ``Graph``.
        estimator: ``module:Class`` of the estimator.
        params: Its parameters: fixed values, or spaces to search.
        prepare: What comes before it: ``impute`` fills nulls with the median, ``scale`` also
            standardises, ``none`` hands nulls on as NaN, ``auto`` is ``none`` for an estimator
            that takes NaN and ``scale`` for others.
        name: The candidate's name; made from the estimator when empty.
        python: Of a custom model: the interpreter of its environment, from the project folder.
        timeout: Of a custom model: longest time for a prediction of up to 4,096 rows.
        memory_mb: Of a custom model: most memory for its data; 0 for no bound.
    """

    kind: Literal["sklearn", "xgboost", "lightgbm", "custom", "graph"]
    estimator: str
    params: Mapping[str, Parameter] = msgspec.field(default_factory=dict)
    prepare: Literal["auto", "none", "impute", "scale"] = "auto"
    name: str = ""
    python: str = ""
    timeout: str = ""
    memory_mb: int = 0

    def __post_init__(self) -> None:
        if not self.name:
            name = self.estimator.rpartition(":")[2]
            msgspec.structs.force_setattr(self, "name", name)
        super().__post_init__()

    def _subject(self) -> str:
        return f"candidate {self.name!r}"

    def _faults(self) -> Iterator[str]:
        module, _, name = self.estimator.rpartition(":")
        if not module or not name:
            yield f"estimator {self.estimator!r} is no 'module:Class'"
        if self.memory_mb < 0:
            yield f"memory_mb={self.memory_mb} is negative"
        if self.kind == "custom" and self.prepare not in {"auto", "none"}:
            yield f"prepare={self.prepare!r}: a custom model prepares its rows itself; leave it out"


class Search(Value, frozen=True, omit_defaults=True):
    """How parameters are searched.

    Attributes:
        trials: Trials for each candidate that has something to search.
        seed: Seed of the search and of every estimator that takes a ``random_state``.
        timeout: Longest time for one candidate, such as ``"10m"``; empty for none.
    """

    trials: int = 20
    seed: int = 0
    timeout: str = ""

    def _faults(self) -> Iterator[str]:
        if self.trials < 1:
            yield f"trials={self.trials}; at least one is needed"


class Objective(Value, frozen=True, omit_defaults=True):
    """The metric by which the best candidate is chosen, on the validation part."""

    metric: Metric
    maximise: bool = True


class Gate(Value, frozen=True, omit_defaults=True):
    """A condition on the test metrics that a candidate has to meet to be ``ready``.

    Attributes:
        rule: ``at_least`` and ``at_most`` compare with ``value``; ``beats`` compares with the
            alias's model on the same test rows and passes where there is none yet.
        metric: The metric compared.
        value: The bound, or by how much ``beats`` has to win.
        alias: Whom to beat.
    """

    rule: Literal["at_least", "at_most", "beats"]
    metric: Metric
    value: float = 0.0
    alias: str = ""

    @property
    def name(self) -> str:
        """How reports call it: ``"roc_auc >= 0.5"``."""
        if self.rule == "beats":
            by = f" by {self.value:g}" if self.value else ""
            return f"{self.metric} beats {self.alias}{by}"
        return f"{self.metric} {'>=' if self.rule == 'at_least' else '<='} {self.value:g}"


class Model(Named, frozen=True, kw_only=True, tag="model"):
    """A model: what it learns from, the candidates, and what the best of them has to pass.

    Attributes:
        dataset: Features, label and split.
        candidates: The trainers to try.
        search: How their parameters are searched.
        select: The metric that chooses among candidates.
        gates: What the best candidate has to pass before it is ``ready``.
    """

    dataset: Dataset
    candidates: Sequence[Trainer]
    search: Search = Search()
    select: Objective = Objective(metric="roc_auc")
    gates: Sequence[Gate] = ()

    @property
    def trainers(self) -> tuple[Trainer, ...]:
        """What is tried."""
        return tuple(self.candidates)

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.dataset.label is None:
            yield f"dataset {self.dataset.name!r} has no label; a model needs one"
        yield from self._candidate_faults()
        known = METRICS[self.dataset.task]
        for metric in (self.select.metric, *(gate.metric for gate in self.gates)):
            if metric not in known:
                yield f"{metric!r} is no metric of {self.dataset.task}. {nearest(metric, known)}"

    def _candidate_faults(self) -> Iterator[str]:
        if not self.candidates:
            yield "it has no candidates"
        for trainer in self.candidates:
            if trainer.kind == "graph":
                yield f"candidate {trainer.name!r} is a graph; declare a ps.Graph instead"
        yield from unique_faults("candidate", [trainer.name for trainer in self.candidates])


def sklearn(
    estimator: type | str,
    *,
    prepare: Literal["auto", "none", "impute", "scale"] = "auto",
    name: str = "",
    **params: Parameter,
) -> Trainer:
    """Try a scikit-learn estimator.

    Args:
        estimator: The class, such as ``LogisticRegression``; or where it is, such as
            ``"sklearn.linear_model:LogisticRegression"``, which spares every command that reads
            the project the seconds that importing scikit-learn takes.
        prepare: What comes before it; see ``Trainer``.
        name: The candidate's name.
        **params: Fixed values, or spaces to search.
    """
    if isinstance(estimator, str):
        path = estimator
    else:
        path = f"{_public_module(estimator)}:{estimator.__qualname__}"
    return Trainer(kind="sklearn", estimator=path, params=params, prepare=prepare, name=name)


def xgboost(*, name: str = "xgboost", **params: Parameter) -> Trainer:
    """Try gradient boosting of XGBoost, by histogram, on the CPU. Needs the extra ``xgboost``."""
    return Trainer(kind="xgboost", estimator="xgboost:XGBModel", params=params, name=name)


def lightgbm(*, name: str = "lightgbm", **params: Parameter) -> Trainer:
    """Try gradient boosting of LightGBM. Needs the extra ``lightgbm``."""
    return Trainer(kind="lightgbm", estimator="lightgbm:LGBMModel", params=params, name=name)


def custom(
    model: type | str,
    *,
    python: str = "",
    timeout: str = "10s",
    memory_mb: int = 0,
    name: str = "",
    **params: Parameter,
) -> Trainer:
    """Try a class of your own, which learns and predicts in a process of its own.

    The class stands in a module of the project folder and needs neither Penstock nor a base class:

    - ``__init__(**params)``;
    - ``fit(x, y)`` with ``float64[n, features]``, NaN for null, and ``[n]``;
    - ``predict(x)``, which returns ``[n]``: the probability of true, or the value;
    - ``save(path)``, which writes one file in a format of your own;
    - ``load(path)``, a class method that reads it.

    Args:
        model: The class; or where it is, such as ``"forecasts:Blend"``, which is all that a project
            can say of a class that only its own environment can import.
        python: The interpreter of its environment, such as ``"envs/torch/bin/python"``, from the
            project folder; that of Penstock when left out. It needs NumPy.
        timeout: Longest time for a prediction of up to 4,096 rows; past it the process is ended and
            started again.
        memory_mb: Most memory for its data; 0 for no bound.
        name: The candidate's name.
        **params: Fixed values, or spaces to search.
    """
    path = model if isinstance(model, str) else f"{model.__module__}:{model.__qualname__}"
    return Trainer(
        kind="custom",
        estimator=path,
        params=params,
        name=name,
        python=python,
        timeout=timeout,
        memory_mb=memory_mb,
    )


def uniform(low: float, high: float) -> Uniform:
    """Search floats between two bounds."""
    return Uniform(low=low, high=high)


def loguniform(low: float, high: float) -> Uniform:
    """Search floats between two bounds, on a logarithmic scale."""
    return Uniform(low=low, high=high, log=True)


def integer(low: int, high: int, *, log: bool = False) -> Integer:
    """Search whole numbers from ``low`` to ``high``, both included."""
    return Integer(low=low, high=high, log=log)


def choice(*options: float | str | bool | None) -> Choice:
    """Search among values."""
    return Choice(options=options)


def maximise(metric: str) -> Objective:
    """Choose the candidate with the greatest value."""
    return Objective(metric=metric)


def minimise(metric: str) -> Objective:
    """Choose the candidate with the smallest value."""
    return Objective(metric=metric, maximise=False)


def at_least(metric: str, value: float) -> Gate:
    """The metric is at least this on the test part."""
    return Gate(rule="at_least", metric=metric, value=value)


def at_most(metric: str, value: float) -> Gate:
    """The metric is at most this on the test part."""
    return Gate(rule="at_most", metric=metric, value=value)


def beats(alias: str, metric: str, *, by: float = 0.0) -> Gate:
    """The metric is better than that of the alias's model, by more than ``by``."""
    return Gate(rule="beats", metric=metric, value=by, alias=alias)


def _public_module(estimator: type) -> str:
    """Shortest loaded package that offers the class, since inner modules move between releases."""
    parts = estimator.__module__.split(".")
    for end in range(1, len(parts)):
        package = ".".join(parts[:end])
        if getattr(sys.modules.get(package), estimator.__qualname__, None) is estimator:
            return package
    return estimator.__module__
