"""The fleet: every deployment of the project, loaded as the registry says.

A fleet is built beside the one that answers and takes its place as a whole. What did not change
is carried over: loaded versions, their lanes, counters and circuits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from penstock.deployment import routed, version_behind
from penstock.errors import DeclarationError, PenstockError
from penstock.plan import Catalogue
from penstock.records import Aliases, AppliedProject, RouteChanges
from penstock.registry import aliases
from penstock.spec import Deployment, FeatureView

from .ask import Writer
from .counts import Counters
from .endpoint import PREVIOUS, Endpoint
from .lane import Lane
from .payloads import payload_of
from .score_log import LIMIT_BYTES, ScoreLog
from .served import load_served

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from penstock.ports import Metadata, Services

    from .served import ServedVersion

    Load = Callable[[Services, str, int], ServedVersion]

__all__ = ["Fleet", "Target", "build_fleet", "look_at_ages", "read_target"]


class Target(msgspec.Struct, frozen=True):
    """What a serving process should have loaded; compared to see whether anything changed.

    Attributes:
        project: Revision of the applied project; -1 before anything was read.
        aliases: The aliases of each deployed model, by its name.
        changes: What was changed of routes at run time, by the deployment's name.
    """

    project: int
    aliases: Mapping[str, Aliases]
    changes: Mapping[str, RouteChanges] = {}


class Fleet(msgspec.Struct, frozen=True):
    """What is loaded.

    Attributes:
        target: What it was built for.
        endpoints: By name of the deployment.
        errors: What could not be loaded, by ``deployment/role``.
    """

    target: Target = Target(-1, {})
    endpoints: Mapping[str, Endpoint] = {}
    errors: Mapping[str, str] = {}

    @property
    def lanes(self) -> dict[str, Lane]:
        """Every lane, by ``deployment/role``."""
        return {
            f"{name}/{role}": lane
            for name, endpoint in self.endpoints.items()
            for role, lane in endpoint.lanes.items()
        }

    @property
    def versions(self) -> dict[str, str]:
        """``model@version`` by ``deployment/role``."""
        return {key: lane.version.label for key, lane in self.lanes.items()}

    @property
    def routes(self) -> dict[str, int]:
        """Revision of the changes to routes that were taken in, by deployment."""
        return {name: one.revision for name, one in self.target.changes.items()}

    @property
    def revision(self) -> dict[str, int]:
        """Revision of the aliases that were taken in, by model."""
        return {model: one.revision for model, one in self.target.aliases.items()}

    def close(self) -> None:
        """Finish every lane and every score log."""
        for lane in self.lanes.values():
            lane.close()
        for endpoint in self.endpoints.values():
            endpoint.writer.log.close()


def read_target(metadata: Metadata, current: Target) -> Target:
    """Read what should be loaded now; cheap while the project has not been applied anew.

    Args:
        metadata: The records.
        current: What was read last.
    """
    project = metadata.read(AppliedProject, "project")
    revision = project.revision if project else 0
    if revision == current.project:
        names = list(current.aliases)
    else:
        deployments = Catalogue.load(metadata).all(Deployment)
        names = sorted({one.model.name for one in deployments})
    changes = {one.deployment: one for one in metadata.find(RouteChanges)}
    return Target(revision, {name: aliases(metadata, name) for name in names}, changes)


def build_fleet(  # noqa: PLR0913 - what a fleet depends on
    services: Services,
    current: Fleet,
    target: Target,
    *,
    load: Load = load_served,
    limit_bytes: int = LIMIT_BYTES,
    without: Collection[str] = (),
) -> Fleet:
    """Load what the registry says. Takes no traffic and disturbs none; any thread may do it.

    A role whose version cannot be loaded keeps the one it had, and the reason stands in
    ``errors``.

    Args:
        services: The project's ports.
        current: The fleet that answers.
        target: What is to be loaded.
        load: Loads one version.
        limit_bytes: Size from which a score log begins a new file.
        without: Names of deployments that are not to be loaded.
    """
    catalogue = Catalogue.load(services.metadata)
    errors: dict[str, str] = {}
    deployments = [
        _routed(one, target, errors) for one in catalogue.all(Deployment) if one.name not in without
    ]
    loaded = {lane.version.label: lane.version for lane in current.lanes.values()}
    endpoints: dict[str, Endpoint] = {}
    for declared in deployments:
        before = current.endpoints.get(declared.name)
        writer = before.writer if before else _writer(services, declared, limit_bytes)
        lanes: dict[str, Lane] = {}
        for role, number in _wanted(declared, target).items():
            kept = before.lanes.get(role) if before else None
            try:
                version = _load(services, declared.model.name, number, loaded, load)
            except PenstockError as error:
                errors[f"{declared.name}/{role}"] = error.message
                if kept is not None:
                    lanes[role] = kept
                continue
            same = kept is not None and kept.version is version
            route = "fallback" if role == PREVIOUS else role.partition(" ")[0]
            lanes[role] = kept if kept and same else Lane(route, version, writer)
        manifests = [lane.version.manifest for lane in lanes.values()]
        writer.log.payload = payload_of(services, declared, catalogue, manifests)
        endpoints[declared.name] = Endpoint(
            declared,
            lanes,
            writer,
            before.counters if before else Counters(),
            before.circuits if before else {},
            reason=errors.get(f"{declared.name}/champion", ""),
            kept=before.kept if before else None,
        )
    fleet = Fleet(target, endpoints, errors)
    _look(services, fleet, catalogue)
    return fleet


def look_at_ages(services: Services, fleet: Fleet) -> None:
    """See how old the online features are that a fleet reads, and whether vectors are kept ready.

    Any thread may do it.

    Args:
        services: The project's ports; uses metadata and the online store.
        fleet: The fleet.
    """
    _look(services, fleet, Catalogue.load(services.metadata))


def _look(services: Services, fleet: Fleet, catalogue: Catalogue) -> None:
    declared = {view.name: view for view in catalogue.all(FeatureView)}
    ready = {one.model.name for one in catalogue.all(Deployment) if one.precompute}
    for version in {lane.version.label: lane.version for lane in fleet.lanes.values()}.values():
        version.look_at_ages(services, declared)
        version.take_vectors(services.online, wanted=version.manifest.model in ready)


def _routed(declared: Deployment, target: Target, errors: dict[str, str]) -> Deployment:
    """The deployment with its routes as they are now.

    Changes read a moment before a project was applied may not fit what it declares; the next look
    reads both.
    """
    try:
        return routed(declared, target.changes.get(declared.name))
    except DeclarationError as error:
        errors[f"{declared.name}/routes"] = error.message
        return declared


def _wanted(declared: Deployment, target: Target) -> dict[str, int]:
    """The version each role should have; roles without one are left out."""
    now = target.aliases.get(declared.model.name)
    if now is None:
        return {}
    wanted = {name: version_behind(route, now) for name, route in declared.named_routes.items()}
    if declared.fallback is not None and PREVIOUS in declared.fallback.steps:
        changes = target.changes.get(declared.name)
        pinned = changes.pins.get(PREVIOUS, 0) if changes else 0
        wanted[PREVIOUS] = pinned or now.previous
    return {role: number for role, number in wanted.items() if number}


def _load(
    services: Services, model: str, number: int, loaded: dict[str, ServedVersion], load: Load
) -> ServedVersion:
    label = f"{model}@{number}"
    if label not in loaded:
        loaded[label] = load(services, model, number)
    return loaded[label]


def _writer(services: Services, declared: Deployment, limit_bytes: int) -> Writer:
    folder = services.score_log / declared.name
    log = ScoreLog(folder, services.ids, limit_bytes=limit_bytes)
    return Writer(declared.name, log, services.ids, services.clock)
