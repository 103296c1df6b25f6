"""Batch scoring: every new row of the spine, into the scores table, exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from penstock.deployment import champion_behind, changes_of, load_engine
from penstock.errors import NotReadyError
from penstock.features import parts_of, point_in_time
from penstock.ingest import raw_name, remaining_records
from penstock.plan import Catalogue
from penstock.ports import announce, compact_grown
from penstock.records import Event
from penstock.registry import get_version, read_manifest, views_of
from penstock.spec import base_views

from .batch_rows import RowScorer
from .frames import SCORE_SCHEMA, table_of
from .payloads import payload_of
from .precomputed import keep_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from penstock.deployment import Engine
    from penstock.features import Parts, UnknownEntities
    from penstock.ports import Services, Tables
    from penstock.records import Manifest
    from penstock.spec import Deployment, FeatureView, Source

    Progress = Callable[[str, float], None]

__all__ = ["BatchPin", "BatchScored", "pin_batch", "pin_sources", "score_batch"]

CHUNK_ROWS = 200_000


class BatchScored(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch run did.

    Attributes:
        deployment: Name of the deployment.
        version: ``model@version`` that scored; empty when there was nothing to score.
        number: Last raw batch of the spine that has been scored.
        rows: Rows scored by this run.
        unknown: How many of them are of an entity that a view's source has no records of, by view.
        without: How many of them have no prediction; their ``reason`` says why.
        ready: Scores that were put into the online store, where the deployment answers with them.
    """

    deployment: str
    version: str
    number: int
    rows: int
    unknown: Mapping[str, int] = {}
    without: int = 0
    ready: int = 0


class BatchPin(msgspec.Struct, frozen=True):
    """The data of a batch run.

    Attributes:
        versions: Version of each raw table, by its name.
        batches: The last raw batch in it, by the name of the source.
    """

    versions: Mapping[str, int]
    batches: Mapping[str, int]


def pin_batch(services: Services, deployment: str) -> BatchPin:
    """What a batch run that begins now reads.

    Args:
        services: The project's ports.
        deployment: Name of the deployment.

    Raises:
        NotFoundError: There is no such deployment.
        NotReadyError: Nothing is deployed, or nothing has been ingested.
    """
    declared, manifest = _served(services, deployment)
    base = base_views(views_of(manifest[1]))
    return pin_sources(services.tables, _sources(base, declared.model.dataset.spine))


def score_batch(
    services: Services,
    deployment: str,
    *,
    pinned: BatchPin | None = None,
    progress: Progress | None = None,
) -> BatchScored:
    """Score the spine's rows that have arrived since the last run, with the champion.

    Every table is pinned first. The rows are appended to ``scores/<deployment>`` in one commit
    whose number is the last raw batch of the spine: killed anywhere and run again, each row is
    scored exactly once, and parts of the features that were computed already are not computed
    again, unless more was ingested meanwhile. The first run scores every row there is. Where the
    deployment answers with batch scores, the newest of each entity is kept ready after that.

    Args:
        services: The project's ports.
        deployment: Name of the deployment.
        pinned: What to read, as ``pin_batch`` gave it; the newest of sources that it lacks.
        progress: Told what is being done, and how much of it is.

    Raises:
        NotFoundError: There is no such deployment.
        NotReadyError: Nothing is deployed, or nothing has been ingested.
    """
    declared, (folder, manifest) = _served(services, deployment)
    app = f"batch/{deployment}"
    with services.locks.hold(app), parts_of(services, f"score/{deployment}") as parts:
        job = _Job(services, declared, manifest, load_engine(folder, manifest), parts)
        done = services.tables.applied(table_of(deployment), app)
        scored = job.run(done, app, pinned, progress or _quiet)
    if scored.number:
        _announce(services, scored)
    return scored


def _served(services: Services, deployment: str) -> tuple[Deployment, tuple[Path, Manifest]]:
    """A deployment, and the package of its champion with the manifest."""
    declared = Catalogue.load(services.metadata).deployment(deployment)
    champion = champion_behind(services, declared, changes_of(services.metadata, deployment))
    if not champion:
        raise NotReadyError(
            f"Nothing has been deployed on {deployment!r} yet. Run 'penstock train "
            f"{declared.model.name}', then 'penstock deploy {deployment}'.",
            deployment=deployment,
        )
    record = get_version(services.metadata, declared.model.name, champion)
    folder = services.artifacts.path(record.package)
    return declared, (folder, read_manifest(folder))


class _Job:
    """One run of one deployment."""

    def __init__(
        self,
        services: Services,
        declared: Deployment,
        manifest: Manifest,
        engine: Engine,
        parts: Parts,
    ) -> None:
        self._services = services
        self._parts = parts
        self._declared = declared
        self._manifest = manifest
        self._engine = engine
        self._views = views_of(manifest)
        self._base = base_views(self._views)
        self._given = manifest.given
        self._spine = declared.model.dataset.spine
        self._unknown: dict[str, int] = {}

    def run(self, done: int, app: str, given: BatchPin | None, progress: Progress) -> BatchScored:
        start_us = self._services.clock.now_us()
        sources = _sources(self._base, self._spine)
        pinned = pin_sources(self._services.tables, sources, given)
        number = pinned.batches[self._spine.name]
        name = self._declared.name
        if number <= done:
            # A run that was killed may have stored its scores and not kept them ready.
            nothing = pl.DataFrame(schema=SCORE_SCHEMA)
            ready = keep_ready(self._services, self._declared, nothing, since=done)
            return BatchScored(deployment=name, version="", number=done, rows=0, ready=ready)
        columns = [self._manifest.entity, *self._given]
        spine = _new_rows(self._services.tables, self._spine, columns, pinned, done)
        scored = [
            self._score(
                spine[start : start + CHUNK_ROWS],
                pinned,
                start_us,
                _between(progress, start / len(spine), min(1.0, (start + CHUNK_ROWS) / len(spine))),
            )
            for start in range(0, len(spine), CHUNK_ROWS)
        ]
        frame = pl.concat(scored) if scored else pl.DataFrame(schema=SCORE_SCHEMA)
        progress("storing", 1.0)
        table = table_of(name)
        self._services.tables.widen(table, SCORE_SCHEMA)
        before = self._services.tables.version(table)
        written = self._services.tables.append(table, frame, app=app, number=number)
        compact_grown(self._services.tables, table, since=before)
        label = f"{self._manifest.model}@{self._manifest.version}"
        rows = len(frame) if written else 0
        ready = keep_ready(self._services, self._declared, frame, since=done)
        return BatchScored(
            deployment=name,
            version=label,
            number=number,
            rows=rows,
            unknown=self._unknown,
            without=int(frame["prediction"].is_nan().sum()) if written else 0,
            ready=ready,
        )

    def _note(self, unknown: UnknownEntities) -> None:
        self._unknown[unknown.view] = self._unknown.get(unknown.view, 0) + unknown.rows

    def _score(
        self, spine: pl.DataFrame, pinned: BatchPin, start_us: int, progress: Progress
    ) -> pl.DataFrame:
        views = {view.name: pinned.batches[view.source.name] for view in self._base}
        features = point_in_time(
            self._services.tables,
            self._views,
            spine,
            versions=pinned.versions,
            batches=views,
            memory_bytes=self._services.features_memory_bytes,
            parts=self._parts,
            notice=self._note,
            progress=progress,
        )
        catalogue = Catalogue.load(self._services.metadata)
        scorer = RowScorer(
            self._services,
            self._declared.name,
            self._manifest,
            self._engine,
            payload=payload_of(self._services, self._declared, catalogue, [self._manifest]),
        )
        found = scorer.score(spine, features, start_us=start_us, progress=views, origin="batch")
        progress("scoring", 1.0)
        return found


def _between(progress: Progress, start: float, end: float) -> Progress:
    """Tells the share of a stretch as that of the whole."""
    return lambda what, share: progress(what, start + share * (end - start))


def _sources(views: Sequence[FeatureView], spine: Source) -> set[str]:
    return {spine.name, *(view.source.name for view in views)}


def pin_sources(
    tables: Tables, sources: Collection[str], given: BatchPin | None = None
) -> BatchPin:
    """The version of each source's raw table, and its last batch; new where not given.

    Args:
        tables: The tables.
        sources: Names of the sources.
        given: What was pinned already.

    Raises:
        NotReadyError: Nothing of a source has been ingested.
    """
    versions: dict[str, int] = {}
    batches: dict[str, int] = {}
    for source in sorted(sources):
        name = f"raw/{source}"
        if given is not None and source in given.batches:
            batches[source], versions[name] = given.batches[source], given.versions[name]
            continue
        # The number first, the version after it: so the version holds every batch up to it.
        batches[source] = tables.applied(name, name)
        version = tables.version(name)
        if version is None:
            raise NotReadyError(
                f"Nothing of {source!r} has been ingested yet. Run 'penstock ingest {source}'.",
                source=source,
            )
        versions[name] = version
    return BatchPin(versions, batches)


def _new_rows(
    tables: Tables, source: Source, columns: Sequence[str], pinned: BatchPin, done: int
) -> pl.DataFrame:
    """Columns and the known time of each record after a batch, oldest first."""
    last = pinned.batches[source.name]
    known = pl.col(source.timestamp) + pl.duration(microseconds=source.known_after_us)
    return (
        remaining_records(
            tables, source, version=pinned.versions[raw_name(source)], last_batch=last
        )
        .filter((pl.col("_batch") > done) & (pl.col("_batch") <= last))
        .select(*columns, known.alias("at"))
        .sort("at", columns[0])
        .collect()
    )


def _announce(services: Services, scored: BatchScored) -> None:
    """Announce the last rows that were scored; the log knows whether that has been done.

    Where this run scored none, a run that was killed may not have come to announce its own.
    """
    version = scored.version or _last_version(services.tables, scored.deployment)
    if not version:
        return  # they are so old that they have been removed
    announce(
        services.log,
        Event(
            event_id=f"scores.ready:{scored.deployment}:{scored.number}",
            kind="scores.ready",
            subject=scored.deployment,
            ids={"number": str(scored.number), "version": version},
            at_us=services.clock.now_us(),
        ),
    )


def _last_version(tables: Tables, deployment: str) -> str:
    """``model@version`` of the batch rows that were stored last; empty where none is left."""
    batch = tables.scan(table_of(deployment)).filter(pl.col("route") == "batch")
    newest = batch.select(pl.struct("model", "version").sort_by("scored_at_us").last()).collect()
    found = newest.item()
    return f"{found['model']}@{found['version']}" if found else ""


def _quiet(what: str, share: float) -> None:
    """Nobody wants to know."""
