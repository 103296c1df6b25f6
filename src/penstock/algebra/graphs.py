"""Graphs, compiled: rows of features through the steps of a graph, as arrays.

Steps are computed by demand, from the one that answers: a step that a switch leads nobody to is not
computed, and one that it leads some rows to is computed for those alone. Whatever is computed is
computed row by row, so a row's answer is the same whatever rows are beside it, as far as that holds
of its models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np

from penstock.errors import DeclarationError, PenstockError, UserCodeError
from penstock.spec import Average, Explain, Graph, Predict, Switch, Vote, graph_order, step_reads

from .arrays import BoolArray, FloatArray
from .vectors import compile_vector, finite_or_null

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.spec import Expression, GraphStep

    from .arrays import IntArray

__all__ = ["GraphProgram", "GraphRun", "Predictor", "check_graph"]

Own: TypeAlias = "Callable[[Mapping[str, FloatArray]], FloatArray]"


NOTHING = np.empty(0)


class Predictor(msgspec.Struct, frozen=True):
    """What predicts for a step.

    Attributes:
        features: What it takes, in order.
        predict: From float64 ``[n, features]``, NaN for null, to float64 ``[n]``.
    """

    features: tuple[str, ...]
    predict: Callable[[FloatArray], FloatArray]


class GraphRun(msgspec.Struct):
    """What a graph made of some rows.

    Attributes:
        predictions: float64 ``[n]``: what the step that answers gives.
        values: float64 ``[n]`` of each step that was computed, in their order, NaN for null.
        done: The rows for which it was; none for all of them.
        spent: How long each step took by itself, in units of the clock; empty without one.
    """

    predictions: FloatArray
    values: dict[str, FloatArray]
    done: dict[str, BoolArray | None]
    spent: dict[str, int]

    def rows_of(self, step: str) -> int:
        """The number of rows that a step was computed for."""
        done = self.done[step]
        return len(self.predictions) if done is None else int(np.count_nonzero(done))

    def parts(self, output: str) -> list[dict[str, float | None]]:
        """For each row, the value of every step that was computed for it; null for none.

        Args:
            output: The step that is left out: the one that answers.
        """
        rows: list[dict[str, float | None]] = [{} for _ in range(len(self.predictions))]
        for name, values in self.values.items():
            if name == output:
                continue
            done = self.done[name]
            for place, value in enumerate(values.tolist()):
                if done is None or done[place]:
                    rows[place][name] = None if value != value else value  # noqa: PLR0124 - NaN
        return rows


class GraphProgram:
    """A compiled graph. Safe across threads where its predictors are.

    Args:
        graph: The graph.
        features: Full names of the columns of the rows, in order.
        predictors: What predicts for each of its steps that does.
        clock: Gives the time for ``spent``; no time is taken without one.

    Attributes:
        graph: The graph.
        output: The step that answers.

    Raises:
        DeclarationError: A function cannot be found again, or an expression takes or gives text.
    """

    def __init__(
        self,
        graph: Graph,
        features: Sequence[str],
        predictors: Mapping[str, Predictor],
        *,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.graph = graph
        self.output = graph.output
        self.features = tuple(features)
        self.clock = clock
        self.columns = {name: place for place, name in enumerate(features)}
        self.steps = {
            name: _Step(name, step, self, predictors)
            for name, step in graph.steps.items()
            if not isinstance(step, Explain)
        }

    def run(self, x: FloatArray) -> GraphRun:
        """Answer rows.

        Args:
            x: float64 ``[n, features]``, NaN for null.

        Raises:
            PenstockError: A step failed: what it raised, with the step's name in its message.
            UserCodeError: A step failed otherwise.
        """
        return _Rows(self, x).run()

    def inputs_of(self, step: str) -> tuple[str, ...]:
        """What a step is explained by: the features of its model, else those of the graph."""
        predictor = self.steps[step].predictor
        return self.features if predictor is None else predictor.features

    def inputs(self, step: str, x: FloatArray) -> FloatArray:
        """The values of ``inputs_of`` in rows, as the step has them.

        Args:
            step: The step.
            x: float64 ``[n, features]``, NaN for null.

        Raises:
            PenstockError: As ``run`` does.
        """
        found = self.steps[step]
        return x if found.predictor is None else _Rows(self, x).taken(found)

    def value(self, step: str, inputs: FloatArray) -> FloatArray:
        """What a step gives for its inputs, float64 ``[n]``, whether a switch leads there or not.

        Args:
            step: The step.
            inputs: What ``inputs`` gives.

        Raises:
            PenstockError: As ``run`` does.
        """
        predictor = self.steps[step].predictor
        if predictor is None:
            return _Rows(self, inputs).value(step)
        try:
            return predictor.predict(inputs)
        except PenstockError as error:
            raise _named(step, error) from error
        except Exception as error:
            raise _failed(step, error) from error


class _Step:
    """One step: the names it reads for every row, and what it makes of their values."""

    def __init__(
        self,
        name: str,
        step: GraphStep,
        program: GraphProgram,
        predictors: Mapping[str, Predictor],
    ) -> None:
        self.name = name
        self.switch = _Cases(step) if isinstance(step, Switch) else None
        self.reads = () if self.switch else step_reads(step)
        self.predictor: Predictor | None = None
        self.own: Own | None = None
        match step:
            case Predict():
                self.predictor = predictor = predictors[name]
                self.sources = [step.inputs.get(each, each) for each in predictor.features]
                self.swaps = any(source not in program.columns for source in self.sources)
                places = [program.columns.get(source, 0) for source in self.sources]
                whole = places == list(range(len(program.columns))) and not self.swaps
                self.places = None if whole else np.array(places, dtype=np.intp)
            case Average():
                self.own = _average(step)
            case Vote():
                self.own = _vote(step)
            case Switch() | Explain():
                pass
            case _:
                self.own = compile_vector(step)


class _Cases:
    """A switch: its conditions with what they read, and where they lead."""

    def __init__(self, step: Switch) -> None:
        self.cases = [
            (step_reads(condition), compile_vector(condition), then)
            for condition, then in step.cases
        ]
        self.otherwise = step.otherwise


class _Rows:
    """Some rows on their way through a graph."""

    def __init__(self, program: GraphProgram, x: FloatArray) -> None:
        self._program = program
        self._x = x
        self._values: dict[str, FloatArray] = {}
        self._done: dict[str, BoolArray | None] = {}
        self._spent: dict[str, int] = {}

    def run(self) -> GraphRun:
        predictions = self._value(self._program.output, None)
        values = {name: self._values[name] for name in self._program.steps if name in self._values}
        return GraphRun(predictions, values, self._done, self._spent)

    def value(self, name: str) -> FloatArray:
        return self._value(name, None)

    def taken(self, step: _Step) -> FloatArray:
        return self._taken(step, {name: self.value(name) for name in step.reads}, None)

    def _value(self, name: str, rows: IntArray | None) -> FloatArray:
        """The values of a feature or step for rows; for all of them where none are named."""
        place = self._program.columns.get(name)
        if place is not None:
            column = self._x[:, place]
            return column if rows is None else column[rows]
        if name not in self._values:
            if rows is None:
                found = self._values[name] = self._compute(self._program.steps[name], None)
                self._done[name] = None
                return found
            self._values[name] = np.full(len(self._x), np.nan)
            self._done[name] = np.zeros(len(self._x), dtype=np.bool_)
        done = self._done[name]
        if done is not None:
            self._complete(name, done, rows)
        values = self._values[name]
        return values if rows is None else values[rows]

    def _complete(self, name: str, done: BoolArray, rows: IntArray | None) -> None:
        """Compute a step for those of the rows that it was not computed for yet."""
        step = self._program.steps[name]
        lacking = np.flatnonzero(~done) if rows is None else rows[~done[rows]]
        if len(lacking):
            self._values[name][lacking] = self._compute(step, lacking)
            done[lacking] = True
        if done.all():
            self._done[name] = None

    def _compute(self, step: _Step, rows: IntArray | None) -> FloatArray:
        count = len(self._x) if rows is None else len(rows)
        if step.switch is not None:
            return self._switched(step, step.switch, rows, count)
        arrays = {name: self._value(name, rows) for name in step.reads}
        clock = self._program.clock
        start = clock() if clock else 0
        found = NOTHING
        # Whatever a model or a function raises is told with the step that it comes from.
        try:
            if step.predictor is not None and count:
                found = step.predictor.predict(self._taken(step, arrays, rows))
            elif step.own is not None:
                found = step.own(arrays)
                if len(found) != count:  # of constants, or of no rows
                    found = np.broadcast_to(found, count)
        except PenstockError as error:
            raise _named(step.name, error) from error
        except Exception as error:
            raise _failed(step.name, error) from error
        if len(found) != count:
            raise _failed(step.name, ValueError(f"{len(found)} values for {count} rows"))
        if clock:
            self._spent[step.name] = self._spent.get(step.name, 0) + clock() - start
        return found

    def _taken(
        self, step: _Step, arrays: Mapping[str, FloatArray], rows: IntArray | None
    ) -> FloatArray:
        """The features of a step's model."""
        x = self._x if rows is None else self._x[rows]
        if step.places is not None:
            x = np.ascontiguousarray(x[:, step.places])
        if step.swaps:
            for place, source in enumerate(step.sources):
                if source in arrays:
                    x[:, place] = arrays[source]
        return x

    def _switched(
        self, step: _Step, switch: _Cases, rows: IntArray | None, count: int
    ) -> FloatArray:
        left = np.arange(len(self._x)) if rows is None else rows
        places = np.arange(count)
        found = np.full(count, np.nan)
        for reads, holds, then in switch.cases:
            if not len(left):
                break
            arrays = {name: self._value(name, left) for name in reads}
            try:
                yes = np.broadcast_to(holds(arrays) == 1, len(left))
            except PenstockError as error:
                raise _named(step.name, error) from error
            if yes.any():
                found[places[yes]] = self._value(then, left[yes])
                left, places = left[~yes], places[~yes]
        if len(left):
            found[places] = self._value(switch.otherwise, left)
        return found


def check_graph(graph: Graph) -> None:
    """Compile what can be compiled of a graph before there is any version of its models.

    Raises:
        DeclarationError: A function cannot be found again, or an expression takes or gives text;
            names every step of which that is so.
    """
    faults: list[str] = []
    for name in graph_order(graph.steps):
        try:
            for expression in _expressions(graph.steps[name]):
                compile_vector(expression)
        except DeclarationError as error:
            faults.append(f"step {name!r}: {error}")
    if faults:
        raise DeclarationError.of(f"Graph({graph.name!r})", faults)


def _expressions(step: GraphStep) -> list[Expression]:
    if isinstance(step, (Predict, Average, Vote, Explain)):
        return []
    if isinstance(step, Switch):
        return [condition for condition, _ in step.cases]
    return [step]


def _average(step: Average) -> Own:
    weights = tuple(step.weights) or (1.0,) * len(step.of)
    total = sum(weights)

    def run(arrays: Mapping[str, FloatArray]) -> FloatArray:
        found = np.zeros(1)
        with np.errstate(all="ignore"):
            # One after the other, so that the sum is the same for a row as for many.
            for weight, name in zip(weights, step.of, strict=True):
                found = found + weight * arrays[name]
            return finite_or_null(found / total)

    return run


def _vote(step: Vote) -> Own:
    def run(arrays: Mapping[str, FloatArray]) -> FloatArray:
        found = np.zeros(1)
        for name in step.of:
            value = arrays[name]
            says = np.where(np.isnan(value), np.nan, value >= step.threshold)
            found = found + says
        return found / len(step.of)

    return run


def _named(step: str, error: PenstockError) -> PenstockError:
    """The same error, which says which step it comes from."""
    facts = {**error.facts, "step": step}
    if "plain" in facts:
        facts["plain"] = f"Step {step!r}: {facts['plain']}"
    return type(error)(f"Step {step!r}: {error.message}", **facts)


def _failed(step: str, error: Exception) -> UserCodeError:
    what = f"Step {step!r} failed with {type(error).__name__}"
    return UserCodeError(f"{what}: {error}.", plain=f"{what}.", step=step)
