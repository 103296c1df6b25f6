"""What is deployed, as a file: written in a stable order, and a plan of what leads back to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import ConflictError, InputError
from penstock.plan import Catalogue
from penstock.registry import aliases, get_version
from penstock.spec import Deployment, Fallback, fingerprint

from .rerouting import RouteEdit
from .routed import changes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.ports import Services
    from penstock.records import RouteChanges

__all__ = ["DeployedState", "StateChange", "deployed_state", "plan_state", "read_state"]

FORMAT = 1


class RoutedState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody changed of a deployment's routes; see ``RouteChanges``.

    Shares that an experiment or a bandit has given are theirs, and change by themselves.
    """

    shares: Mapping[str, float] = {}
    shadows: Mapping[str, bool] = {}
    pins: Mapping[str, int] = {}
    fallback: Fallback | None = None


class OneState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One deployment.

    Attributes:
        model: Name of its model.
        version: The version that is champion; 0 for none.
        package: Hash of the version's package; empty for none.
        declaration: Fingerprint of what is declared: model, routes, checks, settings.
        routes: What was changed of its routes at run time.
    """

    model: str
    version: int
    package: str
    declaration: str
    routes: RoutedState = RoutedState()


class DeployedState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is deployed in a project.

    Attributes:
        format: Number of this layout.
        deployments: Each deployment by its name.
    """

    deployments: Mapping[str, OneState]
    format: int = FORMAT


class StateChange(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is otherwise than the file says.

    Attributes:
        deployment: Name of the deployment.
        text: What will be done, in words.
        version: The version to roll out; 0 for a change of routes.
        edit: How its routes are changed; none for a version.
    """

    deployment: str
    text: str
    version: int = 0
    edit: RouteEdit | None = None


def deployed_state(services: Services) -> bytes:
    """What is deployed, as JSON text in a stable order, for people and for a repository.

    Args:
        services: The ports; uses metadata.
    """
    found = {
        declared.name: _one(services, declared)
        for declared in Catalogue.load(services.metadata).all(Deployment)
    }
    content = msgspec.json.encode(DeployedState(deployments=found), order="sorted")
    return msgspec.json.format(content, indent=2) + b"\n"


def read_state(content: bytes) -> DeployedState:
    """Read what ``deployed_state`` wrote.

    Raises:
        InputError: It is no such file, or of another version.
    """
    try:
        found = msgspec.json.decode(content, type=DeployedState)
    except msgspec.DecodeError as error:
        raise InputError(
            f"The file does not say what is deployed: {error}. Write one with 'penstock "
            "deployments export FILE'."
        ) from error
    if found.format != FORMAT:
        raise InputError(f"The file has the format {found.format}; this version reads {FORMAT}.")
    return found


def plan_state(services: Services, wanted: DeployedState) -> list[StateChange]:
    """What has to be done so that what is deployed is what the file says; nothing is changed.

    Versions come before routes. Deployments that the file does not name stay as they are.

    Args:
        services: The ports; uses metadata.
        wanted: What the file says.

    Raises:
        NotFoundError: There is no such deployment or version here.
        ConflictError: The version has another package here, or a deployment is declared otherwise.
        InputError: Deployments of one model are to have several versions.
    """
    catalogue = Catalogue.load(services.metadata)
    versions: dict[str, int] = {}
    for name, one in sorted(wanted.deployments.items()):
        declared = catalogue.deployment(name)
        _check(services, declared, one)
        if versions.setdefault(one.model, one.version) != one.version:
            raise InputError(
                f"The file wants {one.model!r} at the versions {versions[one.model]} and "
                f"{one.version}; its deployments share one champion. Pin one of them instead."
            )
    return [*_version_changes(services, wanted), *_route_changes(services, wanted)]


def _one(services: Services, declared: Deployment) -> OneState:
    champion = aliases(services.metadata, declared.model.name).champion
    package = ""
    if champion:
        package = get_version(services.metadata, declared.model.name, champion).package
    return OneState(
        model=declared.model.name,
        version=champion,
        package=package,
        declaration=fingerprint(declared),
        routes=_routes(changes_of(services.metadata, declared.name)),
    )


def _routes(changes: RouteChanges) -> RoutedState:
    return RoutedState(
        shares={one: share for one, share in changes.shares.items() if one not in changes.salts},
        shadows=changes.shadows,
        pins=changes.pins,
        fallback=changes.fallback,
    )


def _check(services: Services, declared: Deployment, wanted: OneState) -> None:
    name = declared.name
    if wanted.model != declared.model.name or wanted.declaration != fingerprint(declared):
        raise ConflictError(
            f"The deployment {name!r} is declared otherwise here than where the file was written. "
            "Run 'penstock apply' on the same declarations first.",
            deployment=name,
        )
    if not wanted.version:
        return
    found = get_version(services.metadata, wanted.model, wanted.version)
    if found.package != wanted.package:
        raise ConflictError(
            f"{found.label} has the package {found.package or 'none'} here, and the file says "
            f"{wanted.package or 'none'}: it is not the same version. Nothing was changed.",
            version=found.label,
        )


def _version_changes(services: Services, wanted: DeployedState) -> Iterator[StateChange]:
    planned: set[str] = set()
    for name, one in sorted(wanted.deployments.items()):
        champion = aliases(services.metadata, one.model).champion
        if one.model in planned or not one.version or champion == one.version:
            continue
        planned.add(one.model)
        text = f"{one.model}@{champion} -> {one.model}@{one.version}, through its checks"
        yield StateChange(deployment=name, text=text, version=one.version)


def _route_changes(services: Services, wanted: DeployedState) -> Iterator[StateChange]:
    for name, one in sorted(wanted.deployments.items()):
        now = changes_of(services.metadata, name)
        before = _routes(now)
        if before == one.routes:
            continue
        edit = RouteEdit(
            shares={**dict.fromkeys(before.shares), **one.routes.shares},
            shadows={**dict.fromkeys(now.shadows), **one.routes.shadows},
            pins={**dict.fromkeys(now.pins), **one.routes.pins},
            fallback=one.routes.fallback,
            declared_fallback=one.routes.fallback is None,
        )
        text = f"routes: {_text(now, before)} -> {_text(now, one.routes)}"
        yield StateChange(deployment=name, text=text, edit=edit)


def _text(now: RouteChanges, routes: RoutedState) -> str:
    plain = msgspec.structs.replace(now, **msgspec.structs.asdict(routes))
    return plain.text or "as declared"
