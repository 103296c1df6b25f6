"""What applying a project does to routes that were changed at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.records import RouteChanges
from penstock.spec import Deployment, key_of, to_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from penstock.ports import Metadata
    from penstock.records import AppliedDeclaration
    from penstock.spec import Project

__all__ = ["ended_changes", "ending_words"]

ROUTED = ("routes", "fallback")


def ended_changes(
    metadata: Metadata, project: Project, known: Mapping[str, AppliedDeclaration]
) -> list[RouteChanges]:
    """The changes that a project ends: it declares other routes, or the deployment no more.

    Args:
        metadata: What is remembered.
        project: What is declared.
        known: What is applied, by key.
    """
    declared = {key_of(value): value for value in project.everything}
    return [
        changes
        for changes in metadata.find(RouteChanges)
        if not changes.is_empty and _is_other(f"deployment/{changes.deployment}", declared, known)
    ]


def ending_words(ended: Iterable[RouteChanges]) -> list[str]:
    """What to say of each before the project is applied."""
    return [
        f"deployment/{one.deployment}: what {one.changed_by} changed of its routes at run time "
        f"ends, since they are declared anew: {one.text}"
        for one in ended
    ]


def _is_other(
    key: str, declared: Mapping[str, object], known: Mapping[str, AppliedDeclaration]
) -> bool:
    value, applied = declared.get(key), known.get(key)
    if not isinstance(value, Deployment) or applied is None:
        return True
    document = to_document(value)
    return any(document.get(name) != applied.document.get(name) for name in ROUTED)
