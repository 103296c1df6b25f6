"""The fleet: every deployment of the project, loaded as the registry says.

A fleet is built beside the one that answers and takes its place as a whole. What did not change
is carried over: loaded versions, their lanes, counters and circuits. Where deployments are loaded
by need, the others rest: they are known and loaded by nobody; what they counted waits for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from penstock.errors import DeclarationError, PenstockError
from penstock.plan import Catalogue, routed
from penstock.registry import get_version
from penstock.spec import Deployment, FeatureView

from .ask import Writer
from .building import lose_of, manifest_of, precomputed_of, writer_of
from .circuit import Circuit
from .counts import Counters, LaneCounts
from .endpoint import Endpoint
from .kept import KeptScores
from .lane import Lane
from .lanes import PREVIOUS, Absent
from .payloads import payload_of
from .score_log import LIMIT_BYTES
from .served import load_served
from .target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from penstock.ports import Services

    from .served import Ages, ServedVersion

    Load = Callable[[Services, str, int], ServedVersion]

__all__ = [
    "Fleet", "Memory", "build_fleet", "look_at_ages", "wake",
]  # fmt: skip


class Memory(msgspec.Struct, frozen=True):
    """What stays of a deployment while it rests; what lanes did, by role and version."""

    writer: Writer
    counters: Counters
    circuits: Mapping[str, Circuit]
    kept: KeptScores
    counts: Mapping[tuple[str, int], LaneCounts]

    @classmethod
    def of(cls, endpoint: Endpoint) -> Memory:
        """What an endpoint leaves behind."""
        lanes = endpoint.lanes.items()
        counts = {(role, lane.version.manifest.version): lane.counts for role, lane in lanes}
        return cls(endpoint.writer, endpoint.counters, endpoint.circuits, endpoint.kept, counts)

    @classmethod
    def new(cls, services: Services, declared: Deployment, limit_bytes: int) -> Memory:
        """That of a deployment which has done nothing."""
        writer = writer_of(services, declared, limit_bytes)
        return cls(writer, Counters(), {}, KeptScores(), {})

    @property
    def by_version(self) -> dict[int, LaneCounts]:
        """What versions that may answer have done, by their number; shadows may not."""
        found: dict[int, LaneCounts] = {}
        for (role, number), counts in self.counts.items():
            if not role.startswith("shadow"):
                found.setdefault(number, counts)
        return found


class Fleet(msgspec.Struct, frozen=True):
    """What is loaded.

    Attributes:
        target: What it was built for.
        endpoints: By name of the deployment.
        errors: What could not be loaded, by ``deployment/role``.
        resting: The deployments that are not loaded, by name; their routes are as they are now.
        memories: What deployments that rest have done so far, by name.
        catalogue: What was applied when it was built; none before anything was read.
    """

    target: Target = Target(-1, {})
    endpoints: Mapping[str, Endpoint] = {}
    errors: Mapping[str, str] = {}
    resting: Mapping[str, Deployment] = {}
    memories: Mapping[str, Memory] = {}
    catalogue: Catalogue | None = None

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
            if endpoint.ready is not None:
                endpoint.ready.close()
        for memory in self.memories.values():
            memory.writer.log.close()

    def without(self, names: Collection[str]) -> Fleet:
        """The same with some deployments at rest."""
        gone = {name: self.endpoints[name] for name in names if name in self.endpoints}
        memories = {name: Memory.of(endpoint) for name, endpoint in gone.items()}
        resting = {name: endpoint.declared for name, endpoint in gone.items()}
        return msgspec.structs.replace(
            self,
            endpoints={name: one for name, one in self.endpoints.items() if name not in gone},
            resting={**self.resting, **resting},
            memories={**self.memories, **memories},
            errors={role: why for role, why in self.errors.items() if _name(role) not in gone},
        )

    def having(self, name: str, endpoint: Endpoint, errors: Mapping[str, str]) -> Fleet:
        """The same with a deployment that rested until now.

        Args:
            name: The deployment.
            endpoint: What answers for it.
            errors: What could not be loaded of it.
        """
        return msgspec.structs.replace(
            self,
            endpoints={**self.endpoints, name: endpoint},
            resting={other: one for other, one in self.resting.items() if other != name},
            memories={other: one for other, one in self.memories.items() if other != name},
            errors={**self.errors, **errors},
        )

    def remembering(self, memories: Mapping[str, Memory]) -> Fleet:
        """The same with what deployments that rest have done, as far as nothing is known of it."""
        new = {n: m for n, m in memories.items() if n in self.resting and n not in self.memories}
        if not new:
            return self
        return msgspec.structs.replace(self, memories={**self.memories, **new})


def build_fleet(  # noqa: PLR0913 - what a fleet depends on
    services: Services,
    current: Fleet,
    target: Target,
    *,
    load: Load = load_served,
    limit_bytes: int = LIMIT_BYTES,
    without: Collection[str] = (),
    only: Collection[str] | None = None,
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
        only: Names of those that are; the others rest. All when left out.
    """
    catalogue = current.catalogue
    if catalogue is None or current.target.project != target.project:
        catalogue = Catalogue.load(services.metadata)
    errors: dict[str, str] = {}
    deployments = [
        _routed(one, target, errors) for one in catalogue.all(Deployment) if one.name not in without
    ]
    building = _Building(services, current, target, catalogue, load, limit_bytes, _loaded(current))
    endpoints: dict[str, Endpoint] = {}
    resting: dict[str, Deployment] = {}
    for declared in deployments:
        if only is None or declared.name in only:
            endpoints[declared.name] = building.endpoint(declared, errors)
        else:
            resting[declared.name] = declared
    left = {name: Memory.of(one) for name, one in current.endpoints.items() if name in resting}
    memories = {name: one for name, one in current.memories.items() if name in resting} | left
    fleet = Fleet(target, endpoints, errors, resting, memories, catalogue)
    _look(services, endpoints.values(), catalogue)
    return fleet


def wake(
    services: Services, fleet: Fleet, name: str, *, limit_bytes: int = LIMIT_BYTES
) -> tuple[Endpoint, Mapping[str, str]]:
    """Load a deployment that rests. Disturbs no traffic; any thread may do it.

    Args:
        services: The project's ports.
        fleet: The fleet that answers.
        name: The deployment.
        limit_bytes: Size from which a score log begins a new file.

    Returns:
        What answers for it, and what could not be loaded, by ``deployment/role``.
    """
    catalogue = fleet.catalogue or Catalogue.load(services.metadata)
    errors: dict[str, str] = {}
    building = _Building(
        services, fleet, fleet.target, catalogue, load_served, limit_bytes, _loaded(fleet)
    )
    endpoint = building.endpoint(fleet.resting[name], errors)
    _look(services, [endpoint], catalogue)
    return endpoint, errors


class _Building(NamedTuple):
    """Makes endpoints from what there was and what there is to be."""

    services: Services
    current: Fleet
    target: Target
    catalogue: Catalogue
    load: Load
    limit_bytes: int
    loaded: dict[str, ServedVersion]

    def endpoint(self, declared: Deployment, errors: dict[str, str]) -> Endpoint:
        """What answers for a deployment; notes what could not be loaded."""
        before = self.current.endpoints.get(declared.name)
        memory = Memory.of(before) if before else self.current.memories.get(declared.name)
        writer = memory.writer if memory else writer_of(self.services, declared, self.limit_bytes)
        lanes: dict[str, Lane] = {}
        for role, number in self.target.wanted(declared).items():
            kept = before.lanes.get(role) if before else None
            try:
                version = self._version(declared.model.name, number)
            except PenstockError as error:
                errors[f"{declared.name}/{role}"] = error.message
                if kept is not None:
                    lanes[role] = kept
                continue
            same = kept is not None and kept.version is version
            route = "fallback" if role == PREVIOUS else role.partition(" ")[0]
            counts = memory.counts.get((role, number)) if memory else None
            made = kept if kept and same else Lane(route, version, writer, counts=counts)
            lanes[role] = made
        reason = errors.get(f"{declared.name}/champion", "")
        absent = None if "champion" in lanes else self._absent(declared, lanes)
        if before is not None and self._is_same(before, declared, lanes, reason, absent):
            return before
        # Those that answer until this takes their place, and what is under way then, too.
        answering = [*lanes.values(), *(before.lanes.values() if before else ())]
        manifests = [lane.version.manifest for lane in answering]
        writer.log.payload = payload_of(self.services, declared, self.catalogue, manifests)
        counters = memory.counters if memory else Counters()
        writer.log.lose = lose_of(declared, counters)
        return Endpoint(
            declared,
            lanes,
            writer,
            counters,
            memory.circuits if memory else {},
            reason=reason,
            kept=memory.kept if memory else None,
            ready=precomputed_of(self.services, declared, before.ready if before else None),
            absent=absent,
        )

    def _absent(self, declared: Deployment, lanes: Mapping[str, Lane]) -> Absent | None:
        """The champion that has not been loaded, with what tells how to read requests."""
        number = self.target.wanted(declared).get("champion", 0)
        if not number:
            return None
        previous = lanes.get(PREVIOUS)
        try:
            return Absent(number, manifest_of(self.services, declared.model.name, number))
        except PenstockError:  # why it is not loaded is known already
            return Absent(number, previous.version.manifest) if previous else None

    def _is_same(
        self,
        before: Endpoint,
        declared: Deployment,
        lanes: Mapping[str, Lane],
        reason: str,
        absent: Absent | None,
    ) -> bool:
        """Whether an endpoint can stay as it is; what is applied says what its log may keep."""
        return (
            self.catalogue is self.current.catalogue
            and before.reason == reason
            and before.absent == absent
            and before.declared == declared
            and before.lanes == lanes
        )

    def _version(self, model: str, number: int) -> ServedVersion:
        """A version: the one that some deployment has loaded, or loaded now.

        One that was loaded before it was packaged is loaded anew once it is: by what was chosen and
        proved for it. A version is packaged once, so all others stay.
        """
        label = f"{model}@{number}"
        known = self.loaded.get(label)
        if known is not None and known.manifest.engine is None:
            packaged = get_version(self.services.metadata, model, number).engine
            known = None if packaged else known
        if known is None:
            known = self.loaded[label] = self.load(self.services, model, number)
        return known


def look_at_ages(services: Services, fleet: Fleet) -> None:
    """See how old the online features are that a fleet reads, and whether vectors are kept ready.

    Any thread may do it.

    Args:
        services: The project's ports; uses metadata and the online store.
        fleet: The fleet.
    """
    if fleet.catalogue is not None:
        _look(services, fleet.endpoints.values(), fleet.catalogue)


def _look(services: Services, endpoints: Iterable[Endpoint], catalogue: Catalogue) -> None:
    declared = {view.name: view for view in catalogue.all(FeatureView)}
    ready = {one.model.name for one in catalogue.all(Deployment) if one.precompute}
    lanes = [lane for endpoint in endpoints for lane in endpoint.lanes.values()]
    seen: Ages = {}  # most versions read the same views
    for version in {lane.version.label: lane.version for lane in lanes}.values():
        version.look_at_ages(services, declared, seen)
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


def _loaded(fleet: Fleet) -> dict[str, ServedVersion]:
    return {lane.version.label: lane.version for lane in fleet.lanes.values()}


def _name(role: str) -> str:
    return role.partition("/")[0]
