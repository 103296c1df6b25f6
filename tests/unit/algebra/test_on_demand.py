from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import assume, given

import penstock as ps
from penstock.algebra import compile_on_demand
from penstock.errors import DeclarationError
from penstock.spec import columns_of
from penstock.testing.oracle import naive_expression
from penstock.testing.strategies import SCHEMA, conditions, histories, numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from penstock.spec import Expression

REQUEST = {name: SCHEMA[name] for name in ("x", "y", "n", "flag", "word")}
POLARS = {ps.String: pl.String, ps.Float64: pl.Float64, ps.Int64: pl.Int64, ps.Boolean: pl.Boolean}


def square(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> object:
    return values * values


def naive(view: ps.OnDemandView, row: Mapping[str, object]) -> list[float | None]:
    known = dict(row)
    for name, expression in view.expressions.items():
        known[name] = naive_expression(expression, known)
    values = [known[name] for name in view.features]
    return [None if value is None else float(value) for value in values]  # type: ignore[arg-type]


@given(numbers(), conditions(), histories(12))
def test_frames_and_rows_give_what_a_naive_reading_gives(
    number: Expression, condition: Expression, rows: list[dict[str, object]]
) -> None:
    assume(columns_of(number) and columns_of(condition))
    features: dict[str, Expression] = {
        "a": number,
        "b": condition,
        "c": ps.col("a") + ps.col("b") * ps.col("x"),
    }
    view = ps.OnDemandView("o", request=REQUEST, features=features)
    program = compile_on_demand(view)
    frame = pl.DataFrame(rows, schema={name: POLARS[dtype] for name, dtype in REQUEST.items()})
    expected = [naive(view, row) for row in rows]
    columns = program.frame(frame)
    assert [column.name for column in columns] == ["o.a", "o.b", "o.c"]
    assert {column.dtype for column in columns} == {pl.Float64()}
    assert [list(row) for row in zip(*columns, strict=True)] == expected
    assert [list(program.row({n: row[n] for n in program.needs})) for row in rows] == expected


def test_a_function_of_the_user_is_called_in_both() -> None:
    features: dict[str, Expression] = {"f": ps.function(square, "x"), "whole": ps.col("n") + 0}
    program = compile_on_demand(ps.OnDemandView("o", request=REQUEST, features=features))
    (column, whole) = program.frame(pl.DataFrame({"x": [3.0, None], "n": [1, None]}))
    assert column.to_list() == [9.0, None]
    assert whole.to_list() == [1.0, None]
    assert list(program.row({"x": 3.0, "n": 1})) == [9.0, 1.0]


def test_wrong_types_are_named_together() -> None:
    features: dict[str, Expression] = {
        "text": ps.col("word"),
        "sum": ps.col("word") + 1,
        "after": ps.col("sum") * 2,
        "null": ps.col("x").coalesce(None),
    }
    with pytest.raises(DeclarationError) as caught:
        compile_on_demand(ps.OnDemandView("o", request=REQUEST, features=features))
    assert len(caught.value.faults) == 2
    assert "feature 'text' gives string; a feature is a number" in caught.value.message
    assert "feature 'sum'" in caught.value.message
