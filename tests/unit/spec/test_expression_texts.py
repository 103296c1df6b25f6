"""Expressions read from text: what is written of one is read as that one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import InputError
from penstock.spec import Expression, expression_text, read_expression
from penstock.testing.strategies import conditions, numbers

AMOUNT, COUNTRY = ps.col("amount"), ps.col("country")


@given(st.one_of(conditions(), numbers()))
def test_what_is_written_of_an_expression_is_read_as_that_expression(
    expression: Expression,
) -> None:
    assert read_expression(expression_text(expression)) == expression


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amount > 1_000", AMOUNT > 1_000),
        (" amount>=-2.5 ", AMOUNT >= -2.5),
        ("country == 'DE' and amount > 1 and not flag",
         COUNTRY.eq("DE") & (AMOUNT > 1) & ~ps.col("flag")),
        ("(country == 'DE') | is_null(country)", COUNTRY.eq("DE") | COUNTRY.is_null()),
        ('~(country != "FR")', ~COUNTRY.ne("FR")),
        ("ps.col('amount') * 2 > ps.lit(3)", AMOUNT * 2 > 3),
        ("col('the amount').coalesce(0) < 5", ps.col("the amount").coalesce(0) < 5),
        ("ps.col('country').eq('DE')", COUNTRY.eq("DE")),
        ("-amount / abs(amount) < log(amount) + None", -AMOUNT / abs(AMOUNT) < AMOUNT.log() + None),
        ("not(flag) & other or not (flag & other)",
         (~ps.col("flag") & ps.col("other")) | ~(ps.col("flag") & ps.col("other"))),
        ("word == 'not(x)' and\n not(flag)", ps.col("word").eq("not(x)") & ~ps.col("flag")),
        ("flag == True", ps.col("flag").eq(other=True)),
    ],
)  # fmt: skip
def test_conditions_are_read_as_python_writes_them(text: str, expected: Expression) -> None:
    assert read_expression(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no condition"),
        ("amount >", "is no condition"),
        ("amount > 1; 2", "is no condition"),
        ("1 < amount < 3", "'1 < amount < 3' cannot stand in a condition"),
        ("amount > 1 & country == 'DE'", "cannot stand in a condition"),
        ("amount ** 2 > 4", "'amount ** 2' cannot stand"),
        ("amount in [1, 2]", "cannot stand"),
        ("amount > 1e999", "'1e999' cannot stand"),
        ("amount > 2j", "'2j' cannot stand"),
        ("open('x') > 1", "\"open('x')\" cannot stand"),
        ("abs(amount, 2) > 1", "'abs(amount, 2)' cannot stand"),
        ("coalesce(amount) > 1", "cannot stand"),
        ("amount.__class__ > 1", "'amount.__class__' cannot stand"),
        ("col(amount) > 1", "'col(amount)' cannot stand"),
        ("f'{amount}' == 'a'", "cannot stand"),
        ("(lambda: 1)() > 1", "cannot stand"),
        ("lead(close, 1) > 1", "cannot stand"),
        ("abs(amount, x=1)", "cannot stand"),
        ("amount > " + "9" * 3_000, "give 2000 at most"),
        ("amount > " + "-" * 500 + "x", "nested deeper than 100"),
        (" or ".join(["flag"] * 200), "nested deeper than 100"),
        ("(" * 900 + "x" + ")" * 900, "is no condition"),
        ("amount > '\0'", "is no condition"),
    ],
)
def test_what_is_no_condition_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        read_expression(text)
    assert said in refused.value.message


PARTS = (
    "amount", "not", "not(", "(", ")", " ", "and", "&", "|", "~", "-", ">", "==", "1", "1e999", "'",
    '"', "\\", "\r", "\n", "\t", "\f", "\0", "#", ",", ".", "col", "lit(", "abs(", "eq(", "lambda",
    ":", "[", "]", "{", "}", "*", "=", "é", "\ud800", "\u2028", "True", "None", "if", "else",
    "@", "0x", "j",
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(st.sampled_from(PARTS), max_size=30).map("".join)))
def test_any_text_is_read_or_refused(text: str) -> None:
    """What is read can be written and, but for names that are no words, read again."""
    with contextlib.suppress(InputError):
        expression = read_expression(text)
        assert read_expression(expression_text(expression)) == expression
