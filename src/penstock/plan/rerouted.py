"""What applying a project does to routes that were changed at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from penstock.algebra import check_rules
from penstock.errors import DeclarationError, InputError
from penstock.records import RouteChanges
from penstock.spec import Deployment, key_of, to_document

from .routed import routed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from penstock.ports import Metadata
    from penstock.records import AppliedDeclaration
    from penstock.spec import Project

__all__ = ["Ended", "ended_changes", "ending_words"]

ROUTED = ("routes", "fallback")


class Ended(NamedTuple):
    """Changes at run time that a project ends.

    Attributes:
        changes: The changes.
        why: Why they end.
    """

    changes: RouteChanges
    why: str


def ended_changes(
    metadata: Metadata, project: Project, known: Mapping[str, AppliedDeclaration]
) -> Iterator[Ended]:
    """The changes at run time that a project ends.

    It declares other routes, or what they do not go together with, or the deployment no more.

    Args:
        metadata: What is remembered.
        project: What is declared.
        known: What is applied, by key.
    """
    declared = {key_of(value): value for value in project.everything}
    for changes in metadata.find(RouteChanges):
        why = "" if changes.is_empty else _why_ended(changes, declared, known)
        if why:
            yield Ended(changes, why)


def ending_words(ended: Iterable[Ended]) -> list[str]:
    """What to say of each before the project is applied."""
    return [
        f"deployment/{changes.deployment}: what {changes.changed_by} changed of its routes at run "
        f"time ends, since {why}: {changes.text}"
        for changes, why in ended
    ]


def _why_ended(
    changes: RouteChanges,
    declared: Mapping[str, object],
    known: Mapping[str, AppliedDeclaration],
) -> str:
    key = f"deployment/{changes.deployment}"
    value, applied = declared.get(key), known.get(key)
    if not isinstance(value, Deployment) or applied is None:
        return "they are declared anew"
    document = to_document(value)
    if any(document.get(name) != applied.document.get(name) for name in ROUTED):
        return "they are declared anew"
    try:
        check_rules(routed(value, changes))
    except DeclarationError as error:  # such as a bandit, where somebody has added a challenger
        return f"they do not go with what is declared ({'; '.join(error.faults)})"
    except InputError as error:  # a rule that another version of Penstock has written
        return f"they cannot be read ({error.message})"
    return ""
