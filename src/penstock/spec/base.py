"""What every declared value shares: it is frozen, does no I/O and reports all its faults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, get_args, get_origin

import msgspec

from penstock.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Declared", "Named", "Value", "argument_names", "tag_faults", "unique_faults"]

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A frozen, keyword-only value that checks itself when it is built.

    Subclasses yield what is wrong with them from ``_faults``; building raises one
    ``DeclarationError`` with all of it. Lists are kept as tuples, so that a declaration
    never changes after it was checked.

    Attributes:
        SHOWN: Fields that are only shown and no part of what the value means.
        LATER: Fields that came after documents of the value were first stored. A document has them
            where they say something, so that one which does not use them means what it meant.
        MEANT: The one field that says what the value means, where all others are only shown. A
            value of which nothing is shown stands in a document as this field alone, and so does
            every such value in a fingerprint. Empty for none.
    """

    SHOWN: ClassVar[tuple[str, ...]] = ()
    LATER: ClassVar[tuple[str, ...]] = ()
    MEANT: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, list):
                msgspec.structs.force_setattr(self, name, tuple(value))
        faults = [
            f"{name}={value} is not finite; leave it out or give a finite number"
            for name in self.__struct_fields__
            if isinstance(value := getattr(self, name), float) and not math.isfinite(value)
        ]
        faults += self._checked()
        if faults:
            raise DeclarationError.of(self._subject(), faults)

    def decided_by(self, other: Declared) -> Declared:
        """What of a declaration that this value refers to decides what the value means."""
        return other

    def _subject(self) -> str:
        """How messages call this value."""
        return type(self).__name__

    def _checked(self) -> list[str]:
        """The faults; where the checks themselves break, the fields of a wrong type."""
        try:
            return list(self._faults())
        except (AttributeError, TypeError):
            faults = list(self._type_faults())
            if not faults:
                raise
            return faults

    def _type_faults(self) -> Iterator[str]:
        """Yield each field whose value is of another type than declared."""
        for field in msgspec.structs.fields(type(self)):
            value = getattr(self, field.name)
            if not _fits(value, field.type):
                yield _type_fault(field.name, value, field.type)

    def _faults(self) -> Iterator[str]:
        """Yield each thing that is wrong with this value."""
        yield from ()


class Declared(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A value of a project that others refer to by name.

    Attributes:
        name: Lower-case letters, digits, ``_`` and ``-``; unique among its kind in a project.
        description: What it is for; shown, never interpreted.
        owner: Who answers for it.
        tags: Words to find and to protect it by.
    """

    SHOWN: ClassVar[tuple[str, ...]] = ("description", "owner", "tags")

    name: str
    description: str = ""
    owner: str = ""
    tags: Sequence[str] = ()

    def _subject(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _faults(self) -> Iterator[str]:
        if not self.name:
            yield "name is empty; give it one"
        elif not set(self.name) <= NAME_CHARACTERS:
            wrong = "".join(sorted(set(self.name) - NAME_CHARACTERS))
            yield (
                f"name {self.name!r} has the characters {wrong!r}; "
                "use lower-case letters, digits, '_' and '-'"
            )
        yield from tag_faults(self.tags)


class Named(Declared, frozen=True, omit_defaults=True):
    """A declaration whose name comes first: ``Entity("symbol")``."""

    name: str


def tag_faults(tags: Sequence[object]) -> Iterator[str]:
    """Yield what is wrong with a value's tags: a text is no list, though it is a sequence too."""
    if isinstance(tags, str):
        yield f"tags={tags!r} is one text; give a list, such as tags=[{tags!r}]"
    elif not all(isinstance(tag, str) and tag.strip() for tag in tags):
        yield f"tags={tuple(tags)!r} has one that is empty or no text; give words"


def unique_faults(what: str, names: list[str]) -> Iterator[str]:
    """Yield a fault for each name that occurs more than once.

    Args:
        what: How to call one of them, such as ``"feature"``.
        names: The names in order.
    """
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{what} {name!r} is declared {names.count(name)} times; give each its own name"


def argument_names() -> set[str]:
    """Names of the arguments of every declared value."""
    kinds: list[type[Value]] = [Value]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return {name for kind in kinds for name in kind.__struct_fields__}


def _fits(value: object, wanted: Any) -> bool:  # noqa: ANN401 - a type of any form
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        return False
    return True


def _type_fault(name: str, value: object, wanted: Any) -> str:  # noqa: ANN401 - as above
    """What is wrong with a field of another type: of a list, which of its members."""
    kinds = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    for kind in kinds:
        if get_origin(kind) is not Sequence:
            continue
        if not isinstance(value, tuple):
            return f"{name} is {_shown(value)}; put it into a list: {name}=[...]"
        (inner,) = get_args(kind)
        wrong = next((one for one in value if not _fits(one, inner)), value)
        return f"{name} holds {_shown(wrong)}; give a value of type {_type_words(inner)} there"
    return f"{name} is {_shown(value)}; give a value of type {_type_words(wanted)}"


def _shown(value: object) -> str:
    """A value for messages; a declaration by its name, as it refers to others without end."""
    return f"{type(value).__name__}({value.name!r})" if isinstance(value, Declared) else repr(value)


def _type_words(wanted: Any) -> str:  # noqa: ANN401 - as above
    parts = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    return " or ".join(getattr(part, "__name__", str(part)) for part in parts)
