"""Who uses features: what is declared, and the model versions that learned from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from penstock.errors import NotFoundError, StateError
from penstock.plan import derived_columns, readers_of, service_entries
from penstock.records import ALIASES, Aliases, FeatureSelection, ModelVersion
from penstock.registry import get_version, read_manifest, views_of
from penstock.spec import OnDemandView, all_views, fingerprint, names_below

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from penstock.plan import Catalogue
    from penstock.ports import Metadata, Services
    from penstock.records import Manifest
    from penstock.spec import FeatureService, View

__all__ = [
    "Usage",
    "VersionReads",
    "declared_readers",
    "pointed_to",
    "service_usages",
    "version_reads",
    "view_usages",
]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who reads features.

    Attributes:
        kind: ``on_demand_view``, ``feature_service``, ``dataset``, ``model``, ``deployment``,
            ``monitor`` or ``model_version``.
        name: Its name; ``model@version`` for a version.
        columns: Full names of the columns that it reads, of those asked about, in their order.
        aliases: Of a version: the aliases that point to it.
        definition: Of a version: ``current`` where these columns mean what they meant when it
            learned from them, ``earlier`` where one of them does not.
    """

    kind: str
    name: str
    columns: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    definition: Literal["", "current", "earlier"] = ""


class VersionReads(NamedTuple):
    """What a model version reads.

    Attributes:
        model: The model.
        version: The version's number.
        columns: Full names of the columns, also of those below on-demand views.
        service: The feature service it learned from; empty for none.
        service_id: The service's id as it was then.
        meanings: What each of the columns meant then, by its full name.
    """

    model: str
    version: int
    columns: set[str]
    service: str
    service_id: str
    meanings: Mapping[str, str]

    @property
    def label(self) -> str:
        """``model@version``."""
        return f"{self.model}@{self.version}"


def declared_readers(metadata: Metadata, catalogue: Catalogue) -> dict[str, set[str]]:
    """Who reads which columns among what is applied, by key."""
    kept = {one.selection_id: one.kept for one in metadata.find(FeatureSelection)}
    return readers_of(catalogue.declarations.values(), kept)


def pointed_to(metadata: Metadata) -> Iterator[ModelVersion]:
    """The versions that aliases point to, each once."""
    for pointers in metadata.find(Aliases):
        for number in sorted({int(getattr(pointers, alias)) for alias in ALIASES} - {0}):
            yield get_version(metadata, pointers.model, number)


def version_reads(
    services: Services, versions: Iterable[ModelVersion]
) -> tuple[list[VersionReads], tuple[str, ...]]:
    """What some versions read, by their manifests.

    Args:
        services: The ports; uses artifacts.
        versions: The versions; those that were never packaged are left out.

    Returns:
        What each reads, and the labels of those whose manifest is gone or damaged.
    """
    found: list[VersionReads] = []
    unread: list[str] = []
    for version in versions:
        if not version.package:
            continue
        try:
            found.append(_reads(read_manifest(services.artifacts.path(version.package))))
        except (NotFoundError, StateError):
            unread.append(version.label)
    return found, tuple(unread)


def view_usages(
    services: Services, catalogue: Catalogue, view: View, columns: Sequence[str]
) -> tuple[tuple[Usage, ...], tuple[str, ...]]:
    """Who reads some columns of a view.

    Args:
        services: The ports; uses metadata and artifacts.
        catalogue: What is applied.
        view: The view.
        columns: Full names of the columns.

    Returns:
        The readers, and the versions that cannot be asked.
    """
    wanted = set(columns)
    found = [
        _usage(key, [name for name in columns if name in names])
        for key, names in declared_readers(services.metadata, catalogue).items()
        if names & wanted
    ]
    now = {name: one for name, one in _meanings([view]).items() if name in wanted}
    reads, unread = version_reads(services, services.metadata.find(ModelVersion))
    found += [
        _version_usage(
            services.metadata,
            one,
            [name for name in columns if name in one.columns],
            same=all(one.meanings[name] == now[name] for name in now if name in one.columns),
        )
        for one in reads
        if one.columns & wanted
    ]
    return tuple(found), unread


def service_usages(
    services: Services, catalogue: Catalogue, service: FeatureService
) -> tuple[tuple[Usage, ...], tuple[str, ...]]:
    """Who gets their features from a service; as ``view_usages``."""
    readers = declared_readers(services.metadata, catalogue)
    (entry,) = (one for one in service_entries(catalogue, {}) if one.name == service.name)
    found = [
        _usage(key, [name for name in service.names if name in readers[key]])
        for key in entry.used_by
    ]
    reads, unread = version_reads(services, services.metadata.find(ModelVersion))
    found += [
        _version_usage(
            services.metadata,
            one,
            [name for name in service.names if name in one.columns],
            same=one.service_id == service.service_id,
        )
        for one in reads
        if one.service == service.name
    ]
    return tuple(found), unread


def _usage(key: str, columns: Sequence[str]) -> Usage:
    kind, _, name = key.partition("/")
    return Usage(kind=kind, name=name, columns=tuple(columns))


def _version_usage(
    metadata: Metadata, one: VersionReads, columns: Sequence[str], *, same: bool
) -> Usage:
    pointers = metadata.read(Aliases, one.model)
    return Usage(
        kind="model_version",
        name=one.label,
        columns=tuple(columns),
        aliases=tuple(
            alias for alias in ALIASES if pointers and getattr(pointers, alias) == one.version
        ),
        definition="current" if same else "earlier",
    )


def _reads(manifest: Manifest) -> VersionReads:
    views = views_of(manifest)
    return VersionReads(
        model=manifest.model,
        version=manifest.version,
        columns=names_below(views, manifest.features),
        service=manifest.service,
        service_id=manifest.service_id,
        meanings=_meanings(all_views(views)),
    )


def _meanings(views: Iterable[View]) -> dict[str, str]:
    """A hash of what each column of some views means, by its full name.

    That of an aggregate does not change with what else its view has.
    """
    found: dict[str, str] = {}
    for view in views:
        if isinstance(view, OnDemandView):
            found |= dict.fromkeys(view.names, fingerprint(view))
            continue
        for feature in view.features:
            derive = {name: view.derive[name] for name in derived_columns(view, feature)}
            plain = msgspec.structs.replace(feature, deprecated="", instead="")
            alone = msgspec.structs.replace(view, features=(plain,), derive=derive)
            found |= dict.fromkeys(alone.names, fingerprint(alone))
    return found
