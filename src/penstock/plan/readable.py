"""Documents as people read them: expressions as they are written, lookups by their columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from penstock.spec import (
    Expression,
    OnDemandFeature,
    expression_words,
    functions_of,
    lookup_words,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LookupText", "lookups_in", "readable"]

LOOKUPS = "lookups"
DESCRIBED = OnDemandFeature.__struct_config__.tag
EXPRESSIONS = frozenset({"col", "lit", "call", "lead", "fn"})


def readable(document: Mapping[str, object]) -> dict[str, object]:
    """A declaration's document with each expression and each column looked up as text."""
    shown: dict[str, object] = {}
    for name, value in document.items():
        if isinstance(value, dict) and value.get("type") == DESCRIBED:
            shown |= _described(name, value)
        elif name != LOOKUPS:
            shown[name] = _value(value)
    if LOOKUPS in document:
        # A column may be called so too; and what another version wrote is shown as it is stored.
        texts = {name: one.text for name, one in lookups_in(document).items()}
        shown[LOOKUPS] = texts or _value(document[LOOKUPS])
    return shown


def _described(name: str, document: Mapping[str, object]) -> dict[str, object]:
    """A feature on demand of which something is said: what it means, and each thing beside it.

    It means the same where nothing is said, so then too it stands under its name alone.
    """
    rest = [field for field in document if field not in {"type", OnDemandFeature.MEANT}]
    meant = _value(document.get(OnDemandFeature.MEANT))
    return {name: meant} | {f"{name}.{field}": document[field] for field in rest}


class LookupText(NamedTuple):
    """Where a column comes from that is looked up.

    Attributes:
        kind: What is looked into: ``source`` or ``feature_view``.
        name: Its name.
        on: The column that its key is looked up by.
        text: All of it, in words.
    """

    kind: str
    name: str
    on: str
    text: str


def lookups_in(document: Mapping[str, object]) -> dict[str, LookupText]:
    """Where each column comes from that a source looks up, by its name, from its document."""
    try:
        lookups = msgspec.convert(document.get(LOOKUPS, ()), tuple[_Lookup, ...])
    except msgspec.ValidationError:
        return {}  # of another version of Penstock
    found: dict[str, LookupText] = {}
    for one in lookups:
        kind, _, other = one.source.ref.partition("/")
        for name, column in one.columns.items():
            text = lookup_words(column, other, one.on, one.within)
            found[name] = LookupText(kind, other, one.on, text)
    return found


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
