"""Values of an answer, checked for their types."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, cast

from .errors import UnexpectedAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["moment", "number", "obj", "text", "truth", "whole"]


def obj(told: object, name: str = "The answer") -> Mapping[str, object]:
    """An object."""
    if not isinstance(told, dict):
        raise _wrong(name, "an object", told)
    return cast("Mapping[str, object]", told)


def text(told: Mapping[str, object], name: str) -> str:
    """A text."""
    value = told.get(name)
    if not isinstance(value, str):
        raise _wrong(name, "a text", value)
    return value


def number(told: Mapping[str, object], name: str) -> float:
    """A number."""
    value = told.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(name, "a number", value)
    return float(value)


def whole(told: Mapping[str, object], name: str) -> int:
    """A whole number."""
    value = told.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, "a whole number", value)
    return value


def truth(told: Mapping[str, object], name: str) -> bool:
    """True or false."""
    value = told.get(name)
    if not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return value


def moment(told: Mapping[str, object], name: str) -> datetime:
    """A time with its zone."""
    value = text(told, name)
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise _wrong(name, "a time", value) from None


def _wrong(name: str, wanted: str, value: object) -> UnexpectedAnswer:
    return UnexpectedAnswer(f"{name} is {value!r}, not {wanted}. Make this client again.")
