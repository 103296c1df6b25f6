"""Graphs: models, functions and rules joined to one model of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Union

import msgspec

from penstock.errors import nearest

from .base import NAME_CHARACTERS, Value, unique_faults
from .expressions import (
    Call,
    Column,
    Constant,
    Expression,
    Function,
    Lead,
    columns_of,
    expression_text,
    is_condition,
    leads_of,
)
from .models import Model, Trainer
from .routes import ALIASES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Average",
    "Explain",
    "Graph",
    "GraphStep",
    "Predict",
    "Switch",
    "Vote",
    "graph_order",
    "step_reads",
    "step_text",
]


class Predict(Value, frozen=True, omit_defaults=True, tag="predict"):
    """What a version of a model predicts: the probability of true, or the value.

    Attributes:
        model: The model; a graph is one too.
        of: The version: an alias such as ``"champion"``, or ``"@3"``. A version of the graph is
            pinned to the version that this means when it is made.
        inputs: Features of the model that a step or another feature of the graph stands in for, as
            ``{feature: name}``.
    """

    model: Union[Model, Graph]  # noqa: UP007 - read at run time
    of: str = "champion"
    inputs: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def number(self) -> int:
        """The version's number; 0 for an alias."""
        digits = self.of.removeprefix("@")
        return int(digits) if self.of.startswith("@") and digits.isdecimal() else 0

    def _faults(self) -> Iterator[str]:
        if self.of not in ALIASES and not self.number:
            yield f"of={self.of!r} is no version. {nearest(self.of, ALIASES)} Or write '@3'."
        known = self.model.dataset.feature_names
        for name in self.inputs:
            if name not in known:
                yield f"{name!r} is no feature of {self.model.name!r}. {nearest(name, known)}"


class Average(Value, frozen=True, omit_defaults=True, tag="average"):
    """The mean of steps, weighted where weights are given; null where one is, or it overflows.

    Attributes:
        of: The steps, or features.
        weights: One for each, 0 or more; their sum need not be 1.
    """

    of: Sequence[str]
    weights: Sequence[float] = ()

    def _faults(self) -> Iterator[str]:
        yield from _several_faults(self.of)
        if not self.weights:
            return
        if len(self.weights) != len(self.of):
            yield f"it has {len(self.weights)} weights for {len(self.of)} steps; give one for each"
        if any(weight < 0 for weight in self.weights) or not sum(self.weights) > 0:
            yield f"weights={tuple(self.weights)}: none may be negative, and one has to be above 0"


class Vote(Value, frozen=True, omit_defaults=True, tag="vote"):
    """The share of classifications that say true; null where one of them says nothing.

    Above 0.5 the majority does.

    Attributes:
        of: The steps.
        threshold: The probability from which a step says true.
    """

    of: Sequence[str]
    threshold: float = 0.5

    def _faults(self) -> Iterator[str]:
        yield from _several_faults(self.of)
        if not 0 < self.threshold < 1:
            yield f"threshold={self.threshold:g} is no probability between 0 and 1"


class Switch(Value, frozen=True, omit_defaults=True, tag="switch"):
    """The first step whose condition holds. Only rows that are led to a step are computed by it.

    Attributes:
        cases: ``(condition, step)`` in the order they are tried. A condition reads features and
            steps; one that is null does not hold.
        otherwise: The step of rows for which none holds.
    """

    cases: Sequence[tuple[Expression, str]]
    otherwise: str

    def _faults(self) -> Iterator[str]:
        if not self.cases:
            yield "it has no cases; give [(condition, step)]"
        for condition, _ in self.cases:
            if not is_condition(condition):
                yield f"{expression_text(condition)} is no condition; compare it with something"


class Explain(Value, frozen=True, omit_defaults=True, tag="explain"):
    """What each input of a step adds to what that gives; told beside an answer, where it is asked.

    It gives no number: no step reads it, no score holds it, and a request that does not ask for it
    computes none of it.

    Attributes:
        of: The step. One that predicts is explained by the features of its model, any other by
            those of the graph.
        top: How many contributions are told, the greatest first; 0 for all.
    """

    of: str
    top: int = 0

    def _faults(self) -> Iterator[str]:
        if self.top < 0:
            yield f"top={self.top} is negative; give how many contributions to tell, or 0 for all"


GraphStep = Union[  # noqa: UP007 - as the classes in it
    Predict, Average, Vote, Switch, Explain, Column, Constant, Call, Lead, Function
]
"""A step of a graph: one of the five, or an expression over features and other steps."""


class Graph(Model, frozen=True, kw_only=True, tag="graph"):
    """A model made of others: each step reads features and other steps, and the last one answers.

    It is a model in everything else. ``penstock train`` makes a version of it, which is pinned to
    versions of its models and measured like any other on the test rows of its dataset; it has
    gates, aliases, deployments, monitors and triggers.

    Attributes:
        dataset: The label, and every feature that its models and its steps read.
        steps: The steps by name. The one that no other reads is the answer; those that explain
            stand beside it.
    """

    candidates: Sequence[Trainer] = ()
    steps: Mapping[str, GraphStep]

    @property
    def trainers(self) -> tuple[Trainer, ...]:
        """The graph itself, as its only candidate."""
        estimator = f"penstock.graph:{self.name}"
        return (Trainer(kind="graph", estimator=estimator, prepare="none", name="graph"),)

    @property
    def output(self) -> str:
        """The step that answers."""
        return self._ends[0]

    @property
    def explainers(self) -> dict[str, Explain]:
        """The steps that explain others, by name."""
        return {name: step for name, step in self.steps.items() if isinstance(step, Explain)}

    @property
    def _ends(self) -> list[str]:
        """The steps that no other computes with; of a sound graph that is the one that answers."""
        counted = {name: step for name, step in self.steps.items() if not isinstance(step, Explain)}
        read = {name for step in counted.values() for name in step_reads(step)}
        return [name for name in counted if name not in read]

    @property
    def models(self) -> tuple[Model, ...]:
        """The models that it predicts with, each once, in the order of the steps."""
        found = (step.model for step in self.steps.values() if isinstance(step, Predict))
        return tuple({model.name: model for model in found}.values())

    def _candidate_faults(self) -> Iterator[str]:
        if self.candidates:
            yield "it has candidates; a graph has steps instead"
        if not self.steps:
            yield "it has no steps"
            return
        yield from self._name_faults()
        for name, step in self.steps.items():
            yield from (f"step {name!r}: {fault}" for fault in self._step_faults(name, step))
        yield from self._shape_faults()

    def _name_faults(self) -> Iterator[str]:
        for name in self.steps:
            if not name or not set(name) <= NAME_CHARACTERS:
                yield f"step {name!r}: use lower-case letters, digits, '_' and '-' for its name"
        unlike: dict[str, Model] = {}
        for step in self.steps.values():
            if isinstance(step, Predict) and unlike.setdefault(step.model.name, step.model) != (
                step.model
            ):
                yield f"there are two unlike models {step.model.name!r}; give each its own name"

    def _step_faults(self, name: str, step: GraphStep) -> Iterator[str]:
        known = [*(other for other in self.steps if other != name), *self.dataset.feature_names]
        for read in dict.fromkeys(step_reads(step)):
            if read == name:
                yield "it reads itself"
            elif isinstance(self.steps.get(read), Explain):
                yield f"it reads {read!r}, which explains a step and gives no number"
            elif read not in known:
                yield f"it reads {read!r}, which is no step and no feature. {nearest(read, known)}"
        match step:
            case Predict():
                yield from self._model_faults(step)
            case Average() | Vote():
                yield from self._kind_faults(step)
            case Switch():
                yield from self._switch_faults(step)
            case Explain():
                if step.of in self.dataset.feature_names:
                    yield f"it explains the feature {step.of!r}; it has to explain a step"
            case _:
                yield from _expression_faults(step)

    def _model_faults(self, step: Predict) -> Iterator[str]:
        own = step.model.dataset
        known = self.dataset.feature_names
        lacking = [name for name in own.feature_names if name not in {*known, *step.inputs}]
        if lacking and not own.select:
            names = ", ".join(repr(name) for name in lacking)
            yield (
                f"{step.model.name!r} reads {names}, which the dataset {self.dataset.name!r} "
                "lacks; add its views to the dataset"
            )
        views = {view.name: view for view in self.dataset.views}
        for view in own.views:
            if view.name in views and views[view.name] != view:
                yield (
                    f"{step.model.name!r} learned from another view {view.name!r} than the dataset "
                    f"{self.dataset.name!r} has; give both the same"
                )

    def _switch_faults(self, step: Switch) -> Iterator[str]:
        for branch in (*(then for _, then in step.cases), step.otherwise):
            if branch in self.dataset.feature_names:
                yield f"it leads to the feature {branch!r}; it has to lead to a step"
        for condition, _ in step.cases:
            yield from _expression_faults(condition)

    def _kind_faults(self, step: Average | Vote) -> Iterator[str]:
        tasks = {name: self.task_of(name) for name in step.of}
        known = {task for task in tasks.values() if task}
        if isinstance(step, Vote):
            for name, task in tasks.items():
                if task == "regression" or name in self.dataset.feature_names:
                    yield f"{name!r} is no classification; only classifications vote"
        elif len(known) > 1:
            told = ", ".join(f"{name} is a {task}" for name, task in tasks.items() if task)
            yield f"it mixes tasks: {told}; bring them to one scale with an expression first"

    def _shape_faults(self) -> Iterator[str]:
        """Yield what keeps the steps from being one graph with one answer."""
        circle = _circle(self.steps)
        if circle:
            yield f"its steps go round in a circle: {' -> '.join(circle)}"
            return
        ends = self._ends
        if len(ends) > 1:
            names = ", ".join(repr(name) for name in ends)
            yield f"nothing reads {names}; one step answers, and the others have to lead to it"
        elif not ends:
            yield "its steps explain, and none answers"
        else:
            task = self.task_of(ends[0])
            if task and task != self.dataset.task:
                yield (
                    f"step {ends[0]!r}, which answers, gives a {task}; the label "
                    f"asks for a {self.dataset.task}"
                )

    def task_of(self, name: str, above: tuple[str, ...] = ()) -> str:
        """What a step gives, where that is known: ``classification``, ``regression``, or empty.

        Args:
            name: The step.
            above: Steps that it is looked at for.
        """
        step = self.steps.get(name)
        if step is None or name in above:
            return ""
        if isinstance(step, Predict):
            return step.model.dataset.task
        if isinstance(step, Vote):
            return "classification"
        if isinstance(step, Average):
            below = tuple(step.of)
        elif isinstance(step, Switch):
            below = (*(then for _, then in step.cases), step.otherwise)
        else:
            return ""
        tasks = {self.task_of(other, (*above, name)) for other in below}
        return tasks.pop() if len(tasks) == 1 else ""


def step_reads(step: GraphStep) -> tuple[str, ...]:
    """The names of features and steps that a step reads, in order; a model's own features apart."""
    match step:
        case Predict():
            return tuple(step.inputs.values())
        case Average() | Vote():
            return tuple(step.of)
        case Switch():
            inner = [(*sorted(columns_of(condition)), then) for condition, then in step.cases]
            return (*(name for names in inner for name in names), step.otherwise)
        case Explain():
            return (step.of,)
        case _:
            return tuple(sorted(columns_of(step)))


def step_text(step: GraphStep) -> str:
    """A step as a reader would say it."""
    match step:
        case Predict():
            of = step.of if step.number else f"@{step.of}"
            swapped = [f"{feature} from {name}" for feature, name in step.inputs.items()]
            return f"predict {step.model.name}{of}" + (f", {', '.join(swapped)}" if swapped else "")
        case Average():
            weighted = [f"{weight:g} x " for weight in step.weights] or [""] * len(step.of)
            parts = zip(weighted, step.of, strict=True)
            return "average " + ", ".join(f"{weight}{name}" for weight, name in parts)
        case Vote():
            return f"vote {', '.join(step.of)} from {step.threshold:g}"
        case Switch():
            cases = [f"{then} where {expression_text(when)}" for when, then in step.cases]
            return f"switch {'; '.join(cases)}; else {step.otherwise}"
        case Explain():
            return f"explain {step.of}" + (f", the {step.top} greatest" if step.top else "")
        case _:
            return expression_text(step)


def graph_order(steps: Mapping[str, GraphStep]) -> tuple[str, ...]:
    """The names of steps, each after those it reads.

    Args:
        steps: The steps of a graph, which go round in no circle.
    """
    found: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in found or name not in steps:
            return
        for read in step_reads(steps[name]):
            visit(read)
        found[name] = None

    for name in steps:
        visit(name)
    return tuple(found)


def _circle(steps: Mapping[str, GraphStep]) -> tuple[str, ...]:
    """Steps that each read the next one and end where they begin; none where there is no such."""
    free: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> tuple[str, ...]:
        if name in above:
            return (*above[above.index(name) :], name)
        if name in free or name not in steps:
            return ()
        for read in step_reads(steps[name]):
            found = visit(read, (*above, name))
            if found:
                return found
        free.add(name)
        return ()

    for name in steps:
        found = visit(name, ())
        if len(set(found)) > 1:  # a step that reads itself is said so already
            return found
    return ()


def _expression_faults(expression: Expression) -> Iterator[str]:
    if leads_of(expression):
        yield "it looks ahead with lead(); only a label may"
    if not columns_of(expression):
        yield f"{expression_text(expression)} reads no step and no feature; it would never change"


def _several_faults(of: Sequence[str]) -> Iterator[str]:
    if isinstance(of, str):
        yield f"of={of!r} is one text; give a list of steps"
        return
    if len(of) < 2:  # noqa: PLR2004 - of two
        yield f"it needs two steps or more, and has {len(of)}"
    yield from unique_faults("step", list(of))
