from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import DeclarationError
from penstock.spec import (
    Call,
    Column,
    Constant,
    Expression,
    Function,
    Lead,
    columns_of,
    expression_text,
    functions_of,
    is_condition,
    leads_of,
)


def doubled(values: object) -> object:
    return values


def test_operators_build_the_tree_in_the_order_written() -> None:
    expression = 1 - ps.col("close") / ps.col("open")

    assert expression == Call("sub", (Constant(1), Call("div", (Column("close"), Column("open")))))


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (ps.col("a") + 1, "(a + 1)"),
        (1 + ps.col("a"), "(1 + a)"),
        (ps.col("a") - 1, "(a - 1)"),
        (ps.col("a") * 2, "(a * 2)"),
        (2 * ps.col("a"), "(2 * a)"),
        (2 / ps.col("a"), "(2 / a)"),
        (-ps.col("a"), "neg(a)"),
        (abs(ps.col("a")), "abs(a)"),
        (ps.col("a") >= 1, "(a >= 1)"),
        (ps.col("a") < 1, "(a < 1)"),
        (ps.col("a") <= 1, "(a <= 1)"),
        ((ps.col("a") > 1) & ~ps.col("b").is_null(), "((a > 1) & not(is_null(b)))"),
        ((ps.col("a") > 1) | ps.col("b").eq("x"), "((a > 1) | (b == 'x'))"),
        (ps.col("a").ne(1), "(a != 1)"),
        (ps.col("a").coalesce(0.0), "coalesce(a, 0.0)"),
        (ps.col("a").log().exp().sqrt(), "sqrt(exp(log(a)))"),
        (ps.lead("close", "60m"), "lead(close, 1h)"),
        (ps.function(doubled, "a", "b"), "doubled(a, b)"),
        (ps.lit(None), "None"),
    ],
)
def test_the_text_reads_as_it_was_written(expression: Expression, text: str) -> None:
    assert expression_text(expression) == text


def test_an_expression_has_no_truth_value() -> None:
    with pytest.raises(TypeError, match="combine conditions with '&'"):
        bool(ps.col("a") > 1)


def test_only_plain_values_stand_in_an_expression() -> None:
    with pytest.raises(TypeError, match="cannot stand in an expression"):
        _ = ps.col("a") + [1]  # noqa: RUF005  # type: ignore[operator, unused-ignore]  # the fault under test


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_no_expression_yields_is_no_constant(value: float) -> None:
    with pytest.raises(ValueError, match="use None"):
        ps.lit(value)
    with pytest.raises(ValueError, match="use None"):
        _ = ps.col("a") > value


def test_a_function_is_stored_by_source_module_and_hash() -> None:
    expression = ps.function(doubled, "a")

    assert (expression.module, expression.qualname) == (doubled.__module__, "doubled")
    assert "return values" in expression.source
    assert len(expression.sha256) == 64
    assert functions_of(expression + 1) == (expression,)


def test_a_lambda_is_refused_because_it_cannot_be_found_again() -> None:
    with pytest.raises(DeclarationError, match="top of a module"):
        ps.function(lambda values: values, "a")


@pytest.mark.parametrize("by", ["1 hour", "0s", "-1h", ""])
def test_lead_looks_a_real_duration_ahead(by: str) -> None:
    with pytest.raises(DeclarationError, match="lead"):
        ps.lead("close", by)


def test_what_an_expression_reads() -> None:
    expression = (ps.lead("close", "1h") > ps.col("close")) & (ps.col("volume") > 0)

    assert columns_of(expression) == {"close", "volume"}
    assert leads_of(expression) == (Lead("close", "1h"),)
    assert is_condition(expression)
    assert not is_condition(ps.col("close") + 1)


def expressions() -> st.SearchStrategy[Expression]:
    leaves = st.one_of(
        st.builds(Column, st.sampled_from(["a", "b"])),
        st.builds(
            Constant,
            st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()),
        ),
        st.builds(Lead, st.just("a"), st.just("1h")),
        st.builds(
            Function,
            st.just("m"),
            st.just("f"),
            st.text(max_size=5),
            st.just("0" * 64),
            st.just((Column("a"),)),
        ),
    )
    return st.recursive(
        leaves,
        lambda inner: st.builds(
            Call, st.sampled_from(["add", "gt", "coalesce"]), st.tuples(inner, inner)
        ),
        max_leaves=8,
    )


@given(expressions())
def test_an_expression_survives_storage(expression: Expression) -> None:
    stored = msgspec.json.encode(expression)

    assert msgspec.json.decode(stored, type=Expression) == expression
