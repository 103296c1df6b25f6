"""What is deployed, as a file: written in a stable order, and a plan of what leads back to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import ConflictError, InputError
from penstock.plan import Catalogue, routed
from penstock.registry import aliases, get_version
from penstock.spec import Deployment, Fallback, fingerprint

from .pointing import SETTABLE, Settable
from .route_edits import RouteEdit
from .routed import changes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.ports import Metadata, Services
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
    headers: Mapping[str, str] = {}
    rules: Mapping[str, str] = {}
    ages: Mapping[str, str] = {}
    fallback: Fallback | None = None


class AliasState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an alias points.

    Attributes:
        version: The version; 0 for none.
        package: Hash of the version's package; empty for none.
    """

    version: int
    package: str


class OneState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One deployment.

    Attributes:
        model: Name of its model.
        version: The version that is champion; 0 for none.
        package: Hash of the version's package; empty for none.
        declaration: Fingerprint of what is declared: model, routes, checks, settings.
        routes: What was changed of its routes at run time.
        aliases: Where the aliases point that are set by themselves or by hand, as far as routes of
            the deployment lead to them; one that is not named stays as it is.
    """

    model: str
    version: int
    package: str
    declaration: str
    routes: RoutedState = RoutedState()
    aliases: Mapping[Settable, AliasState] = {}


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
        version: The version to roll out, or that the alias is to point to; 0 for none of them.
        alias: The alias of the model to point; empty for another change.
        model: Name of that model.
        edit: How its routes are changed; none for another change.
    """

    deployment: str
    text: str
    version: int = 0
    alias: str = ""
    model: str = ""
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

    Versions come before aliases, and these before routes, which may lead to them. Deployments and
    aliases that the file does not name stay as they are.

    Args:
        services: The ports; uses metadata.
        wanted: What the file says.

    Raises:
        NotFoundError: There is no such deployment or version here.
        ConflictError: The version has another package here, or a deployment is declared otherwise.
        InputError: Deployments of one model are to have several versions, or to have an alias of it
            point to several.
    """
    catalogue = Catalogue.load(services.metadata)
    versions: dict[str, int] = {}
    for name, one in sorted(wanted.deployments.items()):
        _check(services.metadata, catalogue.deployment(name), one)
        if versions.setdefault(one.model, one.version) != one.version:
            raise InputError(
                f"The file wants {one.model!r} at the versions {versions[one.model]} and "
                f"{one.version}; its deployments share one champion. Pin one of them instead."
            )
    pointers = _pointers(wanted)
    rolled = list(_version_changes(services, wanted))
    crowned = {wanted.deployments[one.deployment].model: one.version for one in rolled}
    return [
        *rolled,
        *_alias_changes(services, pointers, crowned),
        *_route_changes(services, wanted),
    ]


def _one(services: Services, declared: Deployment) -> OneState:
    model = declared.model.name
    now = aliases(services.metadata, model)
    changes = changes_of(services.metadata, declared.name)
    met = {route.alias for route in routed(declared, changes).routes}
    return OneState(
        model=model,
        version=now.champion,
        package=_package(services.metadata, model, now.champion),
        declaration=fingerprint(declared),
        routes=_routes(changes),
        aliases={
            alias: AliasState(
                version=getattr(now, alias),
                package=_package(services.metadata, model, getattr(now, alias)),
            )
            for alias in SETTABLE
            if alias in met
        },
    )


def _package(metadata: Metadata, model: str, version: int) -> str:
    return get_version(metadata, model, version).package if version else ""


def _routes(changes: RouteChanges) -> RoutedState:
    return RoutedState(
        shares={one: share for one, share in changes.shares.items() if one not in changes.salts},
        shadows=changes.shadows,
        pins=changes.pins,
        headers=changes.headers,
        rules=changes.rules,
        ages=changes.ages,
        fallback=changes.fallback,
    )


def _check(metadata: Metadata, declared: Deployment, wanted: OneState) -> None:
    name = declared.name
    if wanted.model != declared.model.name or wanted.declaration != fingerprint(declared):
        raise ConflictError(
            f"The deployment {name!r} is declared otherwise here than where the file was written. "
            "Run 'penstock apply' on the same declarations first.",
            deployment=name,
        )
    _check_package(metadata, wanted.model, wanted.version, wanted.package)
    for pointed in wanted.aliases.values():
        _check_package(metadata, wanted.model, pointed.version, pointed.package)


def _check_package(metadata: Metadata, model: str, version: int, package: str) -> None:
    if not version:
        return
    found = get_version(metadata, model, version)
    if found.package != package:
        raise ConflictError(
            f"{found.label} has the package {found.package or 'none'} here, and the file says "
            f"{package or 'none'}: it is not the same version. Nothing was changed.",
            version=found.label,
        )


def _pointers(wanted: DeployedState) -> dict[tuple[str, str], StateChange]:
    """Where the file wants the aliases, by model and alias.

    Raises:
        InputError: Two deployments of a model want one otherwise.
    """
    found: dict[tuple[str, str], StateChange] = {}
    for name, one in sorted(wanted.deployments.items()):
        for alias, pointed in sorted(one.aliases.items()):
            change = StateChange(
                deployment=name, text="", version=pointed.version, alias=alias, model=one.model
            )
            before = found.setdefault((one.model, alias), change)
            if before.version != pointed.version:
                raise InputError(
                    f"The file wants the alias {alias!r} of {one.model!r} at "
                    f"{_pointed(one.model, before.version)} for {before.deployment!r} and at "
                    f"{_pointed(one.model, pointed.version)} for {name!r}; they share it. Pin it "
                    "for one of them instead."
                )
    return found


def _alias_changes(
    services: Services, wanted: Mapping[tuple[str, str], StateChange], rolled: Mapping[str, int]
) -> Iterator[StateChange]:
    for (model, alias), change in wanted.items():
        now = int(getattr(aliases(services.metadata, model), alias))
        if alias == "challenger" and now == rolled.get(model):
            now = 0  # a challenger that becomes champion is challenger no more
        if now != change.version:
            how = ", through its checks" if change.version else ""
            text = f"{alias}: {_pointed(model, now)} -> {_pointed(model, change.version)}{how}"
            yield msgspec.structs.replace(change, text=text)


def _pointed(model: str, version: int) -> str:
    return f"{model}@{version}" if version else "none"


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
            headers={**dict.fromkeys(now.headers), **one.routes.headers},
            rules={**dict.fromkeys(now.rules), **one.routes.rules},
            ages={**dict.fromkeys(now.ages), **one.routes.ages},
            fallback=one.routes.fallback,
            declared_fallback=one.routes.fallback is None,
        )
        text = f"routes: {_text(now, before)} -> {_text(now, one.routes)}"
        yield StateChange(deployment=name, text=text, edit=edit)


def _text(now: RouteChanges, routes: RoutedState) -> str:
    plain = msgspec.structs.replace(now, **msgspec.structs.asdict(routes))
    return plain.text or "as declared"
