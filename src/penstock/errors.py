"""The one exception tree of Penstock.

    PenstockError
    ├── DeclarationError    definitions that cannot work; holds every fault found
    ├── SettingsError       a setting is wrong: names it, what was expected, where it was read
    ├── NotFoundError       no such thing; names the nearest one that exists
    ├── InputError          data or an argument does not fit what it is handed to
    │   └── UnknownEntityError   nothing is known of an entity, and such are refused; says which
    ├── ConflictError       somebody else changed it first, or it exists with another content
    ├── NotReadyError       an earlier step has to be done first; says which
    │   └── StaleError         features are older than their view allows; says how old
    ├── GateError           a gate refused a candidate
    ├── AccessError         the caller has no identity or not the role it takes
    ├── StateError          what is stored on disk cannot be read or was altered
    ├── UserCodeError       a function of the user failed; keeps their traceback
    ├── NotSupportedError   not built; says what is
    └── RetryableError      may succeed when tried again
        └── UnavailableError   a resource is busy or cannot be reached
            ├── OverloadedError   more is asked for than can be answered in time
            └── NotLoggedError    the score log cannot be written; no version is at fault

Every error says what was wrong, what was expected and what to do. The facts stay readable as
``error.facts``, and every error survives pickling, since work runs in other processes.

What stands, and may not be what was meant, is told by a warning instead:

    PenstockWarning
    ├── StaleWarning             features are older than their view allows; says since when
    ├── StoredFeaturesWarning    stored features lack rows or newer records; says how many
    └── UnknownEntitiesWarning   rows are of entities of which nothing is known; says how many
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "AccessError",
    "ConflictError",
    "DeclarationError",
    "GateError",
    "InputError",
    "NotFoundError",
    "NotLoggedError",
    "NotReadyError",
    "NotSupportedError",
    "OverloadedError",
    "PenstockError",
    "PenstockWarning",
    "RetryableError",
    "SettingsError",
    "StaleError",
    "StaleWarning",
    "StateError",
    "StoredFeaturesWarning",
    "UnavailableError",
    "UnknownEntitiesWarning",
    "UnknownEntityError",
    "UserCodeError",
    "nearest",
]


class _Told(Exception):  # noqa: N818 - errors and warnings
    """What is told in words and by the facts."""

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts: Mapping[str, object] = facts

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, dict(self.facts))


class PenstockError(_Told):
    """Base of everything Penstock raises on purpose.

    Args:
        message: What was wrong, what was expected, what to do.
        facts: The values the message was made from, for programs.
    """

    @property
    def plain(self) -> str:
        """The message without words of a user's function, for those who may not read the data."""
        return self.message

    @property
    def kind(self) -> str:
        """The error's name as clients see it: ``not_found`` for ``NotFoundError``."""
        name = type(self).__name__.removesuffix("Error")
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class DeclarationError(PenstockError):
    """One or more definitions cannot work; ``faults`` lists all of them."""

    @classmethod
    def of(cls, subject: str, faults: Iterable[str]) -> DeclarationError:
        """Build the error of one subject from the faults found in it."""
        found = tuple(faults)
        lines = "\n".join(f"  - {fault}" for fault in found)
        return cls(f"{subject} cannot work:\n{lines}", subject=subject, faults=found)

    @property
    def faults(self) -> tuple[str, ...]:
        """Every fault, in the order found."""
        found = self.facts.get("faults", ())
        return tuple(str(fault) for fault in found) if isinstance(found, (list, tuple)) else ()

    def within(self, what: str) -> list[str]:
        """The faults as those of something that holds what is faulty.

        Args:
            what: The place in it, such as ``"derive 'ret'"``.
        """
        subject = self.facts.get("subject", "")
        return [f"{what}: {subject} {fault}" for fault in self.faults]


class SettingsError(PenstockError):
    """A setting is wrong."""


class NotFoundError(PenstockError):
    """Nothing of that name exists."""

    @classmethod
    def of(
        cls, kind: str, name: str, known: Iterable[str] = (), *, hint: str = ""
    ) -> NotFoundError:
        """Build the error for an unknown name, with the nearest known one.

        Args:
            kind: What was looked for, such as ``"model"``.
            name: The name that was given.
            known: The names that exist.
            hint: What to do, where the known names do not say it.
        """
        names = sorted(set(known))
        parts = [f"There is no {kind} {name!r}.", nearest(name, names), hint]
        message = " ".join(part for part in parts if part)
        return cls(message, kind=kind, name=name, known=names)


class InputError(PenstockError):
    """Data or an argument does not fit."""


class UnknownEntityError(InputError):
    """Nothing is known of an entity, and nothing is told of such."""


class ConflictError(PenstockError):
    """The thing changed, or exists with another content."""


class NotReadyError(PenstockError):
    """An earlier step has to be done first."""


class StaleError(NotReadyError):
    """Features are older than their view allows."""


class PenstockWarning(_Told, UserWarning):
    """Base of everything Penstock warns of through ``warnings``: the result stands all the same.

    Args:
        message: What may not be as it was meant.
        facts: The values the message was made from, for programs.
    """


class StaleWarning(PenstockWarning):
    """Features are older than their view allows."""


class StoredFeaturesWarning(PenstockWarning):
    """Stored features lack what they were asked for: rows, or records that came in later."""


class UnknownEntitiesWarning(PenstockWarning):
    """Rows are of entities of which nothing is known: their features are those of such a one."""


class GateError(PenstockError):
    """A gate refused."""


class AccessError(PenstockError):
    """No identity, or not the role it takes."""


class StateError(PenstockError):
    """Stored state cannot be read, or was altered."""


class UserCodeError(PenstockError):
    """A function of the user failed.

    Its message repeats what the function said, in which there may be values of the data.
    """

    @property
    def plain(self) -> str:
        """The message without the function's own words."""
        return str(self.facts.get("plain", "A function of the user failed."))


class NotSupportedError(PenstockError):
    """Not built."""


class RetryableError(PenstockError):
    """May succeed when tried again."""


class UnavailableError(RetryableError):
    """A resource is busy or cannot be reached."""


class OverloadedError(UnavailableError):
    """More is asked for than can be answered in time: nothing is broken."""


class NotLoggedError(UnavailableError):
    """The score log cannot be written, so there is no answer: no version is at fault."""


def nearest(name: str, known: Iterable[str], *, show: int = 8) -> str:
    """Say which known name was probably meant, or which names there are.

    Args:
        name: The unknown name.
        known: The names that exist.
        show: How many known names to list when none is near.
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    if not names:
        return ""
    more = f" and {len(names) - show} more" if len(names) > show else ""
    return f"Known: {', '.join(repr(n) for n in names[:show])}{more}."


def _rebuild(cls: type[_Told], message: str, facts: Mapping[str, object]) -> _Told:
    return cls(message, **facts)
