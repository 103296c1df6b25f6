"""Up the tree: what a score, a version, a dataset or a batch comes from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from penstock.errors import NotFoundError, StateError
from penstock.ingest import raw_name, read_tombstones, remaining_records
from penstock.records import Batch, DatasetSnapshot
from penstock.registry import find_version, get_version, read_manifest, views_of
from penstock.spec import FeatureView, OnDemandView, captured_words, fingerprint

from .hiding import shown_values
from .links import Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from penstock.ports import Metadata, Services, Tables
    from penstock.records import Deletion, LookedUp, Manifest, ModelVersion, Score, StoredPin
    from penstock.spec import FeatureService, View

__all__ = ["batch_detail", "batch_origins", "batches_of", "dataset_link", "manifest_of",
           "score_origins", "version_detail", "version_origins", "view_origins"]  # fmt: skip

NEWEST = 20

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def score_origins(services: Services, score: Score) -> tuple[Link, ...]:
    """The features and the version of a score, each with its own origins."""
    if not score.version:
        return ()
    version = get_version(services.metadata, score.model, score.version)
    link = Link(
        kind="version",
        id=version.label,
        detail=version_detail(version),
        links=version_origins(services, version),
    )
    if score.origin == "request":
        return (link,)
    return (*_feature_links(services, score, version), link)


def version_origins(services: Services, version: ModelVersion) -> tuple[Link, ...]:
    """The dataset, the run and the code of a version, and the versions a graph is pinned to."""
    run = Link(kind="run", id=version.run_id, detail={"tracking run": version.tracking_run})
    snapshot = services.metadata.read(DatasetSnapshot, version.dataset_id)
    datasets = [dataset_link(services.metadata, snapshot)] if snapshot else []
    manifest = manifest_of(services, version)
    code = [_code_link(manifest)] if manifest else []
    return (*_pinned(services, version, manifest), *datasets, run, *code)


def _pinned(
    services: Services, version: ModelVersion, manifest: Manifest | None
) -> tuple[Link, ...]:
    """The versions that a version of a graph is pinned to, each with its own origins."""
    if manifest is None or manifest.native != "graph":
        return ()
    links: list[Link] = []
    for label in dict.fromkeys(str(pin) for pin in version.params.values()):
        found = find_version(services.metadata, label)
        origins = version_origins(services, found)
        links.append(Link(kind="version", id=label, detail=version_detail(found), links=origins))
    return tuple(links)


def dataset_link(metadata: Metadata, snapshot: DatasetSnapshot) -> Link:
    """A dataset with the tables it was built from, down to files."""
    stored = {pin.table: pin for pin in snapshot.stored}
    tables = [
        _stored_link(metadata, stored[name])
        if name in stored
        else Link(
            kind="table",
            id=f"{name}@{version}",
            links=_tables_batches(metadata, name, snapshot.batches),
        )
        for name, version in snapshot.tables.items()
    ]
    detail = {"dataset": snapshot.dataset, "rows": snapshot.rows, "parts": dict(snapshot.parts)}
    if snapshot.service:
        detail |= {"service": snapshot.service, "service_id": snapshot.service_id}
    return Link(kind="dataset", id=snapshot.dataset_id, detail=detail, links=tuple(tables))


def view_origins(
    services: Services, shown: View | FeatureService, *, newest: int = NEWEST
) -> tuple[Link, ...]:
    """The sources of a view or a service, through the views below it, down to files.

    Args:
        services: The ports; uses metadata and tables.
        shown: The view or service.
        newest: So many batches of each source are told; the table's detail says how many there are.
    """
    if not isinstance(shown, FeatureView):
        return tuple(
            Link(
                kind="features",
                id=view.name,
                detail={"definition": fingerprint(view)[:12]},
                links=view_origins(services, view, newest=newest),
            )
            for view in shown.views
        )
    source = shown.source
    detail: dict[str, object] = {"entity": source.entity.name, "timestamp": source.timestamp}
    if source.batch is not None:
        detail["files"] = source.batch.pattern
    if source.stream is not None:
        detail["topic"] = source.stream.name
    detail |= {name: captured_words(one) for name, one in source.captured.items()}
    tables = _raw_table(services, source.name, newest)
    return (Link(kind="source", id=source.name, detail=detail, links=tables),)


def _raw_table(services: Services, source: str, newest: int) -> tuple[Link, ...]:
    """The raw table of a source with its newest batches; nothing before there is one."""
    name = f"raw/{source}"
    version = services.tables.version(name)
    if version is None:
        return ()
    where = {"source": source, "state": "stored"}
    found = services.metadata.find(Batch, where=where, newest_first=True, limit=newest)
    detail = {"batches": found[0].number if found else 0}
    links = tuple(_batch_link(services.metadata, batch, {}) for batch in found)
    return (Link(kind="table", id=f"{name}@{version}", detail=detail, links=links),)


def _batch_link(metadata: Metadata, batch: Batch, read: dict[str, str]) -> Link:
    return Link(
        kind="batch",
        id=batch.batch_id,
        detail=batch_detail(batch),
        links=batch_origins(metadata, batch, read),
    )


def batch_origins(
    metadata: Metadata, batch: Batch, read: dict[str, str] | None = None
) -> tuple[Link, ...]:
    """The file or messages that a batch was read from, or the deletion that it is.

    And for each source that its records were completed from, the last batch that they could find
    records of; those before it are that source's batches with smaller numbers.

    Args:
        metadata: Where the other sources' batches are remembered.
        batch: The batch.
        read: Ids of such batches by key, which were read before; added to.
    """
    kind, _, origin = batch.origin.partition(":")
    if batch.deletion is not None:
        return (Link(kind="deletion", id=origin, detail=_deletion_detail(batch.deletion)),)
    detail = {"sha256": batch.sha256}
    own = Link(kind="file" if kind == "file" else "messages", id=origin, detail=detail)
    read = {} if read is None else read
    return (own, *(_looked_up_link(metadata, one, read) for one in batch.lookups))


def _looked_up_link(metadata: Metadata, looked_up: LookedUp, read: dict[str, str]) -> Link:
    """The last batch of a source that records were completed from."""
    key = Batch.key_of(looked_up.source, looked_up.last_batch)
    if key not in read:
        found = metadata.read(Batch, key)
        read[key] = found.batch_id if found else looked_up.source
    detail: dict[str, object] = {
        "source": looked_up.source,
        **({"features of": looked_up.view} if looked_up.view else {}),
        "by": looked_up.on,
        "last batch": looked_up.last_batch,
        "found nothing": looked_up.missing,
    }
    return Link(kind="looked up", id=read[key], detail=detail)


def batch_detail(batch: Batch) -> dict[str, object]:
    """What a batch says of itself."""
    arrived = batch.arrived_at.isoformat(timespec="seconds")
    if batch.deletion is not None:
        return {"deleted": batch.deleted, "arrived": arrived}
    senders = {"senders": dict(batch.senders)} if batch.senders else {}
    return {
        "read": batch.read,
        "stored": batch.stored,
        "quarantined": batch.quarantined,
        "duplicates": batch.duplicates,
        "arrived": arrived,
        "declaration": batch.fingerprint[:12],
        **senders,
    }


def _deletion_detail(deletion: Deletion) -> dict[str, object]:
    at_us = deletion.at_us
    return {
        "keys": list(deletion.keys),
        "at": "" if at_us is None else (EPOCH + timedelta(microseconds=at_us)).isoformat(),
        "by": deletion.actor,
        "reason": deletion.reason,
    }


def version_detail(version: ModelVersion) -> dict[str, object]:
    """What a version says of itself."""
    return {
        "candidate": version.candidate,
        "engine": version.engine,
        "package": version.package[:12],
        "metrics": dict(version.metrics),
        "params": dict(version.params),
    }


def batches_of(metadata: Metadata, source: str, numbers: Iterable[int]) -> tuple[Link, ...]:
    """The batches of a source with those numbers, with their origins."""
    wanted = set(numbers)
    found = metadata.find(Batch, where={"source": source})
    read: dict[str, str] = {}
    return tuple(_batch_link(metadata, batch, read) for batch in found if batch.number in wanted)


def _stored_link(metadata: Metadata, pin: StoredPin) -> Link:
    """Stored features that a dataset read, with the batches that their rows contain."""
    detail = {"view": pin.view, "last batch": pin.last_batch, "at most": f"{pin.max_age} old"}
    numbers = range(1, pin.last_batch + 1)
    return Link(
        kind="table",
        id=f"{pin.table}@{pin.version}",
        detail=detail,
        links=batches_of(metadata, pin.source, numbers),
    )


def _tables_batches(metadata: Metadata, table: str, last: Mapping[str, int]) -> tuple[Link, ...]:
    source = table.removeprefix("raw/")
    return batches_of(metadata, source, range(1, last.get(source, 0) + 1))


def _feature_links(services: Services, score: Score, version: ModelVersion) -> list[Link]:
    """The views whose features were read, with the batches that hold the entity's records."""
    manifest = manifest_of(services, version)
    if manifest is None:
        return []
    values = dict(zip(manifest.features, shown_values(services, manifest, score), strict=False))
    return [_view_link(services, view, score, values) for view in views_of(manifest)]


def _view_link(services: Services, view: View, score: Score, values: Mapping[str, object]) -> Link:
    detail: dict[str, object] = {"definition": fingerprint(view)[:12]}
    if isinstance(view, OnDemandView):
        detail |= {name: score.given.get(name) for name in view.request}
        links = tuple(_view_link(services, inner, score, values) for inner in view.views)
    else:
        last = score.progress.get(view.name)
        detail["last batch"] = last
        numbers = _batches_with(services.tables, view, score, last)
        links = batches_of(services.metadata, view.source.name, numbers)
    detail |= {name: values[name] for name in view.names if name in values}
    return Link(kind="features", id=view.name, detail=detail, links=links)


def _batches_with(tables: Tables, view: FeatureView, score: Score, last: int | None) -> list[int]:
    """Numbers of the batches with records of the entity that counted for the score.

    With those of the entity's deletions, which say why others did not.
    """
    source = view.source
    if tables.version(raw_name(source)) is None:
        return []
    known_us = pl.col(source.timestamp).dt.epoch("us") + source.known_after_us
    key = str(score.given.get(source.entity.name, score.entity))
    named = pl.col(source.entity.name).cast(pl.String) == key
    wanted = named & (known_us <= score.at_us)
    if last is not None:
        wanted &= pl.col("_batch") <= last
    records = remaining_records(tables, source, last_batch=last).filter(wanted)
    numbers = set(records.select(pl.col("_batch").unique()).collect()["_batch"])
    tombstones = read_tombstones(tables, source, last_batch=last)
    if tombstones is not None:
        numbers |= set(tombstones.frame.filter(named)["_batch"])
    return sorted(numbers)


def manifest_of(services: Services, version: ModelVersion) -> Manifest | None:
    """The version's manifest; None where its package is gone or damaged."""
    if not version.package:
        return None
    try:
        return read_manifest(services.artifacts.path(version.package))
    except (NotFoundError, StateError):
        return None  # the rest of the tree still stands; replay says what is wrong with the files


def _code_link(manifest: Manifest) -> Link:
    detail: dict[str, object] = {
        "differs": bool(manifest.diff),
        "functions": {name: sha256[:12] for name, sha256 in manifest.functions.items()},
        "definitions": sorted(manifest.definitions),
        "dependencies": dict(manifest.dependencies),
    }
    return Link(kind="code", id=manifest.commit or "no commit", detail=detail)
