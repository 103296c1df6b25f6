"""Documents as people read them: expressions as they are written, lookups by their columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.spec import Expression, expression_words, functions_of, lookup_words

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["readable"]

LOOKUPS = "lookups"
EXPRESSIONS = frozenset({"col", "lit", "call", "lead", "fn"})


def readable(document: Mapping[str, object]) -> dict[str, object]:
    """A declaration's document with each expression and each column looked up as text."""
    return {
        name: _lookups(value) if name == LOOKUPS else _value(value)
        for name, value in document.items()
    }


def _lookups(value: object) -> object:
    """Where each column that is looked up comes from, by its name."""
    try:
        lookups = msgspec.convert(value, list[_Lookup])
    except msgspec.ValidationError:
        return value  # of another version of Penstock; it is shown as it is stored
    return {
        name: lookup_words(column, lookup.source.ref.partition("/")[2], lookup.on, lookup.within)
        for lookup in lookups
        for name, column in lookup.columns.items()
    }


class _Ref(msgspec.Struct, frozen=True):
    ref: str


class _Lookup(msgspec.Struct, frozen=True):
    source: _Ref
    on: str
    columns: dict[str, str]
    within: str = ""


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
