from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings

from penstock.algebra import compile_row, dtype_of, tidy, to_polars
from penstock.errors import DeclarationError, InputError, UserCodeError
from penstock.spec import (
    Call,
    DType,
    Expression,
    Function,
    as_expression,
    col,
    function,
    lead,
    lit,
)
from penstock.testing.oracle import naive_expression
from penstock.testing.strategies import SCHEMA, conditions, histories, numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.algebra import Scalar
    from penstock.algebra.arrays import FloatArray

    Record = Mapping[str, object]

POLARS = {
    DType.STRING: pl.String,
    DType.FLOAT64: pl.Float64,
    DType.INT64: pl.Int64,
    DType.BOOLEAN: pl.Boolean,
    DType.TIMESTAMP: pl.Int64,
}


def over_frame(expression: Expression, rows: list[Record]) -> list[Scalar]:
    frame = tidy(pl.DataFrame(rows, schema={name: POLARS[d] for name, d in SCHEMA.items()}))
    return frame.with_columns(to_polars(expression).alias("_"))["_"].to_list()


def over_rows(expression: Expression, rows: list[Record]) -> list[Scalar]:
    run = compile_row(expression)
    return [run(row) for row in rows]


def agree(expression: Expression, rows: list[Record]) -> None:
    assert dtype_of(expression, SCHEMA) in {DType.FLOAT64, DType.INT64, DType.BOOLEAN, None}
    naive = [naive_expression(expression, row) for row in rows]
    assert over_rows(expression, rows) == naive
    assert over_frame(expression, rows) == naive


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(numbers(), histories(6))
@example(col("x") / 2.861268299603958, [{"x": 0.0}, {"x": 5.0676688354095987e-166}])
@example(2.861268299603958 / col("x"), [{"x": 0.3}, {"x": None}])
@example(lit(1.0) / 0.0, [{"x": 1.0}])
@example(-(lit(2) * 1e308) + col("x"), [{"x": 1.0}])
def test_frames_rows_and_oracle_agree_on_numbers(
    expression: Expression, rows: list[Record]
) -> None:
    agree(expression, rows)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(conditions(), histories(6))
def test_frames_rows_and_oracle_agree_on_conditions(
    expression: Expression, rows: list[Record]
) -> None:
    agree(expression, rows)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (col("x") / 0, None),
        (lit(1) / (col("x") / 0), None),
        (-(lit(1) / (col("x") - 2)), None),
        ((col("x") * 0).log(), None),
        ((col("x") - 3).sqrt(), None),
        ((col("x") * 1000).exp(), None),
        (col("x") * 1e308 * 10 - 1, None),
        (col("bad") + 1, None),
        (col("bad").is_null(), True),
        (col("nothing") > 1, None),
        (col("nothing").eq(None), None),
        ((col("nothing") > 1) & (col("x") > 5), False),
        ((col("nothing") > 1) | (col("x") < 5), True),
        ((col("nothing") > 1) & (col("x") < 5), None),
        (~(col("nothing") > 1), None),
        (~(col("x") > 1), False),
        (col("nothing").coalesce(7), 7.0),
        (col("flag") + 1, 2.0),
        (col("word") < "ü", True),
        (col("big").eq(col("bigger")), False),
        (col("big").coalesce(col("x")) * 1.0, 2.0**53),
        (abs(-col("x")), 2.0),
    ],
)
def test_what_operators_mean(expression: Expression, expected: Scalar) -> None:
    row = {
        "x": 2.0, "bad": math.inf, "nothing": None, "flag": True, "word": "z",
        "big": 2**53, "bigger": 2**53 + 1,
    }  # fmt: skip
    frame = tidy(pl.DataFrame([row], schema_overrides={"nothing": pl.Float64}))
    assert compile_row(expression)(row) == expected
    assert frame.with_columns(to_polars(expression).alias("_"))["_"].to_list() == [expected]


def test_a_deep_expression_stays_small() -> None:
    expression: Expression = col("x")
    for _ in range(60):
        expression = expression / 1.0
    assert over_frame(expression, [{"x": 3.0}]) == [3.0]


def test_a_missing_entry_of_a_row_is_null() -> None:
    assert compile_row(col("x").is_null())({}) is True


@pytest.mark.parametrize("expression", [col("word") + 1, abs(col("word")), col("word") > 1])
def test_a_row_of_another_type_is_refused(expression: Expression) -> None:
    with pytest.raises(InputError, match="does not fit the record"):
        compile_row(expression)({"word": "many"})


def test_lead_needs_a_name_for_its_column() -> None:
    ahead = lead("x", "1h")
    expression = ahead > col("x")
    with pytest.raises(DeclarationError, match="only the expression of a label may"):
        to_polars(expression)
    with pytest.raises(DeclarationError, match="only the expression of a label may"):
        compile_row(expression)
    row = {"x": 1.0, "x in 1h": 2.0}
    assert compile_row(expression, lead_column=lambda node: f"{node.column} in {node.by}")(row)
    named = to_polars(expression, lead_column=lambda node: f"{node.column} in {node.by}")
    assert pl.DataFrame([row]).select(named).item() is True


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (col("x"), DType.FLOAT64),
        (lead("n", "1h"), DType.INT64),
        (lit(None), None),
        (lit(None).coalesce(None), None),
        (lit("a"), DType.STRING),
        (lit(1), DType.FLOAT64),
        (col("n").coalesce(col("x")), DType.FLOAT64),
        (col("n").coalesce(col("n")), DType.INT64),
        (col("word").is_null(), DType.BOOLEAN),
        (col("flag") & True, DType.BOOLEAN),
        (col("flag") + col("n"), DType.FLOAT64),
        (col("ts") > col("ts"), DType.BOOLEAN),
    ],
)
def test_types_of_expressions(expression: Expression, expected: DType | None) -> None:
    assert dtype_of(expression, SCHEMA) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (col("ex") + 1, "no column 'ex'. Did you mean"),
        (col("word") + 1, "is given string"),
        (col("word") > 1, "takes string here, but is given float64"),
        (col("x") & col("flag"), "takes boolean here, but is given float64"),
        (col("x").coalesce("a"), "is given string"),
    ],
)
def test_types_that_do_not_fit_are_refused(expression: Expression, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        dtype_of(expression, SCHEMA)


def doubled(values: FloatArray) -> FloatArray:
    return values * 2


def difference(left: FloatArray, right: FloatArray) -> FloatArray:
    return left - right


def is_positive(values: FloatArray) -> object:
    return values > 0


def broken(values: FloatArray) -> FloatArray:
    raise ValueError(f"no {len(values)}")


def ending(values: FloatArray) -> FloatArray:
    raise SystemExit(len(values) + 2)


def shrunk(values: FloatArray) -> FloatArray:
    return values[:0]


def test_functions_of_the_user_agree_over_frames_and_rows() -> None:
    rows: list[Record] = [{"x": 1.0, "y": 3.0}, {"x": None, "y": 1.0}, {"x": 0.0, "y": math.inf}]
    expression: Expression = function(difference, "x", "y") + 1
    assert over_rows(expression, rows) == over_frame(expression, rows) == [-1.0, None, None]
    expression = as_expression(function(is_positive, "x"))
    assert over_rows(expression, rows) == over_frame(expression, rows) == [1.0, 0.0, 0.0]
    assert dtype_of(function(doubled, "n"), SCHEMA) == DType.FLOAT64
    assert over_frame(function(doubled, "n") > 3, [{"n": 2}]) == [True]
    assert over_frame(function(broken, "x"), []) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (broken, r"broken' failed with ValueError: no 1 .*test_expressions"),
        (ending, r"ending' failed with SystemExit: 3 .*test_expressions"),
        (shrunk, "one value"),
    ],
)
def test_a_failing_function_of_the_user_is_named(body: object, message: str) -> None:
    expression = function(body, "x")  # type: ignore[arg-type]
    with pytest.raises(UserCodeError, match=message):
        over_rows(expression, [{"x": 1.0}])
    with pytest.raises(UserCodeError, match=message):
        over_frame(expression, [{"x": 1.0}])


def test_a_function_that_changed_or_vanished_is_refused() -> None:
    node = function(doubled, "x")
    changed = Function(node.module, node.qualname, node.source, "0" * 64, node.args)
    gone = Function(node.module, "nowhere", node.source, node.sha256, node.args)
    lost = Function("no.such.module", "f", node.source, node.sha256, node.args)
    hashes = rf"its source changed .*hash {'0' * 12}, now {node.sha256[:12]}\)"
    with pytest.raises(DeclarationError, match=hashes):
        compile_row(changed)
    for each in (gone, lost):
        with pytest.raises(DeclarationError, match="cannot be found again"):
            to_polars(each)


def test_every_operator_has_a_meaning() -> None:
    args = {"neg": 1, "abs": 1, "log": 1, "exp": 1, "sqrt": 1}
    for op in ("add", "sub", "mul", "div", *args):
        call = Call(op, (col("x"),) * args.get(op, 2))  # type: ignore[arg-type]
        agree(call, [{"x": 4.0}])
    assert np.isfinite(over_rows(col("x").sqrt(), [{"x": 4.0}])[0])  # type: ignore[arg-type]
