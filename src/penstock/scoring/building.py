"""What answers for a deployment, as its declaration and the registry say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.deployment import version_behind
from penstock.errors import NotReadyError, StateError
from penstock.registry import get_version, read_manifest

from .ask import Writer
from .lanes import PREVIOUS
from .ready import PrecomputedScores
from .score_log import ScoreLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.ports import Services
    from penstock.records import Aliases, Manifest, RouteChanges
    from penstock.spec import Deployment

    from .counts import Counters

__all__ = ["lose_of", "manifest_of", "precomputed_of", "wanted_versions", "writer_of"]


def wanted_versions(
    declared: Deployment, pointers: Aliases | None, changes: RouteChanges | None
) -> dict[str, int]:
    """The version each role of a deployment should have; roles without one are left out.

    Args:
        declared: The deployment as it is routed now.
        pointers: The aliases of its model; none before there was a version.
        changes: What was changed of its routes at run time; none for nothing.
    """
    if pointers is None:
        return {}
    wanted = {
        name: version_behind(route, pointers) for name, route in declared.named_routes.items()
    }
    if declared.fallback is not None and PREVIOUS in declared.fallback.steps:
        pinned = changes.pins.get(PREVIOUS, 0) if changes else 0
        wanted[PREVIOUS] = pinned or pointers.previous
    return {role: number for role, number in wanted.items() if number}


def manifest_of(services: Services, model: str, number: int) -> Manifest:
    """The manifest of a version that cannot be loaded, to read requests by.

    It is a file of its own, that may be whole in a damaged package. Nothing is computed by it, and
    no score is stored by what it says of features.

    Raises:
        NotFoundError: There is no such version or package.
        NotReadyError: It has not been packaged.
        StateError: The manifest is damaged, or of another version.
    """
    record = get_version(services.metadata, model, number)
    if not record.package:
        raise NotReadyError(f"{record.label} has no package. Run 'penstock train {model}'.")
    try:
        folder = services.artifacts.path(record.package)
    except StateError as error:
        where = error.facts.get("path")
        if not isinstance(where, str):
            raise
        folder = Path(where)
    manifest = read_manifest(folder)
    if (manifest.model, manifest.version) != (model, number):
        raise StateError(f"The manifest in {folder} is not that of {record.label}.")
    return manifest


def precomputed_of(
    services: Services, declared: Deployment, before: PrecomputedScores | None
) -> PrecomputedScores | None:
    """What reads the scores that are kept ready; the one before while nothing of it changes."""
    if not declared.ready_space:
        return None
    max_age_us = next(one.max_age_us for one in declared.routes if one.role == "precomputed")
    if before is not None and before.max_age_us == max_age_us:
        return before
    return PrecomputedScores(services.online, declared.ready_space, max_age_us)


def writer_of(services: Services, declared: Deployment, limit_bytes: int) -> Writer:
    """What logs the scores of a deployment, in files of its own."""
    folder = services.score_log / declared.name
    log = ScoreLog(folder, services.ids, limit_bytes=limit_bytes)
    return Writer(declared.name, log, services.ids, services.clock)


def lose_of(declared: Deployment, counters: Counters) -> Callable[[int], None] | None:
    """What counts the scores that cannot be logged; none where those are not answered."""
    lossy = declared.log is not None and declared.log.unwritable == "answer"
    return counters.lose if lossy else None
