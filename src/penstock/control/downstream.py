"""Down the tree: what was derived from a batch, a dataset, a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from penstock.plan import Catalogue, looked_up_features
from penstock.records import ALIASES, Aliases, Batch, DatasetSnapshot, ModelVersion
from penstock.scoring import SCORE_SCHEMA
from penstock.spec import FeatureView, OnDemandView, Source, names_below

from .links import Link
from .upstream import version_detail

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.ports import Services
    from penstock.records import LookedUp

__all__ = [
    "batch_products",
    "column_products",
    "dataset_products",
    "version_link",
    "version_products",
]

SCORES = "scores/"
GRAPH = "graph"  # the only candidate of a graph, whose parameters are the versions it is pinned to


def batch_products(services: Services, batch: Batch) -> tuple[Link, ...]:
    """The online features, datasets, versions and scores derived from a batch.

    Records of other sources that could find its records are derived from it too, with all that is
    derived from them.
    """
    datasets = [
        _dataset_link(services, snapshot)
        for snapshot in services.metadata.find(DatasetSnapshot)
        if snapshot.batches.get(batch.source, 0) >= batch.number
    ]
    return (*_feature_links(services, batch), *datasets, *_completed_links(services, batch))


def _completed_links(services: Services, batch: Batch) -> Iterator[Link]:
    """The batches of each other source whose records looked into the batch, or past its deletion.

    What was derived from the first of them was from them all: it reads the batches up to one.
    """
    for source in Catalogue.load(services.metadata).all(Source):
        if batch.source not in {lookup.into.name for lookup in source.lookups}:
            continue
        found = [
            one
            for one in services.metadata.find(Batch, where={"source": source.name})
            if any(_saw(looked_up, batch) for looked_up in one.lookups)
        ]
        if found:
            first, last = found[0].batch_id, found[-1].batch_id
            yield Link(
                kind="looked up by",
                id=source.name,
                detail={"batches": len(found), "first": first, "last": last},
                links=batch_products(services, found[0]),
            )


def _saw(looked_up: LookedUp, batch: Batch) -> bool:
    return looked_up.source == batch.source and looked_up.last_batch >= batch.number


def column_products(
    services: Services, catalogue: Catalogue, columns: Sequence[str]
) -> tuple[Link, ...]:
    """The datasets with some columns, or with features on demand of them, and their versions.

    And so those with features of other views that are computed from these columns, looked up.
    """
    wanted = set(columns) | {
        name
        for view in catalogue.all(OnDemandView)
        for name in view.names
        if not names_below([view], [name]).isdisjoint(columns)
    }
    datasets = (
        _dataset_link(services, snapshot)
        for snapshot in services.metadata.find(DatasetSnapshot)
        if not wanted.isdisjoint(snapshot.feature_names)
    )
    return (*datasets, *_aggregated_links(services, catalogue, columns))


def _aggregated_links(
    services: Services, catalogue: Catalogue, columns: Sequence[str]
) -> Iterator[Link]:
    """The views whose source's records were completed with some columns, and that read these."""
    for view in catalogue.all(FeatureView):
        read = [
            f"{view.name}.{name}"
            for feature in view.features
            if not set(columns).isdisjoint(looked_up_features(view, feature))
            for name in feature.names
        ]
        if read:
            yield Link(
                kind="looked up by",
                id=view.source.name,
                detail={"features": read},
                links=column_products(services, catalogue, read),
            )


def _dataset_link(services: Services, snapshot: DatasetSnapshot) -> Link:
    return Link(
        kind="dataset",
        id=snapshot.dataset_id,
        detail={"dataset": snapshot.dataset, "rows": snapshot.rows},
        links=dataset_products(services, snapshot),
    )


def dataset_products(services: Services, snapshot: DatasetSnapshot) -> tuple[Link, ...]:
    """The versions that learned from a dataset, and their scores."""
    found = services.metadata.find(ModelVersion)
    return tuple(
        version_link(services, version)
        for version in found
        if version.dataset_id == snapshot.dataset_id
    )


def version_link(services: Services, version: ModelVersion) -> Link:
    """A version with what was made of it."""
    return Link(
        kind="version",
        id=version.label,
        detail=version_detail(version),
        links=version_products(services, version),
    )


def version_products(services: Services, version: ModelVersion) -> tuple[Link, ...]:
    """The roles a version has, the graphs it is in, and the scores it made per deployment."""
    aliases = services.metadata.read(Aliases, version.model)
    roles = [
        Link(kind="role", id=alias)
        for alias in ALIASES
        if aliases is not None and getattr(aliases, alias) == version.version
    ]
    wanted = (pl.col("model") == version.model) & (pl.col("version") == version.version)
    graphs = [
        version_link(services, one)
        for one in services.metadata.find(ModelVersion)
        if one.candidate == GRAPH and version.label in one.params.values()
    ]
    return (*roles, *graphs, *_scores(services, wanted))


def _feature_links(services: Services, batch: Batch) -> Iterator[Link]:
    """The views of the batch's source, with the scores whose features hold its records.

    Of a deletion, those of its entities since.
    """
    name = f"raw/{batch.source}"
    if services.tables.version(name) is None or not (batch.stored or batch.deletion):
        return
    for view in Catalogue.load(services.metadata).all(FeatureView):
        if view.source.name != batch.source:
            continue
        entities = _entities(services, batch, view)
        reached = pl.col("progress").str.json_path_match(f'$["{view.name}"]').cast(pl.Int64)
        given = pl.col("given").str.json_path_match(f'$["{view.source.entity.name}"]')
        about = pl.coalesce(given, pl.col("entity"))
        wanted = (reached >= batch.number) & about.is_in(entities.implode())
        detail = {"entities": entities.to_list()}
        links = tuple(_scores(services, wanted))
        yield Link(kind="online features", id=view.name, detail=detail, links=links)


def _entities(services: Services, batch: Batch, view: FeatureView) -> pl.Series:
    """The entities that a batch has records of, or deletes records of, as text."""
    if batch.deletion is not None:
        return pl.Series([str(key) for key in batch.deletion.keys]).sort()
    rows = services.tables.scan(f"raw/{batch.source}").filter(pl.col("_batch") == batch.number)
    key = pl.col(view.source.entity.name).cast(pl.String)
    return rows.select(key.unique().sort()).collect().to_series()


def _scores(services: Services, wanted: pl.Expr) -> Iterator[Link]:
    """Counts of the scores in each table that are wanted, with the first and the last of them."""
    for name in services.tables.names(SCORES):
        services.tables.widen(name, SCORE_SCHEMA)
        chosen = services.tables.scan(name).filter(wanted)
        ids = pl.col("prediction_id")
        found = chosen.select(pl.len(), ids.min().alias("first"), ids.max().alias("last"))
        count, first, last = found.collect().row(0)
        if count:
            detail = {"count": count, "first": first, "last": last}
            yield Link(kind="scores", id=name.removeprefix(SCORES), detail=detail)
