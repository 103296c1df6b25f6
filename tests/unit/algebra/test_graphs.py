"""Graphs over arrays, held against steps computed row by row in plain Python."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.algebra import GraphProgram, Predictor, check_graph
from penstock.errors import DeclarationError, UnavailableError, UserCodeError
from penstock.spec import (
    Average,
    Call,
    Constant,
    Explain,
    Expression,
    Graph,
    GraphStep,
    Predict,
    Switch,
    Vote,
    columns_of,
    step_reads,
)
from penstock.testing.oracle import naive_expression

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.algebra.arrays import FloatArray

SOURCE = ps.Source(
    "rows",
    entity=ps.Entity("key"),
    timestamp="ts",
    schema={"key": ps.String, "ts": ps.Timestamp, "a": ps.Float64, "b": ps.Float64},
)
VIEW = ps.FeatureView("v", source=SOURCE, features=[ps.last("a"), ps.last("b"), ps.count()])
FEATURES = VIEW.names
DATASET = ps.Dataset(
    "all",
    spine=SOURCE,
    features=[VIEW],
    label=ps.Label("up", ps.lead("a", "1h") > ps.col("a")),
    split=ps.TimeSplit(embargo="1h"),
)
MODELS = tuple(
    ps.Model(
        name, dataset=DATASET, candidates=[ps.sklearn("sklearn.linear_model:LinearRegression")]
    )
    for name in ("one", "two")
)
TAKEN = {"one": (FEATURES[0], FEATURES[2]), "two": FEATURES}
Row = dict[str, float | None]


def _one(x: FloatArray) -> FloatArray:
    return 0.25 * x[:, 0] - x[:, 1]


def _two(x: FloatArray) -> FloatArray:
    return np.where(np.isnan(x[:, 1]), 0.5, x[:, 0] * 0.125 + x[:, 2])


PREDICT: Mapping[str, Callable[[FloatArray], FloatArray]] = {"one": _one, "two": _two}


def _program(graph: Graph, asked: dict[str, list[int]] | None = None) -> GraphProgram:
    def predictor(name: str, model: str) -> Predictor:
        def predict(x: FloatArray) -> FloatArray:
            if asked is not None:
                asked.setdefault(name, []).append(len(x))
            return PREDICT[model](x)

        return Predictor(TAKEN[model], predict)

    predictors = {
        name: predictor(name, step.model.name)
        for name, step in graph.steps.items()
        if isinstance(step, Predict)
    }
    return GraphProgram(graph, FEATURES, predictors)


class Naive:
    """One row through a graph, by the meaning of its steps alone."""

    def __init__(self, graph: Graph, row: Row) -> None:
        self.graph = graph
        self.row = row
        self.parts: Row = {}

    def value(self, name: str) -> float | None:
        if name in self.row:
            return self.row[name]
        if name not in self.parts:
            found = self._of(self.graph.steps[name])
            self.parts[name] = found
        return self.parts[name]

    def _of(self, step: GraphStep) -> float | None:
        if isinstance(step, Predict):
            given = [self.value(step.inputs.get(one, one)) for one in TAKEN[step.model.name]]
            x = np.array([[math.nan if value is None else value for value in given]])
            return _plain(float(PREDICT[step.model.name](x)[0]))
        if isinstance(step, (Average, Vote)):
            values = [self.value(name) for name in step.of]
            numbers = [value for value in values if value is not None]
            return _plain(_joined(step, numbers)) if len(numbers) == len(values) else None
        if isinstance(step, Switch):
            held = (then for condition, then in step.cases if self._expression(condition))
            return self.value(next(held, step.otherwise))
        found = self._expression(step)
        return None if found is None else float(found)

    def _expression(self, expression: Expression | Explain) -> float | None:
        assert not isinstance(expression, Explain)  # nothing reads one
        row = {name: self.value(name) for name in columns_of(expression)}
        return naive_expression(expression, row)  # type: ignore[return-value]  # a number, or a bool


def _joined(step: Average | Vote, values: list[float]) -> float:
    if isinstance(step, Vote):
        return sum(value >= step.threshold for value in values) / len(values)
    weights = step.weights or [1.0] * len(values)
    total = 0.0  # added one by one: sum() of newer Pythons corrects its rounding
    for weight, value in zip(weights, values, strict=True):
        total += weight * value
    return total / sum(weights) if math.isfinite(total / sum(weights)) else math.nan


NUMBERS = st.one_of(
    st.none(), st.sampled_from([0.0, -0.0, 0.5, 1.0, -3.0, 1e12, 1e308]), st.floats(-10, 10)
)
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=0, max_size=12)


def _expressions(names: list[str], depth: int = 2) -> st.SearchStrategy[Expression]:
    columns: st.SearchStrategy[Expression] = st.sampled_from(names).map(ps.col)
    if not depth:
        return columns
    inner = _expressions(names, depth - 1)
    constants = st.floats(-4, 4).map(Constant)
    two = st.tuples(st.sampled_from(["add", "sub", "mul", "div", "coalesce"]), inner,
                    st.one_of(inner, constants))  # fmt: skip
    one = st.tuples(st.sampled_from(["neg", "abs", "sqrt"]), inner)
    calls: st.SearchStrategy[Expression] = st.one_of(one, two).map(
        lambda parts: Call(parts[0], tuple(parts[1:]))  # type: ignore[arg-type]  # an operator
    )
    return st.one_of(columns, calls)


def _conditions(names: list[str]) -> st.SearchStrategy[Expression]:
    plain = st.tuples(st.sampled_from(["gt", "ge", "lt", "le", "eq", "ne"]),
                      _expressions(names, 1), _expressions(names, 1))  # fmt: skip
    compared = plain.map(lambda parts: Call(parts[0], tuple(parts[1:])))  # type: ignore[arg-type]  # as above
    nulls = _expressions(names, 1).map(lambda each: each.is_null())
    simple = st.one_of(compared, nulls)
    joined = st.tuples(st.sampled_from(["and", "or"]), simple, simple).map(
        lambda parts: Call(parts[0], tuple(parts[1:]))  # type: ignore[arg-type]  # as above
    )
    return st.one_of(simple, joined, simple.map(lambda each: ~each))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Graphs of up to eight steps, each of which reads features and steps before it."""
    steps: dict[str, GraphStep] = {"p0": Predict(MODELS[0]), "p1": Predict(MODELS[1])}
    for place in range(draw(st.integers(0, 5))):
        before = list(steps)
        names = [*before, *FEATURES]
        model = draw(st.sampled_from(MODELS))
        pick = st.lists(st.sampled_from(before), min_size=2, max_size=3, unique=True)
        step: GraphStep = draw(
            st.one_of(
                st.builds(
                    Predict,
                    st.just(model),
                    inputs=st.dictionaries(
                        st.sampled_from(TAKEN[model.name]), st.sampled_from(names)
                    ),
                ),
                pick.map(Average),
                pick.map(lambda of: Average(of, weights=[0.5, 2.0, 1.25][: len(of)])),
                pick.map(lambda of: Vote(of, threshold=0.5)),
                _expressions(names),
                _conditions(names),
                st.tuples(
                    st.lists(st.tuples(_conditions(names), st.sampled_from(before)), min_size=1,
                             max_size=2),
                    st.sampled_from(before),
                ).map(lambda parts: Switch(parts[0], otherwise=parts[1])),
            )
        )  # fmt: skip
        steps[f"s{place}"] = step
    read = {name for step in steps.values() for name in step_reads(step)}
    ends = [name for name in steps if name not in read]
    if len(ends) > 1:
        steps["answer"] = Average(ends)
    return Graph("g", dataset=DATASET, steps=steps)


def _x(rows: list[tuple[float | None, ...]]) -> FloatArray:
    plain = [[math.nan if value is None else value for value in row] for row in rows]
    return np.array(plain, dtype=np.float64).reshape(len(rows), len(FEATURES))


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), ROWS)
def test_rows_together_alone_and_step_by_step_agree_to_the_bit(
    graph: Graph, rows: list[tuple[float | None, ...]]
) -> None:
    program, x = _program(graph), _x(rows)
    check_graph(graph)
    run = program.run(x)
    parts = run.parts(program.output)
    for place, row in enumerate(rows):
        alone = program.run(x[place : place + 1])
        naive = Naive(graph, dict(zip(FEATURES, row, strict=True)))
        answer = naive.value(program.output)
        assert _plain(run.predictions[place]) == answer
        assert alone.predictions.tobytes() == run.predictions[place : place + 1].tobytes()
        naive.parts.pop(program.output)
        assert parts[place] == naive.parts == alone.parts(program.output)[0]


def _graph(**steps: GraphStep) -> Graph:
    return Graph("g", dataset=DATASET, steps=steps)


def test_only_rows_that_are_led_to_a_step_are_computed_by_it() -> None:
    graph = _graph(
        one=Predict(MODELS[0]),
        two=Predict(MODELS[1]),
        mean=Average(["one", "two"]),
        answer=Switch([(ps.col(FEATURES[2]) > 5, "one"), (ps.col("one") < 0, "mean")],
                      otherwise="one"),
    )  # fmt: skip
    asked: dict[str, list[int]] = {}
    x = _x([(1.0, 1.0, 9.0), (8.0, 1.0, 1.0), (0.0, 1.0, 1.0), (0.0, 1.0, 2.0), (9.0, 0.0, None)])
    run = _program(graph, asked).run(x)
    assert asked == {"one": [1, 4], "two": [2]}
    assert [set(part) for part in run.parts("answer")] == [
        {"one"}, {"one"}, {"one", "two", "mean"}, {"one", "two", "mean"}, {"one"},
    ]  # fmt: skip
    assert (run.rows_of("one"), run.rows_of("two")) == (5, 2)
    assert run.parts("answer")[4] == {"one": None}  # computed, and null


def test_a_step_that_several_read_is_computed_once() -> None:
    graph = _graph(
        one=Predict(MODELS[0]), twice=ps.col("one") * 2, answer=Average(["one", "twice"])
    )
    asked: dict[str, list[int]] = {}
    _program(graph, asked).run(_x([(1.0, 1.0, 1.0)] * 3))
    assert asked == {"one": [3]}


def test_a_step_that_was_computed_for_some_rows_is_computed_for_the_others_alone() -> None:
    graph = _graph(
        one=Predict(MODELS[0]),
        two=Predict(MODELS[1]),
        some=Switch([(ps.col(FEATURES[2]) > 5, "one")], otherwise="two"),
        both=Average(["some", "one"]),
        answer=Switch([(ps.col(FEATURES[1]) > 0, "both")], otherwise="two"),
    )
    asked: dict[str, list[int]] = {}
    x = _x([(1.0, 1.0, 9.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 0.0, 9.0)])
    run = _program(graph, asked).run(x)
    assert asked == {"one": [1, 2], "two": [2, 1]}
    assert (run.rows_of("one"), run.rows_of("two")) == (3, 3)


def test_no_rows_ask_nobody() -> None:
    asked: dict[str, list[int]] = {}
    graph = _graph(one=Predict(MODELS[0]), answer=ps.function(halved, "one"))
    assert len(_program(graph, asked).run(_x([])).predictions) == 0
    assert asked == {}


def halved(values: FloatArray) -> FloatArray:
    if (values == 2).any():
        raise ValueError("two is too much")
    return values / 2


def test_a_function_gets_arrays_and_a_failure_names_its_step() -> None:
    graph = _graph(answer=ps.function(halved, FEATURES[0]))
    program = GraphProgram(graph, FEATURES, {})
    assert program.run(_x([(1.0, 0.0, 0.0), (None, 0.0, 0.0)])).parts("") == [
        {"answer": 0.5},
        {"answer": None},
    ]
    with pytest.raises(UserCodeError, match=r"Step 'answer': .*halved.* two is too much") as caught:
        program.run(_x([(2.0, 0.0, 0.0)]))
    assert caught.value.facts["step"] == "answer"
    assert "too much" not in caught.value.plain
    assert caught.value.plain.startswith("Step 'answer': ")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (UnavailableError("It died.", retry_after_s=1), UnavailableError, "Step 'one': It died."),
        (KeyError("x"), UserCodeError, "Step 'one' failed with KeyError: 'x'."),
    ],
)
def test_a_model_that_fails_is_told_with_its_step(
    error: Exception, kind: type[Exception], said: str
) -> None:
    def fail(_: FloatArray) -> FloatArray:
        raise error

    program = GraphProgram(
        _graph(one=Predict(MODELS[0])), FEATURES, {"one": Predictor(TAKEN["one"], fail)}
    )
    with pytest.raises(kind) as caught:
        program.run(_x([(1.0, 1.0, 1.0)]))
    assert str(caught.value) == said


def test_a_model_that_gives_too_few_values_is_told() -> None:
    few = Predictor(TAKEN["one"], lambda x: x[:1, 0])
    program = GraphProgram(_graph(one=Predict(MODELS[0])), FEATURES, {"one": few})
    with pytest.raises(UserCodeError, match="1 values for 2 rows"):
        program.run(_x([(1.0, 1.0, 1.0)] * 2))


def test_a_clock_tells_what_each_step_took_by_itself() -> None:
    ticks = iter(range(0, 1000, 10))
    graph = _graph(one=Predict(MODELS[0]), two=Predict(MODELS[1]), answer=Average(["one", "two"]))
    predictors = {name: Predictor(TAKEN[name], PREDICT[name]) for name in ("one", "two")}
    program = GraphProgram(graph, FEATURES, predictors, clock=lambda: next(ticks))
    assert program.run(_x([(1.0, 1.0, 1.0)])).spent == {"one": 10, "two": 10, "answer": 10}


def test_what_cannot_be_compiled_is_told_by_step() -> None:
    gone = ps.function(halved, FEATURES[0])
    graph = _graph(
        a=Call("add", (ps.col(FEATURES[0]), Constant("text"))),
        b=type(gone)(gone.module, "lost", gone.source, gone.sha256, gone.args),
        answer=Average(["a", "b"]),
    )
    with pytest.raises(DeclarationError) as caught:
        check_graph(graph)
    assert [fault[:9] for fault in caught.value.faults] == ["step 'a':", "step 'b':"]
