"""What a serving process should have loaded, as the records say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from penstock.plan import Catalogue
from penstock.records import Aliases, AppliedProject, ModelVersion, RouteChanges
from penstock.spec import Deployment

from .building import wanted_versions

if TYPE_CHECKING:
    from penstock.ports import Metadata

__all__ = ["Target", "audited_to", "read_target"]


class Target(msgspec.Struct, frozen=True):
    """What a serving process should have loaded; compared to see whether anything changed.

    Attributes:
        project: Revision of the applied project; -1 before anything was read.
        aliases: The aliases of each deployed model, by its name.
        changes: What was changed of routes at run time, by the deployment's name.
        numbered: The versions that declared routes name, as ``(model, number)``.
        missing: Those of them that there are not: such a route leads nowhere until there are.
    """

    project: int
    aliases: Mapping[str, Aliases]
    changes: Mapping[str, RouteChanges] = {}
    numbered: frozenset[tuple[str, int]] = frozenset()
    missing: frozenset[tuple[str, int]] = frozenset()

    def wanted(self, declared: Deployment) -> dict[str, int]:
        """The version each role of a deployment should have; roles without one are left out."""
        model = declared.model.name
        found = wanted_versions(declared, self.aliases.get(model), self.changes.get(declared.name))
        return {
            role: number for role, number in found.items() if (model, number) not in self.missing
        }


def read_target(metadata: Metadata, current: Target) -> Target:
    """Read what should be loaded now; cheap while the project has not been applied anew.

    Args:
        metadata: The records.
        current: What was read last.
    """
    project = metadata.read(AppliedProject, "project")
    revision = project.revision if project else 0
    if revision == current.project:
        names, numbered = list(current.aliases), current.numbered
    else:
        deployments = Catalogue.load(metadata).all(Deployment)
        names = sorted({one.model.name for one in deployments})
        numbered = frozenset(
            (one.model.name, route.version)
            for one in deployments
            for route in one.routes
            if route.version
        )
    changes = {one.deployment: one for one in metadata.find(RouteChanges)}
    # One question for all: with thousands of models a question for each takes a second.
    known = {one.model: one for one in metadata.find(Aliases)}
    none = datetime.fromtimestamp(0, tz=UTC)
    found = {name: known.get(name) or Aliases(model=name, changed_at=none) for name in names}
    missing = frozenset(
        (model, number)
        for model, number in numbered
        if not metadata.find(ModelVersion, where={"model": model, "version": number}, limit=1)
    )
    return Target(revision, found, changes, numbered, missing)


def audited_to(metadata: Metadata, after: int) -> int:
    """Number of the newest audit entry; every change of what should be loaded makes one.

    Args:
        metadata: The records.
        after: A number that is not above it; the nearer, the fewer questions.
    """
    step = 1
    while metadata.audit(after=after + step - 1, limit=1):
        after, step = after + step, step * 2
    while step > 1:
        step //= 2
        if metadata.audit(after=after + step - 1, limit=1):
            after += step
    return after
