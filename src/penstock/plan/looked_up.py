"""Columns that are looked up: whether they mean what they meant, and who still reads those gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.algebra import captured_meaning
from penstock.errors import DeclarationError, StateError
from penstock.records import Batch, CapturedFeature, DatasetSnapshot, DeclarationVersion
from penstock.spec import (
    FeatureView,
    Source,
    base_views,
    captured_words,
    feature_words,
    from_document,
    key_of,
    kind_of,
    names_below,
    to_document,
)

from .catalogue import Catalogue
from .entries import column_origins, looked_up_columns
from .readable import lookups_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock.ports import Metadata
    from penstock.records import AppliedDeclaration, ModelVersion
    from penstock.spec import Project

__all__ = ["captured_features", "lookup_faults", "meaning_faults"]


def captured_features(source: Source) -> tuple[CapturedFeature, ...]:
    """What the features mean that a source's records are completed with, as it is declared."""
    found: list[CapturedFeature] = []
    for name, one in source.captured.items():
        view = one.lookup.view
        if view is None:
            continue
        (feature,) = view.features_of([one.column])
        parts = {one.column: feature_words(feature), **column_origins(view, feature)}
        told = ", ".join(f"{column} = {words}" for column, words in parts.items())
        found.append(
            CapturedFeature(
                source=source.name,
                column=name,
                meaning=captured_meaning(one),
                words=f"{captured_words(one)} ({told})",
            )
        )
    return tuple(found)


def meaning_faults(
    metadata: Metadata, project: Project, records: Iterable[AppliedDeclaration]
) -> Iterator[str]:
    """Yield each looked-up column that comes to mean another, although there are values of the old.

    Whatever was ever applied counts, also where the column was given up in between: the raw table
    still has its values. A feature means another where its view says so, or what that reads.

    Args:
        metadata: Where earlier versions of sources, and their batches, are remembered.
        project: What is declared.
        records: What is applied.
    """
    applied = {record.key: record.document for record in records}
    for source in (one for one in project.everything if isinstance(one, Source) and one.lookups):
        key, now = key_of(source), lookups_in(to_document(source))
        versions = metadata.find(DeclarationVersion, where={"declaration": key})
        known = [*(one.document for one in versions), *filter(None, [applied.get(key)])]
        others = {
            (name, before)
            for document in known
            for name, before in lookups_in(document).items()
            if name in now and before.text != now[name].text and before.kind == kind_of(Source)
        }
        ways = _ways(metadata, source) if others else set()
        for name, before in sorted(others):
            if (before.name, before.on) in ways:
                yield _changed(key, name, before.text, now[name].text)
        yield from _feature_faults(metadata, source)


def _ways(metadata: Metadata, source: Source) -> set[tuple[str, str]]:
    """The other source and the column of every lookup that stored records have gone through."""
    batches = metadata.find(Batch, where={"source": source.name})
    return {(one.source, one.on) for batch in batches for one in batch.lookups if not one.view}


def _feature_faults(metadata: Metadata, source: Source) -> Iterator[str]:
    """Yield each column with values of a feature that is to be anything else."""
    words = {one.column: one.words for one in captured_features(source)}
    for name, one in source.captured.items():
        before = metadata.read(CapturedFeature, CapturedFeature.key_of(source.name, name))
        if before is not None and before.meaning != captured_meaning(one):
            after = words.get(name, captured_words(one))
            yield _changed(key_of(source), name, before.words, after)


def _changed(key: str, name: str, before: str, after: str) -> str:
    # Where what changed is below what the words say, they are the same.
    way = f"from {before!r} to {after!r}" if before != after else f"in what {before!r} is made of"
    return (
        f"{key}: lookups.{name} changes {way}, but its raw data has values of the old meaning, "
        "which never change; give the new column another name"
    )


def lookup_faults(
    metadata: Metadata,
    project: Project,
    records: Iterable[AppliedDeclaration],
    live: Iterable[ModelVersion],
) -> Iterator[str]:
    """Yield each looked-up column that is declared no more while a live version reads it.

    New records would have null in it, and the version would go on as if nothing had happened. It
    counts what the version's views said when its dataset was built.

    Args:
        metadata: Where earlier versions of views are remembered.
        project: What is declared.
        records: What is applied.
        live: The versions in service.
    """
    try:
        applied = Catalogue.of(records)
    except StateError:
        return  # of another version of Penstock, which may not have known lookups
    declared = {one.name: one for one in project.everything if isinstance(one, Source)}
    gone = {
        one.name: set(one.captured) - set(declared[one.name].captured)
        for one in applied.all(Source)
        if one.name in declared
    }
    if not any(gone.values()):
        return
    for version in live:
        for source, column, feature in _reads(metadata, applied, version):
            if column in gone.get(source, ()):
                yield (
                    f"source/{source}: lookups.{column} is declared no more, but {version.label} "
                    f"reads {feature} and is live; promote a version without it first, or declare "
                    "the lookup again"
                )


def _reads(
    metadata: Metadata, applied: Catalogue, version: ModelVersion
) -> Iterator[tuple[str, str, str]]:
    """The source, the looked-up column and the feature, for each such column a version reads."""
    snapshot = metadata.read(DatasetSnapshot, version.dataset_id)
    if snapshot is None:
        return
    wanted = names_below(applied.views, snapshot.feature_names)
    views = {name.partition(".")[0] for name in wanted}
    for now in base_views([view for view in applied.views if view.name in views]):
        view = _as_of(metadata, applied, now, snapshot)
        for feature in view.features:
            if wanted.isdisjoint(f"{view.name}.{name}" for name in feature.names):
                continue
            for column in looked_up_columns(view, feature):
                yield view.source.name, column, f"{view.name}.{feature.name}"


def _as_of(
    metadata: Metadata, applied: Catalogue, view: FeatureView, snapshot: DatasetSnapshot
) -> FeatureView:
    """The view as it was declared when a dataset was built; as it is where nobody knows."""
    versions = metadata.find(DeclarationVersion, where={"declaration": key_of(view)})
    earlier = [one for one in versions if one.applied_at <= snapshot.created_at]
    try:
        if earlier:
            return from_document(FeatureView, earlier[-1].document, applied.declarations)
    except (StateError, DeclarationError):
        pass  # it reads what is not there any more
    return view
