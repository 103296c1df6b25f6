"""Feature values in what is told of a score: those the caller may not read are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.access import hidden_features
from penstock.errors import StateError
from penstock.registry import views_of

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import Manifest, Score

__all__ = ["PROTECTED", "hidden_of", "shown_values"]

PROTECTED = "protected"
"""What stands in the place of a value that the caller may not read."""


def hidden_of(services: Services, manifest: Manifest) -> frozenset[str]:
    """The features of a version that whoever acts through the ports may not read.

    What protects them now counts, and so do the tags they had when the version learned from them.

    Args:
        services: The ports.
        manifest: The version's.
    """
    try:
        views = views_of(manifest)
    except StateError:
        views = ()
    return hidden_features(services, manifest.features, views=views)


def shown_values(services: Services, manifest: Manifest | None, score: Score) -> list[object]:
    """The features of a score in their order, each its value, null for none, or ``PROTECTED``.

    Args:
        services: The ports.
        manifest: Of the version that answered; none where it cannot be read, so that nobody can say
            which features they are.
        score: The score.
    """
    if manifest is None or len(manifest.features) != len(score.features):
        nameless = hidden_features(services, [""])
        return [PROTECTED if nameless else value for value in score.features]
    hidden = hidden_of(services, manifest)
    return [
        PROTECTED if name in hidden else value
        for name, value in zip(manifest.features, score.features, strict=True)
    ]
