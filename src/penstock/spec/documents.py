"""Declarations as JSON documents, and back.

In a document, a declaration that another refers to stands as ``{"ref": "source/candles"}``, so each
is stored once and a change of one is a change of one document. The semantic fingerprint of a
declaration covers those it refers to and leaves out what is only shown (description, owner, tags,
unit, deprecation).
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, TypeVar

import msgspec

from penstock.errors import StateError

from .base import Declared, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "declarations_in",
    "fingerprint",
    "from_document",
    "key_of",
    "kind_of",
    "references_of",
    "to_document",
]

D = TypeVar("D", bound=Declared)
ALWAYS = ("description", "owner")
"""Shown fields that a declaration's document has always had, said or not; others only if said."""
REF = "ref"


def kind_of(value: Declared | type[Declared]) -> str:
    """The kind of a declaration as commands and documents call it: ``"feature_view"``."""
    cls = value if isinstance(value, type) else type(value)
    return str(cls.__struct_config__.tag)


def key_of(value: Declared) -> str:
    """The declaration's key among all: ``"source/candles"``."""
    return f"{kind_of(value)}/{value.name}"


def references_of(value: Declared) -> tuple[Declared, ...]:
    """The declarations that this one refers to directly, in the order of its fields."""
    return tuple(_inside(value))


def declarations_in(values: Iterable[D]) -> tuple[D, ...]:
    """The values and everything they refer to, each once, each after what it refers to.

    Two unequal declarations of one kind and name both appear; whoever asked reports them.
    """
    found: list[D] = []

    def visit(value: D) -> None:
        if value in found:
            return
        for inner in references_of(value):
            visit(inner)  # type: ignore[arg-type]  # a reference is a declaration like any other
        found.append(value)

    for value in values:
        visit(value)
    return tuple(found)


def to_document(value: Declared) -> dict[str, object]:
    """The declaration as plain JSON values, with references by key."""
    document = _plain(value, top=True)
    if not isinstance(document, dict):  # pragma: no cover - a struct always becomes a dict
        raise TypeError(type(document))
    return document


def from_document(cls: type[D], document: Mapping[str, object], known: Mapping[str, Declared]) -> D:
    """Rebuild a declaration.

    Args:
        cls: Its class.
        document: What ``to_document`` made.
        known: The declarations it may refer to, by key.

    Raises:
        StateError: The document does not describe such a declaration, or refers to one unknown.
    """
    try:
        return msgspec.convert(_resolved(document, known), cls)
    except (msgspec.ValidationError, KeyError) as error:
        raise StateError(
            f"The stored {kind_of(cls)} {document.get('name')!r} cannot be read: {error}. "
            "It was written by another version; run 'penstock apply' again.",
            name=document.get("name"),
        ) from error


def fingerprint(value: Declared, known: dict[int, str] | None = None) -> str:
    """Hash (sha256, hex) of what the declaration means, through everything it refers to.

    A whole number means the same however it is written: ``between("low", 0, None)`` comes back from
    storage with 0.0, and is still the same declaration.

    Args:
        value: The declaration.
        known: What was found of others before, by the identity of their objects, which live as long
            as it is used; added to. Thousands of models on one dataset then have it hashed once.
    """
    known = {} if known is None else known
    if id(value) in known:
        return known[id(value)]
    document = _canonical(_plain(value, top=True, shown=False))
    inner: dict[str, str] = {}
    for holder, other in _held(value):
        found = _decisive(holder, other, known)
        before = inner.setdefault(key_of(other), found)
        if found not in before:  # of one view one lookup may want other features than the next
            inner[key_of(other)] = before + found
    text = json.dumps([document, inner], sort_keys=True, separators=(",", ":"))
    known[id(value)] = found = hashlib.sha256(text.encode()).hexdigest()
    return found


def _decisive(holder: object, other: Declared, known: dict[int, str]) -> str:
    """The fingerprint of what decides something of a declaration that is referred to."""
    part = holder.decided_by(other) if isinstance(holder, Value) else other
    found = fingerprint(part, known)
    if part is not other:
        del known[id(part)]  # it lives no longer than this call, and another may get its identity
    return found


def _inside(value: object) -> Iterator[Declared]:
    return (child for _, child in _held(value))


def _held(value: object) -> Iterator[tuple[object, Declared]]:
    """The declarations that are referred to, each with the value that has it in a field."""
    for child in _children(value):
        if isinstance(child, Declared):
            yield value, child
        else:
            yield from _held(child)


def _children(value: object) -> Iterator[object]:
    if isinstance(value, msgspec.Struct):
        yield from (getattr(value, name) for name in value.__struct_fields__)
    elif isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()


def _plain(value: object, *, top: bool = False, shown: bool = True) -> object:
    """The value as plain JSON values, with or without what is only shown."""
    if isinstance(value, Declared) and not top:
        return {REF: key_of(value)}
    if isinstance(value, Value) and _stands_as_meant(value, shown=shown):
        return _plain(getattr(value, value.MEANT), shown=shown)
    if isinstance(value, msgspec.Struct):
        fields = {
            name: _plain(getattr(value, name), shown=shown) for name in _names(value, shown=shown)
        }
        tag = value.__struct_config__.tag
        head: dict[str, object] = {} if tag is None else {"type": tag}
        return head | {name: field for name, field in fields.items() if field not in ((), [], {})}
    if isinstance(value, (list, tuple)):
        return [_plain(item, shown=shown) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item, shown=shown) for key, item in value.items()}
    return msgspec.to_builtins(value)


def _stands_as_meant(value: Value, *, shown: bool) -> bool:
    """Whether a value stands in its document as the one field that says what it means."""
    said = shown and any(getattr(value, name) for name in value.SHOWN)
    return bool(value.MEANT) and not said


def _names(value: msgspec.Struct, *, shown: bool) -> Iterator[str]:
    """The fields of a value that its document has."""
    only_shown = value.SHOWN if isinstance(value, Value) else ()
    later = value.LATER if isinstance(value, Value) else ()
    always = ALWAYS if isinstance(value, Declared) else ()
    for name in value.__struct_fields__:
        if name in later and getattr(value, name) == _default(value, name):
            continue
        if name not in only_shown or (shown and (name in always or getattr(value, name))):
            yield name


def _default(value: msgspec.Struct, name: str) -> object:
    """What a field is where nothing is said."""
    names, defaults = value.__struct_fields__, value.__struct_defaults__
    place = names.index(name) - len(names)  # the defaults are those of the last fields
    return defaults[place] if -place <= len(defaults) else msgspec.NODEFAULT


def _canonical(value: object) -> object:
    """The value with whole floats as integers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    return value


def _resolved(value: object, known: Mapping[str, Declared]) -> object:
    if isinstance(value, dict):
        if set(value) == {REF}:
            return known[str(value[REF])]
        return {key: _resolved(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, known) for item in value]
    return value
