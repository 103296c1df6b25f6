"""Routes that lead nowhere: what they are declared for, the champion answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.records import ALIASES, Aliases, ModelVersion
from penstock.spec import Deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.ports import Metadata
    from penstock.spec import Project

__all__ = ["nowhere_words"]

BY_HAND = "challenger"
"""The alias that nothing sets by itself; a training sets the candidate, deployments the others."""


def nowhere_words(metadata: Metadata, project: Project) -> Iterator[str]:
    """What to say of each route to a version that there is not, and to an alias of none.

    Nothing is said of aliases that are set by themselves while the model has no version at all.

    Args:
        metadata: What is remembered.
        project: What is declared.
    """
    for declared in project.everything:
        if not isinstance(declared, Deployment):
            continue
        made = metadata.find(ModelVersion, where={"model": declared.model.name})
        pointers = metadata.read(Aliases, declared.model.name)
        for target in _targets(declared):
            why = _why_nowhere(declared.model.name, target, made, pointers)
            if why:
                yield f"deployment/{declared.name}: the route to {target} leads nowhere, {why}"


def _targets(declared: Deployment) -> Iterator[str]:
    """Where its routes lead, and the arms of its bandit; the champion's own route left out."""
    targets = [route.target for route in declared.routes if route.alias or route.version]
    targets += declared.bandit.targets if declared.bandit else ()
    yield from dict.fromkeys(target for target in targets if target != "champion")


def _why_nowhere(
    model: str, target: str, made: list[ModelVersion], pointers: Aliases | None
) -> str:
    """Why a route leads nowhere; empty where it does not."""
    if target not in ALIASES:
        number = int(target[1:])
        there = any(one.version == number for one in made)
        return "" if there else f"since there is no version {number} of {model!r}"
    if (pointers is not None and getattr(pointers, target)) or not (made or target == BY_HAND):
        return ""
    how = f"; 'penstock models alias {model}@N {target}' names one" if target == BY_HAND else ""
    return f"since no version of {model!r} is {target} yet{how}"
