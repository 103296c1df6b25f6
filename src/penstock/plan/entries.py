"""The entries of the feature catalogue: what is said of every feature, and of every service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from penstock.spec import (
    Dataset,
    Deployment,
    FeatureService,
    FeatureView,
    Model,
    Monitor,
    OnDemandView,
    captured_words,
    entities_of,
    expression_words,
    feature_words,
)

from .deprecations import deprecation_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.spec import Aggregate, Captured, Declaration, Source

    from .catalogue import Catalogue
    from .readers import Readers

__all__ = [
    "FeatureEntry",
    "ServiceEntry",
    "ViewKind",
    "column_origins",
    "derived_columns",
    "feature_entries",
    "feature_tags",
    "looked_up_columns",
    "looked_up_features",
    "service_entries",
]

ViewKind: TypeAlias = Literal["feature_view", "on_demand_view"]


class FeatureEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a feature.

    Attributes:
        name: ``view.feature``.
        view: Its view.
        kind: What kind of view that is.
        entities: What it is about.
        columns: Full names of its columns: its own, or one for each of its k values.
        dtype: Type of its values, ``int64`` or ``float64``.
        meaning: How it is computed, in words.
        derived: Of the columns that it is computed from: the expressions of derived ones, and where
            those come from that are looked up.
        description: What it says about its entity.
        view_description: What its view is for.
        unit: Of its values.
        tags: Its own, and those of its view, its source, and the sources whose columns it reads.
        owner: Who answers for it, or else for its view.
        deprecated: The day from which on nothing new may use it; empty while it is there to stay.
        instead: What to use in its place, by its full name.
        used_by: Keys of those that read it, such as ``dataset/hourly``.
    """

    name: str
    view: str
    kind: ViewKind
    entities: tuple[str, ...]
    columns: tuple[str, ...]
    dtype: str
    meaning: str
    derived: Mapping[str, str] = {}
    description: str = ""
    view_description: str = ""
    unit: str = ""
    tags: tuple[str, ...] = ()
    owner: str = ""
    deprecated: str = ""
    instead: str = ""
    used_by: tuple[str, ...] = ()


class ServiceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a feature service.

    Attributes:
        name: Its name.
        service_id: Its id as it is applied.
        entities: What its features are about.
        features: Full names of its features, in order.
        description: What it is for.
        tags: Its tags.
        owner: Who answers for it.
        used_by: Keys of the datasets and models that learn from it, and of what stands on those.
    """

    name: str
    service_id: str
    entities: tuple[str, ...]
    features: tuple[str, ...]
    description: str = ""
    tags: tuple[str, ...] = ()
    owner: str = ""
    used_by: tuple[str, ...] = ()


def feature_entries(catalogue: Catalogue, readers: Readers) -> tuple[FeatureEntry, ...]:
    """An entry for each feature of every view that is applied, in the order of declaration.

    Args:
        catalogue: What is applied.
        readers: Who reads what.
    """
    by_column: dict[str, list[str]] = {}
    for reader, columns in readers.items():
        for column in columns:
            by_column.setdefault(column, []).append(reader)
    return tuple(entry for view in catalogue.views for entry in _entries(view, by_column))


def service_entries(catalogue: Catalogue, learned: Mapping[str, str]) -> tuple[ServiceEntry, ...]:
    """An entry for each feature service that is applied.

    Args:
        catalogue: What is applied.
        learned: The service that each model version learned from, by the version's key.
    """
    users = {
        key: service.name
        for key, value in catalogue.declarations.items()
        if (service := _service_of(value)) is not None
    } | dict(learned)
    return tuple(
        ServiceEntry(
            name=service.name,
            service_id=service.service_id,
            entities=tuple(entity.name for entity in service.entities),
            features=service.names,
            description=service.description,
            tags=tuple(service.tags),
            owner=service.owner,
            used_by=tuple(key for key, name in users.items() if name == service.name),
        )
        for service in catalogue.all(FeatureService)
    )


def _service_of(value: Declaration) -> FeatureService | None:
    """The feature service that a declaration gets its features from; None for none."""
    if isinstance(value, Monitor):
        value = value.deployment
    if isinstance(value, Deployment):
        value = value.model
    if isinstance(value, Model):
        value = value.dataset
    return value.service if isinstance(value, Dataset) else None


def _entries(
    view: FeatureView | OnDemandView, by_column: Mapping[str, Sequence[str]]
) -> Iterator[FeatureEntry]:
    entities = tuple(entity.name for entity in entities_of([view]))
    if isinstance(view, FeatureView):
        for feature in view.features:
            yield _aggregate(view, feature, entities, by_column)
        return
    for name in view.features:
        yield _on_demand(view, name, entities, by_column)


def _on_demand(
    view: OnDemandView,
    name: str,
    entities: tuple[str, ...],
    by_column: Mapping[str, Sequence[str]],
) -> FeatureEntry:
    full, told = f"{view.name}.{name}", view.described[name]
    deprecation = deprecation_of(view, name)
    return FeatureEntry(
        name=full,
        view=view.name,
        kind="on_demand_view",
        entities=entities,
        columns=(full,),
        dtype=view.dtypes[full].value,
        meaning=expression_words(view.expressions[name]),
        description=told.description,
        view_description=view.description,
        unit=told.unit,
        tags=tuple(dict.fromkeys([*told.tags, *view.tags])),
        owner=told.owner or view.owner,
        deprecated=str(deprecation.since) if deprecation else "",
        instead=deprecation.instead if deprecation else "",
        used_by=_used_by((full,), by_column),
    )


def _aggregate(
    view: FeatureView,
    feature: Aggregate,
    entities: tuple[str, ...],
    by_column: Mapping[str, Sequence[str]],
) -> FeatureEntry:
    columns = tuple(f"{view.name}.{name}" for name in feature.names)
    deprecation = deprecation_of(view, feature.name)
    return FeatureEntry(
        name=f"{view.name}.{feature.name}",
        view=view.name,
        kind="feature_view",
        entities=entities,
        columns=columns,
        dtype=view.dtypes[columns[0]].value,
        meaning=feature_words(feature),
        derived=column_origins(view, feature),
        description=feature.description,
        view_description=view.description,
        unit=feature.unit,
        tags=feature_tags(view, feature),
        owner=feature.owner or view.owner,
        deprecated=str(deprecation.since) if deprecation else "",
        instead=deprecation.instead if deprecation else "",
        used_by=_used_by(columns, by_column),
    )


def column_origins(view: FeatureView, feature: Aggregate) -> dict[str, str]:
    """Where the columns come from that a feature reads and that do not arrive with its records."""
    found = {name: expression_words(view.derive[name]) for name in derived_columns(view, feature)}
    return found | {name: captured_words(one) for name, one in _looked_up(view, feature)}


def feature_tags(view: FeatureView, feature: Aggregate) -> tuple[str, ...]:
    """Its own tags, those of its view and source, and of what columns of it were looked up in."""
    tags = [*feature.tags, *view.tags, *view.source.tags]
    for name, _ in _looked_up(view, feature):
        tags += _origin_tags(view.source, name)
    return tuple(dict.fromkeys(tags))


def _origin_tags(source: Source, column: str) -> Iterator[str]:
    """The tags of all that the values of a column come from or are found by in other sources."""
    found = source.captured.get(column)
    if found is None:
        return
    view = found.lookup.view
    if view is None:
        yield from found.lookup.into.tags
        yield from _origin_tags(found.lookup.into, found.column)
    else:
        for feature in view.features_of([found.column]):
            yield from feature_tags(view, feature)
    yield from _origin_tags(source, found.lookup.on)


def looked_up_columns(view: FeatureView, feature: Aggregate) -> tuple[str, ...]:
    """The columns that a feature reads, itself or through others, and that are looked up."""
    return tuple(name for name, _ in _looked_up(view, feature))


def looked_up_features(view: FeatureView, feature: Aggregate) -> tuple[str, ...]:
    """Full names of other views' features that a feature is computed from, through lookups."""
    found = (
        name for column, _ in _looked_up(view, feature) for name in _features(view.source, column)
    )
    return tuple(dict.fromkeys(found))


def _features(source: Source, column: str) -> Iterator[str]:
    """The features that the values of a column are, or are found by."""
    found = source.captured.get(column)
    if found is None:
        return
    view = found.lookup.view
    if view is None:
        yield from _features(found.lookup.into, found.column)
    else:
        yield f"{view.name}.{found.column}"
    yield from _features(source, found.lookup.on)


def _looked_up(view: FeatureView, feature: Aggregate) -> Iterator[tuple[str, Captured]]:
    """Those columns, each with where it comes from."""
    wanted = view.read_by(feature)
    return (pair for pair in view.source.captured.items() if pair[0] in wanted)


def derived_columns(view: FeatureView, feature: Aggregate) -> tuple[str, ...]:
    """The view's derived columns that a feature is computed from, through each other, in order."""
    wanted = view.read_by(feature)
    return tuple(name for name in view.derive if name in wanted)


def _used_by(columns: Sequence[str], by_column: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(reader for column in columns for reader in by_column.get(column, ()))
    )
