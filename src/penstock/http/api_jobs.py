"""Routes of scores that are asked for now and fetched later, and of single scores by their id."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from penstock.control import (
    cancel_job,
    champion_of,
    find_job,
    job_page,
    job_state,
    jobs_of,
    shown_score,
    submit_job,
)
from penstock.errors import InputError
from penstock.registry import get_version, read_manifest
from penstock.runtime import Targets
from penstock.scoring import JobRow, scores_in

from .api_answers import answer
from .api_guard import Reader, Writer  # noqa: TC001 - FastAPI reads the annotations
from .serve_schema import BEFORE_EPOCH_US, KEYS, ZONED, Schema, misfit, moment_us

if TYPE_CHECKING:
    from penstock.records import Manifest, Score, ScoringJob
    from penstock.runtime import LocalServices

    from .serve_schema import Row

__all__ = ["job_routes"]

ACCEPTED = 202
MOST_ROWS = 100_000
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Limit = Annotated[int, Query(ge=1, le=1_000)]
Page = Annotated[int, Query(ge=1, le=10_000)]


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """A job as a client sends it.

    Attributes:
        rows: As ``/predict`` of the serving process takes them.
        entities: Keys of entities, in place of rows.
        at: The time wanted of them; when the job runs when left out.
        id: A name of the client's own: under the same one it is done once.
        webhook: Whom to tell when it has ended.
    """

    rows: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    entities: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    id: str = ""
    webhook: str = ""


ASKED = msgspec.json.Decoder(Asked)


def job_routes() -> APIRouter:
    """The routes of jobs and scores."""
    router = APIRouter(prefix="/v1")
    jobs = "/deployments/{name}/jobs"
    body = {"requestBody": _body()}
    router.post(jobs, tags=["jobs"], status_code=ACCEPTED, openapi_extra=body)(ask)
    router.get(jobs, tags=["jobs"])(list_jobs)
    router.get(jobs + "/{job_id}", tags=["jobs"])(show_job)
    router.delete(jobs + "/{job_id}", tags=["jobs"], status_code=ACCEPTED)(end_job)
    router.get(jobs + "/{job_id}/scores", tags=["jobs"])(list_scores)
    router.get("/scores/{prediction_id}", tags=["scores"])(show_score)
    return router


async def ask(name: str, request: Request, acting: Writer) -> Response:
    """Ask for scores of rows or entities, and fetch them later; a worker makes them.

    They are of the version that is the champion now. Durable when answered.
    """
    body = await request.body()
    return await run_in_threadpool(_ask, acting, name, body)


def list_jobs(name: str, acting: Reader, limit: Limit = 50) -> Response:
    """Jobs of a deployment and where they stand, the greatest id first."""
    found = jobs_of(acting, name, limit=limit)
    return answer([job_state(acting, job) for job in found])


def show_job(name: str, job_id: str, acting: Reader) -> Response:
    """Where a job stands: state, progress, what came of the webhook."""
    return answer(job_state(acting, find_job(acting, name, job_id)))


def end_job(name: str, job_id: str, acting: Writer) -> Response:
    """End a job before its next step; one that has ended stays as it is."""
    job = find_job(acting, name, job_id)
    cancel_job(acting, job)
    return answer(job_state(acting, job), ACCEPTED)


def list_scores(
    name: str, job_id: str, acting: Reader, after: str = "", limit: Page = 1_000
) -> Response:
    """A page of a job's scores, in the order of its rows; ask again with ``next`` as ``after``."""
    job = find_job(acting, name, job_id)
    scores = scores_in(job_page(acting, job, after=after, limit=limit))
    schema = Schema(_manifest(acting, champion_of(acting, name)[0], job.version))
    told = [_told(schema, score) for score in scores]
    more = scores[-1].prediction_id if len(scores) == limit else None
    return answer({"job_id": job.job_id, "scores": told, "next": more})


def _told(schema: Schema, score: Score) -> dict[str, object]:
    """A score of a job; ``prediction`` is null where the version has none for the row."""
    told: dict[str, object] = {"entity": score.entity}
    told |= msgspec.to_builtins(schema.answer(score))
    if math.isnan(score.prediction):
        told["prediction"] = None
    return told


def show_score(prediction_id: str, acting: Reader) -> Response:
    """A score by its id, online or of a batch, from the moment it was answered."""
    return answer(shown_score(acting, prediction_id))


def _ask(services: LocalServices, name: str, body: bytes) -> Response:
    model, version = champion_of(services, name)
    manifest = _manifest(services, model, version)
    asked = _decode(body)
    if asked.id and not ID.fullmatch(asked.id):
        raise InputError(
            f"'id' is {asked.id[:80]!r}. Give up to 64 letters, digits, '.', '_' and '-'; or none."
        )
    if asked.webhook:
        Targets(services.settings.webhook_hosts).check(asked.webhook)
    rows = _rows(manifest, asked)
    job = submit_job(services, name, version, rows, job_id=asked.id, webhook=asked.webhook)
    return _accepted(job)


def _accepted(job: ScoringJob) -> Response:
    where = f"/v1/deployments/{job.deployment}/jobs/{job.job_id}"
    told = {"job_id": job.job_id, "rows": job.rows, "status": where, "scores": f"{where}/scores"}
    response = answer(told, ACCEPTED)
    response.headers["Location"] = where
    return response


def _decode(body: bytes) -> Asked:
    try:
        return ASKED.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        zone = f" {ZONED}" if "datetime" in str(error) else ""
        raise InputError(
            f'The body is no job: {error}.{zone} Send {{"entities": [...]}} or {{"rows": [...]}}, '
            "and 'id' and 'webhook' where you want them."
        ) from None


def _rows(manifest: Manifest, asked: Asked) -> list[JobRow]:
    """The rows that a job asks for, checked as those of a prediction are."""
    given, entities = asked.rows, asked.entities
    if isinstance(given, msgspec.Raw) == isinstance(entities, msgspec.Raw):
        raise InputError("Send either 'rows' or 'entities'.")
    if isinstance(entities, msgspec.Raw):
        at_us = 0 if asked.at is None else moment_us(asked.at) or BEFORE_EPOCH_US
        return [JobRow(key=key, at_us=at_us) for key in _keys(manifest, entities)]
    if asked.at is not None:
        raise InputError("'at' goes with 'entities'; give each of the 'rows' its own.")
    body = b'{"rows":%b}' % (bytes(given) if isinstance(given, msgspec.Raw) else b"[]")
    found, _ = Schema(manifest, most_rows=MOST_ROWS).rows_of(body)
    if len({row.values is None for row in found}) > 1:
        raise InputError("Some rows bring their features and some do not. Send two jobs.")
    return [_job_row(row) for row in found]


def _keys(manifest: Manifest, given: msgspec.Raw) -> list[str | int]:
    """The keys of a job that names entities; what is wrong with them is said where it was sent."""
    if manifest.given:
        raise InputError(
            f"The model takes more than keys of {manifest.entity!r}: "
            f"{', '.join(manifest.given)}. Send 'rows'."
        )
    key: Any = KEYS[manifest.keys[manifest.entity]]
    few = msgspec.Meta(min_length=1, max_length=MOST_ROWS)
    keys = msgspec.defstruct("Keys", [("entities", Annotated[list[key], few])])
    try:
        found: Any = msgspec.json.decode(b'{"entities":%b}' % bytes(given), type=keys)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise misfit(error) from None
    return list(found.entities)


def _job_row(row: Row) -> JobRow:
    return JobRow(key=row.key, at_us=row.at_us, values=row.values, given=dict(row.given))


def _manifest(services: LocalServices, model: str, version: int) -> Manifest:
    record = get_version(services.metadata, model, version)
    return read_manifest(services.artifacts.path(record.package))


def _body() -> dict[str, object]:
    text: dict[str, object] = {"type": "string"}
    row = {"type": "object", "description": "As /predict of the serving process takes it"}
    properties = {
        "rows": {"type": "array", "items": row, "minItems": 1, "maxItems": MOST_ROWS},
        "entities": {
            "type": "array",
            "items": {"type": ["string", "integer"]},
            "minItems": 1,
            "maxItems": MOST_ROWS,
            "description": "Keys, in place of rows",
        },
        "at": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "The time wanted of the entities; when the job runs when left out",
        },
        "id": {**text, "description": "Under the same one it is done once"},
        "webhook": {**text, "format": "uri", "description": "Told when the job has ended"},
    }
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"required": True, "content": {"application/json": {"schema": schema}}}
