from __future__ import annotations

import pytest

import penstock as ps
from penstock.spec import expression_words, feature_words


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        (ps.count(), "number of records"),
        (ps.count("x", over="1d"), "number of values of x over 1d"),
        (ps.mean("x", over="6h"), "mean of x over 6h"),
        (
            ps.max("x", over="6h", hop="10m", where=ps.col("y") > 0),
            "largest x over 6h, where y > 0, the far end rounded down to 10m",
        ),
        (ps.last("x", over="6h", hop="0s"), "last x over 6h, to the microsecond"),
        (ps.last_k("x", 3), "last 3 values of x"),
        (ps.decayed_mean("x", "1h"), "mean of x, a value counting half after 1h"),
        (ps.approx_quantile("x", 0.95), "about the value below which 95 % of x lie"),
        (ps.count(where=~ps.col("y").is_null()), "number of records, where not(is_null(y))"),
    ],
)
def test_a_definition_in_words(feature: ps.Aggregate, words: str) -> None:
    assert feature_words(feature) == words


def test_an_expression_that_stands_alone_needs_no_parentheses() -> None:
    assert expression_words((ps.col("a") + 1) / ps.col("b")) == "(a + 1) / b"
    assert expression_words((ps.col("a") + 1) * (ps.col("b") + 1)) == "(a + 1) * (b + 1)"
    assert expression_words(-ps.col("a")) == "neg(a)"
    assert expression_words(ps.lit("(x)")) == "'(x)'"
