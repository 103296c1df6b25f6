"""Feature values in what is told of a score: those the caller may not read are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.access import Permissions, hidden_features
from penstock.errors import StateError, UserCodeError
from penstock.registry import views_of

if TYPE_CHECKING:
    from penstock.ports import RunInfo, Services
    from penstock.records import Manifest, Score

__all__ = [
    "PROTECTED",
    "hidden_of",
    "hides_words",
    "plain_words",
    "shown_parts",
    "shown_run",
    "shown_values",
]

PROTECTED = "protected"
"""What stands in the place of a value that the caller may not read."""

USER_CODE = UserCodeError.__name__
WORDLESS = "a function failed; what it said may hold protected values, and is shown to admins"


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


def shown_parts(
    services: Services, manifest: Manifest | None, score: Score
) -> dict[str, float | str | None]:
    """What the steps of a graph gave for a score, or ``PROTECTED`` for each.

    A step may give what a feature says, so whoever may not read every feature sees none.

    Args:
        services: The ports.
        manifest: Of the version that answered; none where it cannot be read.
        score: The score.
    """
    if not score.parts:
        return {}
    hidden = hidden_features(services, [""]) if manifest is None else hidden_of(services, manifest)
    return {name: PROTECTED if hidden else value for name, value in score.parts.items()}


def hides_words(services: Services) -> bool:
    """Whether what a user's function said is kept from whoever acts through the ports.

    It may hold values of any feature, so it is for admins where any feature is protected.
    """
    if services.caller.role == "admin":
        return False
    return bool(Permissions.load(services.metadata).protections)


def shown_run(services: Services, run: RunInfo) -> RunInfo:
    """A run as whoever acts through the ports may see it: without the words of functions of users.

    Args:
        services: The ports.
        run: The run as it is kept.
    """
    if USER_CODE not in run.error and not any(USER_CODE in step.error for step in run.steps):
        return run
    if not hides_words(services):
        return run
    replace = msgspec.structs.replace
    steps = tuple(replace(step, error=_plain(step.error)) for step in run.steps)
    return replace(run, error=_plain(run.error), steps=steps)


def plain_words(services: Services, error: str) -> str:
    """Why a run failed, for everybody: without what a user's function said where that is kept."""
    return _plain(error) if Permissions.load(services.metadata).protections else error


def _plain(error: str) -> str:
    return f"{USER_CODE}: {WORDLESS}" if USER_CODE in error else error
