"""Documents as people read them: expressions as they are written, and not as trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.spec import Expression, expression_words, functions_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["readable"]

EXPRESSIONS = frozenset({"col", "lit", "call", "lead", "fn"})


def readable(document: Mapping[str, object]) -> dict[str, object]:
    """A declaration's document with each expression in it as text."""
    return {name: _value(value) for name, value in document.items()}


def _value(value: object) -> object:
    if isinstance(value, list):
        return [_value(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") in EXPRESSIONS:
        try:
            return _text(msgspec.convert(value, Expression))
        except msgspec.ValidationError:
            return value  # of another version of Penstock; it is shown as it is stored
    return readable(value)


def _text(expression: Expression) -> str:
    """The expression, with the hash of each function's code: by that alone two may differ."""
    codes = [f", {one.qualname} is {one.sha256[:8]}" for one in functions_of(expression)]
    return expression_words(expression) + "".join(codes)
