"""Field-level difference of two documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from penstock.spec import Described

from .steps import FieldChange

if TYPE_CHECKING:
    from penstock.spec import Declared

__all__ = ["field_changes", "is_shown_only"]

FEATURES = "features."


def field_changes(before: Mapping[str, object], after: Mapping[str, object]) -> list[FieldChange]:
    """Every field in which two documents differ, by path.

    Members of a list that have names are compared by name, so that a feature put in between
    shows as one new feature; so are members that refer to a declaration, or to some features of a
    view. Other lists are compared as a whole.
    """
    return list(_mapping("", before, after))


def is_shown_only(value: type[Declared] | Declared, path: str) -> bool:
    """Whether a field of a declaration's document is no part of what it means.

    Args:
        value: The declaration, or its class.
        path: The field's path, as ``field_changes`` gives it.
    """
    if path.startswith(FEATURES):
        inner, _, field = path.removeprefix(FEATURES).rpartition(".")
        return bool(inner) and field in Described.SHOWN
    return path in value.SHOWN


def _mapping(
    path: str, before: Mapping[str, object], after: Mapping[str, object]
) -> Iterator[FieldChange]:
    for name in [*before, *(name for name in after if name not in before)]:
        inner = f"{path}.{name}" if path else name
        yield from _value(inner, before.get(name), after.get(name))


def _value(path: str, before: object, after: object) -> Iterator[FieldChange]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _mapping(path, before, after)
        return
    old, new = _by_name(before), _by_name(after)
    if old is None or new is None:
        yield FieldChange(path=path, before=before, after=after)
        return
    names = [*old, *(name for name in new if name not in old)]
    inner = [
        change
        for name in names
        for change in _value(f"{path}.{name}", old.get(name), new.get(name))
    ]
    # The same members in another order are a change too: of a model's inputs, for one.
    yield from inner or [FieldChange(path=path, before=list(old), after=list(new))]


def _by_name(value: object) -> Mapping[str, object] | None:
    """The members of a list by their names; None where it is no list of named members."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    members = {name: member for member in value if (name := _name_of(member))}
    return members if len(members) == len(value) else None


def _name_of(member: object) -> str:
    """What a member of a list is called: its own name, or that of the view it is some features of.

    Empty for one without either.
    """
    if not isinstance(member, dict):
        return ""
    view = member.get("view")
    if isinstance(view, dict):
        member = view
    return str(member.get("name") or member.get("ref") or "")
