"""One view, feature or service of the catalogue: all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from penstock.access import hidden_features
from penstock.errors import InputError, NotFoundError
from penstock.features import ColumnProfile, profiled, profiles_of, unprofiled
from penstock.plan import Catalogue, FeatureEntry, field_changes, readable, versions_of
from penstock.spec import (
    FeatureService,
    FeatureView,
    OnDemandView,
    captured_words,
    expression_words,
    kind_of,
    request_fields,
)

from .links import Link
from .listing import Listing, ViewState, list_features
from .upstream import view_origins
from .usage import Usage, service_usages, view_usages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.plan import FieldChange
    from penstock.ports import Metadata, Services
    from penstock.records import DeclarationVersion
    from penstock.spec import View

__all__ = ["AppliedVersion", "Overview", "OverviewKind", "overview", "profiled_columns"]

DAYS = 7

OverviewKind: TypeAlias = Literal["feature_view", "on_demand_view", "feature_service"]


class AppliedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a declaration, and what it changed.

    Attributes:
        version: Its number.
        applied_at: When.
        applied_by: Who.
        commit: Commit of the project folder; empty where it is not known.
        dirty: Whether the folder differed from the commit.
        changes: What differs from the version before, such as ``"ttl: 7d -> 1d"``.
    """

    version: int
    applied_at: datetime
    applied_by: str
    commit: str
    dirty: bool
    changes: tuple[str, ...]


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a view, of one of its features, or of a feature service.

    Attributes:
        kind: What it is.
        name: Of the view or service.
        feature: The feature that was asked for, by its full name; empty for all of them.
        description: What the view or service is for.
        owner: Who answers for it.
        tags: Its tags.
        entities: What its features are about.
        features: Its features, or the one asked for.
        versions: Its versions, newest first; of a feature those that changed it, and the first
            that has it.
        used_by: Who reads it.
        unread: Versions whose manifest cannot be read; whether they use it is not known.
        comes_from: Its origins, down to batches and files.
        deprecated: Of a view: the day from which on nothing new may use it.
        instead: What to use in its place.
        source: Of a feature view: where its records come from.
        derive: Of a feature view: its derived columns, and where looked-up ones come from.
        ttl: Of a feature view: how long what is known of an entity stays true.
        freshness: Of a feature view: how old its newest records may be.
        state: Of a feature view: how it stands online.
        views: Of an on-demand view or a service: what its features come from.
        request: Of those: the fields that a request brings, to their types.
        service_id: Of a service: its id as it is applied.
        profiles: Of a view: how its columns lay on the newest days that are profiled.
        unprofiled: Of an on-demand view: why columns of it are never profiled, by their full names.
        hidden: Columns whose profile whoever asks may not see, since they are protected.
    """

    kind: OverviewKind
    name: str
    feature: str
    description: str
    owner: str
    tags: tuple[str, ...]
    entities: tuple[str, ...]
    features: tuple[FeatureEntry, ...]
    versions: tuple[AppliedVersion, ...]
    used_by: tuple[Usage, ...]
    unread: tuple[str, ...]
    comes_from: tuple[Link, ...]
    deprecated: str = ""
    instead: str = ""
    source: str = ""
    derive: Mapping[str, str] = {}
    ttl: str = ""
    freshness: str = ""
    state: ViewState | None = None
    views: tuple[str, ...] = ()
    request: Mapping[str, str] = {}
    service_id: str = ""
    profiles: tuple[ColumnProfile, ...] = ()
    unprofiled: Mapping[str, str] = {}
    hidden: tuple[str, ...] = ()


Shown: TypeAlias = FeatureView | OnDemandView | FeatureService

_KINDS: Mapping[str, OverviewKind] = {
    "feature_view": "feature_view",
    "on_demand_view": "on_demand_view",
    "feature_service": "feature_service",
}


def overview(services: Services, name: str, *, service: bool = False) -> Overview:
    """Say all that is known of a view, ``view.feature``, or a feature service.

    Args:
        services: The ports.
        name: Its name; a view goes before a service of the same name.
        service: Whether it is the name of a service.

    Raises:
        NotReadyError: Nothing has been applied yet.
        NotFoundError: There is nothing of that name; names the nearest.
    """
    listing = list_features(services)
    catalogue = Catalogue.load(services.metadata)
    shown, features = (_service if service else _resolved)(catalogue, listing, name)
    feature = features[0] if shown.name != name else None
    if isinstance(shown, FeatureService):
        used_by, unread = service_usages(services, catalogue, shown)
    else:
        columns = [column for one in features for column in one.columns]
        used_by, unread = view_usages(services, catalogue, shown, columns)
    made = Overview(
        kind=_KINDS[kind_of(shown)],
        name=shown.name,
        feature=feature.name if feature else "",
        description=shown.description,
        owner=shown.owner,
        tags=tuple(shown.tags),
        entities=tuple(dict.fromkeys(entity for one in features for entity in one.entities)),
        features=features,
        versions=tuple(_versions(services.metadata, shown, feature))[::-1],
        used_by=used_by,
        unread=unread,
        comes_from=view_origins(services, shown),
    )
    if isinstance(shown, FeatureView):
        return _with_profiles(services, _of_view(made, shown, listing), shown)
    fields = request_fields(shown.views if isinstance(shown, FeatureService) else [shown])
    made = msgspec.structs.replace(
        made,
        views=tuple(view.name for view in shown.views),
        request={field: dtype.value for field, dtype in fields.items()},
        service_id=shown.service_id if isinstance(shown, FeatureService) else "",
    )
    if isinstance(shown, FeatureService):
        return made
    made = msgspec.structs.replace(made, deprecated=shown.deprecated, instead=shown.instead)
    return _with_profiles(services, made, shown)


def _with_profiles(services: Services, made: Overview, view: View) -> Overview:
    why = unprofiled(view)
    every = [column for one in made.features for column in one.columns]
    columns = [column for column in every if column not in why]
    hidden = hidden_features(services, columns)
    profiles = profiles_of(services.tables, view, days=DAYS)
    return msgspec.structs.replace(
        made,
        profiles=tuple(one for one in profiles if one.feature in set(columns) - hidden),
        unprofiled={column: why[column] for column in every if column in why},
        hidden=tuple(sorted(hidden)),
    )


def profiled_columns(services: Services, name: str) -> tuple[View, tuple[str, ...]]:
    """The view that a name names, or names a feature of, and those columns of it with profiles.

    Args:
        services: The ports.
        name: A view, or ``view.feature``.

    Raises:
        NotReadyError: Nothing has been applied yet.
        NotFoundError: There is no such view or feature; names the nearest.
        InputError: It is a feature service, or none of the columns can be profiled; says why.
    """
    catalogue = Catalogue.load(services.metadata)
    view, features = _resolved(catalogue, list_features(services), name)
    if isinstance(view, FeatureService):
        inner = ", ".join(one.name for one in view.views if profiled(one))
        todo = f"Profile its views: {inner}." if inner else "None of its views has a profile."
        raise InputError(f"{name!r} is a feature service; views are profiled. {todo}", name=name)
    columns = [column for one in features for column in one.columns]
    why = unprofiled(view)
    found = tuple(column for column in columns if column not in why)
    if not found:
        reasons = "; ".join(dict.fromkeys(why[column] for column in columns))
        raise InputError(f"{name!r} has no profile: {reasons}.", name=name)
    return view, found


def _of_view(made: Overview, view: FeatureView, listing: Listing) -> Overview:
    return msgspec.structs.replace(
        made,
        deprecated=view.deprecated,
        instead=view.instead,
        source=view.source.name,
        derive={
            **{name: captured_words(one) for name, one in view.source.captured.items()},
            **{name: expression_words(one) for name, one in view.derive.items()},
        },
        ttl=view.ttl,
        freshness=view.freshness,
        state=next(state for state in listing.states if state.view == view.name),
    )


def _service(
    catalogue: Catalogue, listing: Listing, name: str
) -> tuple[Shown, tuple[FeatureEntry, ...]]:
    """The service of that name, and its features."""
    found = catalogue.feature_service(name)
    names = set(found.names)
    return found, tuple(one for one in listing.features if not names.isdisjoint(one.columns))


def _resolved(
    catalogue: Catalogue, listing: Listing, name: str
) -> tuple[Shown, tuple[FeatureEntry, ...]]:
    """What a name names, and the features of it that are to be shown."""
    views = {one.name: one for one in catalogue.views}
    named = {one.name: one for one in catalogue.all(FeatureService)}
    if name in views:
        return views[name], tuple(one for one in listing.features if one.view == name)
    if name in named:
        return _service(catalogue, listing, name)
    view, _, inner = name.partition(".")
    for one in listing.features:
        if name == one.name or name in one.columns:
            return views[one.view], (one,)
    if inner:
        known = [one.name for one in listing.features if one.view == view or view not in views]
        raise NotFoundError.of("feature", name, known)
    called = [one.name for one in listing.features if one.name.endswith(f".{name}")]
    raise NotFoundError.of("view or feature service", name, called or [*views, *named])


def _versions(
    metadata: Metadata, shown: Shown, feature: FeatureEntry | None
) -> Iterator[AppliedVersion]:
    """The versions that are kept, oldest first; of a feature those that say something of it."""
    before: DeclarationVersion | None = None
    for version in versions_of(metadata, kind_of(shown), shown.name):
        document = readable(version.document)
        changes = field_changes(readable(before.document), document) if before else []
        if feature is not None:
            changes = [one for one in changes if _concerns(one, feature)]
        first = before is None and (feature is None or _has(document, feature))
        before = version
        if first or changes or feature is None:
            yield AppliedVersion(
                version=version.version,
                applied_at=version.applied_at,
                applied_by=version.applied_by,
                commit=version.commit,
                dirty=version.dirty,
                changes=tuple(map(_told, changes)),
            )


def _told(change: FieldChange) -> str:
    """A change in words; what a whole new member says is told elsewhere."""
    before, after = change.before, change.after
    if before is None and isinstance(after, dict):
        return f"{change.path}: new"
    if after is None and isinstance(before, dict):
        return f"{change.path}: gone"
    return change.text


def _concerns(change: FieldChange, feature: FeatureEntry) -> bool:
    """Whether a change of its view's document says something of a feature."""
    own = f"features.{feature.name.removeprefix(f'{feature.view}.')}"
    wanted = {own, "source", "ttl", *(f"derive.{name}" for name in feature.derived)}
    return change.path in wanted or change.path.startswith(f"{own}.")


def _has(document: Mapping[str, object], feature: FeatureEntry) -> bool:
    """Whether a view's document has a feature."""
    name = feature.name.removeprefix(f"{feature.view}.")
    features = document.get("features")
    if isinstance(features, dict):
        return name in features
    return isinstance(features, list) and any(
        isinstance(one, dict) and one.get("name") == name for one in features
    )
