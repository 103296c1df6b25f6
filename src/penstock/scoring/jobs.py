"""Jobs: rows that somebody sent, scored into the scores table, exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

from penstock.deployment import load_engine
from penstock.features import parts_of, point_in_time
from penstock.plan import Catalogue
from penstock.ports import announce, compact_grown
from penstock.records import Event, Given
from penstock.registry import get_version, read_manifest, views_of
from penstock.spec import base_views

from .batch import BatchPin, pin_sources
from .batch_rows import RowScorer
from .frames import SCORE_SCHEMA, score_spine, table_of
from .payloads import payload_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from penstock.features import Parts
    from penstock.ports import Services
    from penstock.records import Manifest, ScoringJob

    Progress = Callable[[str, float], None]

__all__ = ["JobPin", "JobRow", "JobScored", "decode_rows", "job_scores", "pin_job", "score_job"]

CHUNK_ROWS = 50_000
EARLIER_US = 3_600_000_000  # clocks of two machines differ by less


class JobRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of a job.

    Attributes:
        key: The entity's key; none when features are handed in without one.
        at_us: The time wanted, in microseconds since 1970 UTC; 0 for when the job runs.
        values: The features handed in, in the manifest's order; none to look them up, which then
            holds for all rows.
        given: The keys of further entities and the request fields, by name.
    """

    key: str | int | None = None
    at_us: int = 0
    values: tuple[float | None, ...] | None = None
    given: dict[str, Given] = {}


class JobPin(msgspec.Struct, frozen=True):
    """What a job reads, so that one that goes on after a kill is the same.

    Attributes:
        now_us: The time of rows that name none, in microseconds since 1970 UTC.
        data: The raw tables; none where the rows bring their features.
    """

    now_us: int
    data: BatchPin | None = None


class JobScored(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job.

    Attributes:
        version: ``model@version`` that scored.
        rows: Rows scored.
        first_id: Id of the first prediction; ids grow in the order of the rows.
        last_id: Id of the last.
        without: How many of the rows have no prediction; their ``reason`` says why.
    """

    version: str
    rows: int
    first_id: str
    last_id: str
    without: int = 0


def decode_rows(path: Path) -> list[JobRow]:
    """The rows of a job from its artifact."""
    return msgspec.json.Decoder(JobRow).decode_lines(path.read_bytes())


def pin_job(services: Services, job: ScoringJob) -> JobPin:
    """What a job that begins now reads.

    Args:
        services: The project's ports.
        job: The job.

    Raises:
        NotReadyError: Features are to be looked up, and nothing has been ingested.
    """
    now_us = services.clock.now_us()
    if decode_rows(services.artifacts.path(job.input))[0].values is not None:
        return JobPin(now_us)
    views = base_views(views_of(_manifest(services, job)[1]))
    return JobPin(now_us, pin_sources(services.tables, {view.source.name for view in views}))


def score_job(services: Services, job: ScoringJob, pinned: JobPin, progress: Progress) -> JobScored:
    """Score the rows of a job into ``scores/<deployment>``, with its id as their ``request_id``.

    They are appended in one commit, by one process at a time, which looks first whether they are
    there: killed anywhere and run again, each row is scored exactly once.

    Args:
        services: The project's ports.
        job: The job.
        pinned: What it reads.
        progress: Told what is being done, and how much of it is.

    Raises:
        NotFoundError: The version is gone.
        StateError: The version or the rows are damaged.
    """
    folder, manifest = _manifest(services, job)
    label = f"{manifest.model}@{manifest.version}"
    found = _stored(services, job)
    if found is None:
        frame = _Job(services, job, manifest, folder, pinned).run(progress)
        progress("storing", 1.0)
        table, app = table_of(job.deployment), f"jobs/{job.deployment}"
        with services.locks.hold(app) as token:
            found = _stored(services, job)
            if found is None:
                services.tables.widen(table, SCORE_SCHEMA)
                before = services.tables.version(table)
                services.tables.append(table, frame, app=app, number=token)
                compact_grown(services.tables, table, since=before)
                found = _stored(services, job) or (0, "", "", 0)
    rows, first_id, last_id, without = found
    _announce(services, job, label)
    return JobScored(version=label, rows=rows, first_id=first_id, last_id=last_id, without=without)


def job_scores(
    services: Services, job: ScoringJob, scored: JobScored, *, after: str, limit: int
) -> pl.DataFrame:
    """A page of a job's scores, in the order of its rows, as rows of the scores table.

    Args:
        services: The ports; uses tables.
        job: The job.
        scored: What became of it.
        after: Id of the last prediction of the page before; empty for the first page.
        limit: At most so many.
    """
    identifier = pl.col("prediction_id")
    within = identifier.is_between(pl.lit(scored.first_id), pl.lit(scored.last_id))
    mine = within & (identifier > after) & (pl.col("request_id") == job.job_id)
    rows = services.tables.scan(table_of(job.deployment)).filter(mine, route="batch")
    return rows.sort("prediction_id").head(limit).collect()


class _Job:
    """One run of a job."""

    def __init__(
        self, services: Services, job: ScoringJob, manifest: Manifest, folder: Path, pinned: JobPin
    ) -> None:
        self._services = services
        self._job = job
        self._manifest = manifest
        self._pinned = pinned
        engine = load_engine(folder, manifest)
        catalogue = Catalogue.load(services.metadata)
        declared = catalogue.deployment(job.deployment)
        self._scorer = RowScorer(
            services,
            job.deployment,
            manifest,
            engine,
            request_id=job.job_id,
            payload=payload_of(services, declared, catalogue, [manifest]),
        )

    def run(self, progress: Progress) -> pl.DataFrame:
        """The scores, in the order of the rows."""
        rows = decode_rows(self._services.artifacts.path(self._job.input))
        start_us = self._services.clock.now_us()
        scored: list[pl.DataFrame] = []
        with parts_of(self._services, f"job/{self._job.key}") as parts:
            for start in range(0, len(rows), CHUNK_ROWS):
                progress("scoring", start / len(rows))
                chunk = rows[start : start + CHUNK_ROWS]
                spine = self._spine(chunk)
                handed = self._pinned.data is None
                features = self._handed(chunk) if handed else self._looked_up(spine, parts)
                found = self._scorer.score(
                    spine,
                    features,
                    start_us=start_us,
                    progress=self._views(),
                    origin="request" if handed else "batch",
                )
                scored.append(found.with_columns(pl.col("entity").fill_null("")))
        return pl.concat(scored)

    def _handed(self, rows: Sequence[JobRow]) -> pl.DataFrame:
        values = np.array([row.values for row in rows], dtype=np.float64)  # None becomes NaN
        frame = pl.DataFrame(values, schema=list(self._manifest.features))
        return frame.with_columns(pl.all().fill_nan(None))

    def _looked_up(self, spine: pl.DataFrame, parts: Parts) -> pl.DataFrame:
        services, data = self._services, self._pinned.data
        return point_in_time(
            services.tables,
            views_of(self._manifest),
            spine,
            versions=data.versions if data else {},
            batches=self._views(),
            memory_bytes=services.features_memory_bytes,
            parts=parts,
        )

    def _views(self) -> Mapping[str, int]:
        """The last raw batch in the features, by view; none where they were handed in."""
        if self._pinned.data is None:
            return {}
        batches = self._pinned.data.batches
        views = base_views(views_of(self._manifest))
        return {view.name: batches[view.source.name] for view in views}

    def _spine(self, rows: Sequence[JobRow]) -> pl.DataFrame:
        now_us = self._pinned.now_us
        return score_spine(
            self._manifest,
            ["" if row.key is None else str(row.key) for row in rows],
            [row.at_us or now_us for row in rows],
            [row.given for row in rows],
        )


def _manifest(services: Services, job: ScoringJob) -> tuple[Path, Manifest]:
    model = Catalogue.load(services.metadata).deployment(job.deployment).model.name
    record = get_version(services.metadata, model, job.version)
    folder = services.artifacts.path(record.package)
    return folder, read_manifest(folder)


def _stored(services: Services, job: ScoringJob) -> tuple[int, str, str, int] | None:
    """How many scores of the job are in the table, its first id and its last; none for none.

    The last number is how many of them have no prediction.
    """
    table = table_of(job.deployment)
    if services.tables.version(table) is None:
        return None
    since_us = int(job.created_at.timestamp() * 1e6) - EARLIER_US
    identifier = pl.col("prediction_id")
    without = pl.col("prediction").is_nan().sum().alias("without")
    rows, first, last, missing = (
        services.tables.scan(table)
        .filter(
            pl.col("scored_at_us") >= since_us,
            pl.col("request_id") == job.job_id,
            pl.col("route") == "batch",
        )
        .select(pl.len(), identifier.min().alias("first"), identifier.max().alias("last"), without)
        .collect()
        .row(0)
    )
    return (rows, first, last, missing) if rows else None


def _announce(services: Services, job: ScoringJob, label: str) -> None:
    announce(
        services.log,
        Event(
            event_id=f"scores.ready:{job.deployment}:job:{job.job_id}",
            kind="scores.ready",
            subject=job.deployment,
            ids={"job_id": job.job_id, "version": label},
            at_us=services.clock.now_us(),
        ),
    )
