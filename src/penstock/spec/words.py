"""Definitions in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .durations import duration_text
from .expressions import Call, expression_text

if TYPE_CHECKING:
    from .aggregates import Aggregate
    from .expressions import Expression
    from .sources import Captured

__all__ = ["captured_words", "expression_words", "feature_words", "lookup_words"]

OPERATORS = {
    "sum": "sum of {column}",
    "mean": "mean of {column}",
    "min": "smallest {column}",
    "max": "largest {column}",
    "std": "standard deviation of {column}",
    "var": "variance of {column}",
    "first": "first {column}",
    "last": "last {column}",
    "first_k": "first {k} values of {column}",
    "last_k": "last {k} values of {column}",
    "top_k": "{k} largest values of {column}",
    "decayed_mean": "mean of {column}, a value counting half after {half_life}",
    "approx_distinct": "about how many distinct values {column} has",
    "approx_quantile": "about the value below which {share:g} % of {column} lie",
}


def expression_words(expression: Expression) -> str:
    """An expression as a reader would write it where it stands alone."""
    text = expression_text(expression)
    enclosed = isinstance(expression, Call) and text.startswith("(")
    return text[1:-1] if enclosed else text


def captured_words(captured: Captured) -> str:
    """Where a column comes from that is looked up, in words."""
    lookup = captured.lookup
    return lookup_words(captured.column, lookup.source.name, lookup.on, lookup.within)


def lookup_words(column: str, source: str, on: str, within: str) -> str:
    """Where a column that is looked up comes from, in words.

    Args:
        column: The column of the other source, or the feature's name within its view.
        source: Name of the other source, or of the view.
        on: The column that its key is looked up by.
        within: How long what was found stays true; empty for ever.
    """
    return f"{column} of {source} by {on}" + (f", within {within}" if within else "")


def feature_words(feature: Aggregate) -> str:
    """What a feature is, in words: ``"mean of ret over 6h, where volume > 0"``."""
    if feature.op == "count":
        head = f"number of values of {feature.column}" if feature.column else "number of records"
    else:
        share = 100 * feature.q
        head = OPERATORS[feature.op].format(
            column=feature.column, k=feature.k, half_life=feature.half_life, share=share
        )
    parts = [head + (f" over {feature.over}" if feature.over else "")]
    if feature.where is not None:
        parts.append(f"where {expression_words(feature.where)}")
    if feature.hop:
        exact = feature.hop_us == 1
        hop = duration_text(feature.hop_us)
        parts.append("to the microsecond" if exact else f"the far end rounded down to {hop}")
    return ", ".join(parts)
