"""Routes of data: sources, events in, observations in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictInt, StrictStr

from penstock.errors import InputError
from penstock.ingest import accept_events, delete_records
from penstock.monitoring import observe
from penstock.plan import Catalogue
from penstock.records import Batch, Deletion, Observation
from penstock.spec import Source, to_document

from .api_answers import answer, failure
from .api_guard import Admin, Reader, Writer  # noqa: TC001 - FastAPI reads the annotations

if TYPE_CHECKING:
    from penstock.ports import Metadata, Services

__all__ = ["Deleted", "Observations", "Observed", "data_routes"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NEWEST = 20
ACCEPTED, MALFORMED, NO_SUCH_TYPE = 202, 400, 415
COUNTS = ("read", "stored", "quarantined", "duplicates", "deleted", "found_nothing")


class Observed(BaseModel):
    """The true outcome of one prediction."""

    model_config = ConfigDict(extra="forbid")
    prediction_id: str = Field(min_length=1)
    value: float = Field(description="0 or 1 for a classification, else the number")
    observed_at: AwareDatetime | None = Field(None, description="Now when left out")
    measures: dict[str, float] = Field({}, description="What else came of it, by name")


class Deleted(BaseModel):
    """Records that are to count no more."""

    model_config = ConfigDict(extra="forbid")
    keys: list[StrictStr | StrictInt] = Field(
        min_length=1, max_length=10_000, description="The entities"
    )
    at: AwareDatetime | None = Field(
        None, description="Only their records with this timestamp; all when left out"
    )
    id: str = Field("", description="A name of your own: under the same one it is done once")
    reason: str = Field("", description="Why; kept with the deletion")


class Observations(BaseModel):
    """True outcomes of one deployment's predictions."""

    model_config = ConfigDict(extra="forbid")
    deployment: str
    observations: list[Observed] = Field(min_length=1, max_length=100_000)


def data_routes() -> APIRouter:
    """The routes of data."""
    router = APIRouter(prefix="/v1", tags=["data"])
    router.get("/sources")(list_sources)
    router.get("/sources/{name}")(show_source)
    events = {"requestBody": _events_body()}
    router.post("/sources/{name}/events", status_code=ACCEPTED, openapi_extra=events)(take_events)
    router.post("/sources/{name}/deletions")(take_deletion)
    router.post("/observations", status_code=ACCEPTED)(take_observations)
    return router


def list_sources(acting: Reader) -> Response:
    """Every source with its counts."""
    sources = Catalogue.load(acting.metadata).all(Source)
    return answer([_overview(acting.metadata, source) for source in sources])


def show_source(name: str, acting: Reader) -> Response:
    """A source with its newest batches."""
    source = Catalogue.load(acting.metadata).source(name)
    shown = _overview(acting.metadata, source) | {"declaration": to_document(source)}
    batches = _batches(acting.metadata, name, limit=NEWEST)
    return answer(shown | {"batches": batches})


async def take_events(name: str, request: Request, acting: Writer) -> Response:
    """Take in events: a JSON object, a JSON array, or NDJSON; durable when answered.

    Whether they keep the source's contract shows later: those that do not end in quarantine.
    """
    body = await request.body()
    kind = request.headers.get("content-type", "")
    return await run_in_threadpool(_take, acting, name, body, kind)


def take_deletion(name: str, body: Deleted, acting: Admin) -> Response:
    """Delete records of entities; nothing computes with them once it is answered.

    Online features follow with the next turn of ``penstock stream``.
    """
    source = Catalogue.load(acting.metadata).source(name)
    deletion = Deletion(
        delete_id=body.id or acting.ids.new(),
        keys=tuple(dict.fromkeys(body.keys)),
        at_us=None if body.at is None else (body.at - EPOCH) // timedelta(microseconds=1),
        reason=body.reason,
    )
    batch = delete_records(acting, source, deletion)
    done = batch.deletion.delete_id if batch.deletion else ""
    return answer({"batch_id": batch.batch_id, "delete_id": done, "deleted": batch.deleted})


def take_observations(body: Observations, acting: Writer) -> Response:
    """Take in true outcomes; durable when answered."""
    now_us = acting.clock.now_us()
    count = observe(acting, body.deployment, [_observation(o, now_us) for o in body.observations])
    return answer({"count": count}, ACCEPTED)


def _take(services: Services, name: str, body: bytes, kind: str) -> Response:
    source = Catalogue.load(services.metadata).source(name)
    try:
        accepted = accept_events(services, source, body, kind)
    except InputError as error:
        return failure(error, NO_SUCH_TYPE if "content_type" in error.facts else MALFORMED)
    return answer({"count": accepted.count, "offset": accepted.last_offset}, ACCEPTED)


def _observation(observed: Observed, now_us: int) -> Observation:
    at = observed.observed_at
    return Observation(
        prediction_id=observed.prediction_id,
        value=observed.value,
        observed_at_us=now_us if at is None else round(at.timestamp() * 1e6),
        measures=observed.measures,
    )


def _batches(metadata: Metadata, source: str, limit: int | None = None) -> list[Batch]:
    return metadata.find(Batch, where={"source": source}, newest_first=True, limit=limit)


def _overview(metadata: Metadata, source: Source) -> dict[str, object]:
    batches = _batches(metadata, source.name)
    counts = {name: sum(getattr(batch, name) for batch in batches) for name in COUNTS}
    return {
        "name": source.name,
        "topic": source.topic,
        "batches": len(batches),
        **counts,
        "last_arrival": batches[0].arrived_at if batches else None,
    }


def _events_body() -> dict[str, object]:
    record = {"type": "object", "description": "One record of the source"}
    either = {"oneOf": [record, {"type": "array", "items": record}]}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": either},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
