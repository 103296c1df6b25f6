"""Datasets: built once per content, kept as an artifact, pinned to what they were built from."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from penstock.errors import NotFoundError, NotReadyError
from penstock.features import UnknownEntities, parts_of, point_in_time
from penstock.ingest import raw_name
from penstock.ports import Audit, Put
from penstock.records import DatasetSnapshot
from penstock.spec import fingerprint

from .rows import PART, count_parts, labelled_rows
from .selected import selected_names
from .spine import AT
from .stored import StoredViews
from .warnings import warnings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal

    from penstock.features import Parts
    from penstock.ports import Metadata, Services, Tables
    from penstock.spec import Dataset, Source

__all__ = ["build", "get_snapshot", "load", "pin"]


def pin(services: Services, dataset: Dataset) -> dict[str, int]:
    """The newest version of each table that a dataset reads, by the table's name.

    Args:
        services: The project's ports.
        dataset: The declaration.

    Raises:
        NotReadyError: A source has no records yet, or nothing is stored of a view whose stored
            features it wants.
    """
    return _pin(services.tables, dataset) | _stored(services.tables, dataset).versions


def build(
    services: Services,
    dataset: Dataset,
    *,
    versions: Mapping[str, int] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> DatasetSnapshot:
    """Build a dataset from raw tables, and from stored features where it says so.

    The tables' versions are pinned first, so ingestion may go on meanwhile. Building again from
    the same versions returns the same snapshot and computes nothing; killed and built again from
    the same versions, only those parts of the features are computed that were not finished.

    Args:
        services: The project's ports.
        dataset: The declaration.
        versions: Versions to read, as ``pin`` gave them; the newest of tables that it lacks.
        progress: Told of each part of the features that is done, and the share of all.

    Returns:
        The snapshot's record; ``load`` gives its rows.

    Raises:
        NotReadyError: A source has no records yet, or the stored features that it wants are not
            there, or end too early.
        InputError: No row has a label, all labels are of one class, or a part is empty; or a
            selected feature is not in the dataset's views.
        NotFoundError: There is no such feature selection.
    """
    names = selected_names(services.metadata, dataset)
    stored = _stored(services.tables, dataset, versions)
    tables = _pin(services.tables, dataset)
    versions = {name: (versions or {}).get(name, newest) for name, newest in tables.items()}
    versions |= stored.versions
    dataset_id = _id_of(dataset, versions)
    with services.locks.hold(f"dataset/{dataset.name}", wait_s=600):
        found = services.metadata.read(DatasetSnapshot, dataset_id)
        if found is not None and services.artifacts.exists(found.artifact):
            return found
        rows, unlabelled = labelled_rows(services.tables, dataset, versions)
        stored.refuse_deleted(versions)
        stored.refuse_short(rows[AT][-1])
        with parts_of(services, f"dataset/{dataset.name}") as parts:
            how = _How(versions, stored, parts, progress)
            frame, told = _with_features(services, dataset, names, rows, how)
            return _keep(services, dataset, dataset_id, how, names, frame, unlabelled, told)


def load(
    services: Services,
    snapshot: DatasetSnapshot,
    part: Literal["train", "validation", "test", "embargo"] | None = None,
) -> pl.DataFrame:
    """The rows of a snapshot, ordered by time and key.

    Args:
        services: The project's ports.
        snapshot: The snapshot.
        part: Only the rows of this part.

    Returns:
        The entity's key, ``at``, the features (Int64 or Float64, null for none), the label
        (Boolean or Float64) and ``part``.

    Raises:
        NotFoundError: The artifact was removed.
        StateError: The artifact is damaged.
    """
    rows = pl.scan_parquet(services.artifacts.path(snapshot.artifact))
    return (rows if part is None else rows.filter(pl.col(PART) == part)).collect()


def get_snapshot(metadata: Metadata, dataset_id: str) -> DatasetSnapshot:
    """The snapshot of that id.

    Raises:
        NotFoundError: There is none.
    """
    found = metadata.read(DatasetSnapshot, dataset_id)
    if found is None:
        known = [snapshot.dataset_id for snapshot in metadata.find(DatasetSnapshot)]
        raise NotFoundError.of("dataset snapshot", dataset_id, known)
    return found


def _pin(tables: Tables, dataset: Dataset) -> dict[str, int]:
    """The newest version of each table that the dataset reads.

    Raises:
        NotReadyError: A source has no records yet.
    """
    pinned: dict[str, int] = {}
    for source in _sources(dataset):
        version = tables.version(raw_name(source))
        if version is None:
            raise NotReadyError(
                f"Dataset {dataset.name!r} reads the source {source.name!r}, which has no records "
                f"yet. Run 'penstock ingest {source.name}' first.",
                dataset=dataset.name,
                source=source.name,
            )
        pinned[raw_name(source)] = version
    return pinned


def _stored(
    tables: Tables, dataset: Dataset, versions: Mapping[str, int] | None = None
) -> StoredViews:
    of = ("dataset", dataset.name)
    return StoredViews(tables, of, dataset.base_views, dataset.stored, versions)


def _sources(dataset: Dataset) -> list[Source]:
    sources = [dataset.spine, *(view.source for view in dataset.base_views)]
    return list({source.name: source for source in sources}.values())


def _id_of(dataset: Dataset, versions: Mapping[str, int]) -> str:
    text = json.dumps([fingerprint(dataset), versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _How(NamedTuple):
    """From what, and by what, features are computed; who is told how far it has come."""

    versions: Mapping[str, int]
    stored: StoredViews
    parts: Parts
    progress: Callable[[str, float], None] | None


def _with_features(
    services: Services, dataset: Dataset, names: Sequence[str], rows: pl.DataFrame, how: _How
) -> tuple[pl.DataFrame, list[str]]:
    """The rows with their features, and what a reader should know of these."""
    spine = rows.select(list(dict.fromkeys([dataset.spine.entity.name, AT, *dataset.joined_by])))
    views = [view for view in dataset.views if not set(view.names).isdisjoint(names)]
    unknown: list[UnknownEntities] = []
    joined = how.stored.join(spine)
    features = point_in_time(
        services.tables,
        views,
        spine,
        versions=how.versions,
        as_known=dataset.as_known,
        memory_bytes=services.features_memory_bytes,
        parts=how.parts,
        given=joined,
        notice=unknown.append,
        progress=how.progress,
    )
    rest = rows.drop(spine.columns)
    told = [*(one.sentence for one in unknown), *how.stored.empty(joined)]
    return pl.concat([features.select(*spine.columns, *names), rest], how="horizontal"), told


def _keep(  # noqa: PLR0913, PLR0917 - what the snapshot is made of
    services: Services,
    dataset: Dataset,
    dataset_id: str,
    how: _How,
    names: tuple[str, ...],
    frame: pl.DataFrame,
    unlabelled: int,
    told: Sequence[str],
) -> DatasetSnapshot:
    """Keep the rows as an artifact, then the record that refers to it."""
    versions = how.versions
    label = dataset.label.name if dataset.label is not None else ""
    balance = _balance(frame, label) if label else {}
    batches = {
        source.name: services.tables.applied(name, name, version=versions[name])
        for source, name in ((source, raw_name(source)) for source in _sources(dataset))
    }
    snapshot = DatasetSnapshot(
        dataset_id=dataset_id,
        dataset=dataset.name,
        fingerprint=fingerprint(dataset),
        tables=versions,
        batches=batches,
        rows=len(frame),
        unlabelled=unlabelled,
        parts=count_parts(frame[PART]),
        label_balance=balance,
        feature_names=names,
        task=dataset.task,
        artifact=_put(services, frame),
        created_at=services.clock.now(),
        warnings=(
            *warnings_of(frame, label, names, balance),
            *told,
            *how.stored.behind(batches),
        ),
        stored=how.stored.pins,
        service=dataset.service.name if dataset.service else "",
        service_id=dataset.service.service_id if dataset.service else "",
    )
    difference = {"dataset_id": dataset_id, "tables": dict(versions), "rows": len(frame)}
    audit = Audit(
        actor=services.actor,
        action="build dataset",
        subject=f"dataset/{dataset.name}",
        difference=difference,
    )
    services.metadata.write(Put(snapshot), audit=audit)
    return snapshot


def _balance(frame: pl.DataFrame, label: str) -> dict[str, float]:
    mean = pl.col(label).cast(pl.Float64).mean()
    found = frame.group_by(PART).agg(mean.alias("mean"))
    return {str(part): float(value) for part, value in found.sort(PART).iter_rows()}


def _put(services: Services, frame: pl.DataFrame) -> str:
    services.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dataset-", dir=services.scratch) as folder:
        path = Path(folder) / "rows.parquet"
        frame.write_parquet(path)
        return services.artifacts.put(path)
