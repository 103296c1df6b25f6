"""Routes of what happened: events, runs, incidents, reports, audit, lineage, replay."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from penstock.control import explain, happened_after, lineage, replay, retry, shown_run
from penstock.errors import NotFoundError
from penstock.records import CheckOrigin, EventKind, FeatureReport, Incident, MonitorReport

from .api_answers import answer
from .api_guard import Admin, Reader  # noqa: TC001 - FastAPI reads the annotations

__all__ = ["watch_routes"]

GREATEST = (1 << 63) - 1
"""The last entry there can be: the number of an entry is a whole number of 64 bits."""

ACCEPTED = 202
Limit = Annotated[int, Query(ge=1, le=1_000)]
RunState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


def watch_routes() -> APIRouter:
    """The routes of what happened."""
    router = APIRouter(prefix="/v1")
    get = router.get
    get("/events", tags=["events"])(list_events)
    get("/runs", tags=["runs"])(list_runs)
    get("/runs/{run_id}", tags=["runs"])(show_run)
    router.post("/runs/{run_id}/retry", tags=["runs"], status_code=ACCEPTED)(retry_run)
    get("/incidents", tags=["monitoring"])(list_incidents)
    get("/reports", tags=["monitoring"])(list_reports)
    get("/feature-reports", tags=["monitoring"])(list_feature_reports)
    get("/audit", tags=["audit"])(list_audit)
    get("/lineage/{identifier:path}", tags=["origins"])(show_lineage)
    get("/explanations/{prediction_id}", tags=["origins"])(show_explanation)
    get("/replay/{prediction_id}", tags=["origins"])(show_replay)
    return router


def list_events(
    acting: Reader,
    after: Annotated[int, Query(ge=0, le=GREATEST)] = 0,
    kind: EventKind | None = None,
    limit: Limit = 50,
) -> Response:
    """What happened, oldest first, as identifiers; ask again with ``next`` as ``after``.

    Nothing newer is there where ``next`` is ``end``. There may be more where a page has none: of a
    kind so many are looked for at a time. Who wants new ones alone begins after ``end``.
    """
    return answer(happened_after(acting.log, after=after, limit=limit, kind=kind or ""))


def list_runs(
    acting: Reader, pipeline: str = "", state: RunState | None = None, limit: Limit = 50
) -> Response:
    """Durable runs, newest first, without their steps."""
    found = acting.workflows.runs(pipeline=pipeline, state=state, limit=limit)
    return answer([shown_run(acting, run) for run in found])


def show_run(run_id: str, acting: Reader) -> Response:
    """A run with its steps."""
    run = acting.workflows.get(run_id)
    if run is None:
        raise NotFoundError.of("run", run_id, [run.run_id for run in acting.workflows.runs()])
    return answer(shown_run(acting, run))


def retry_run(run_id: str, acting: Admin) -> Response:
    """Let a failed or cancelled run go on from its last finished step."""
    retry(acting, run_id)
    return answer({"run_id": run_id}, ACCEPTED)


def list_incidents(
    acting: Reader, state: Literal["open", "closed"] | None = None, limit: Limit = 50
) -> Response:
    """Incidents and what was done about them, newest first."""
    where = {"state": state} if state else {}
    return answer(acting.metadata.find(Incident, where=where, newest_first=True, limit=limit))


def list_reports(acting: Reader, monitor: str = "", limit: Limit = 50) -> Response:
    """Looks of the monitors, newest first."""
    where = {"monitor": monitor} if monitor else {}
    return answer(acting.metadata.find(MonitorReport, where=where, newest_first=True, limit=limit))


def list_feature_reports(
    acting: Reader, origin: CheckOrigin | None = None, subject: str = "", limit: Limit = 50
) -> Response:
    """Comparisons of features with the raw tables, newest first.

    Of online features by view, of those that scores saw by deployment.
    """
    given = {"origin": origin or "", "subject": subject}
    where = {name: value for name, value in given.items() if value}
    return answer(acting.metadata.find(FeatureReport, where=where, newest_first=True, limit=limit))


def list_audit(
    acting: Reader, after: Annotated[int, Query(ge=0, le=GREATEST)] = 0, limit: Limit = 50
) -> Response:
    """Who changed what, oldest first; ask again with the last sequence number as ``after``."""
    return answer(acting.metadata.audit(after=after, limit=limit))


def show_lineage(identifier: str, acting: Reader) -> Response:
    """Where a prediction, model version, dataset, batch, run or file comes from and leads to."""
    return answer(lineage(acting, identifier))


def show_explanation(prediction_id: str, acting: Reader) -> Response:
    """What each feature added to a prediction; for who may read all of its features."""
    return answer(explain(acting, prediction_id, in_worker=True))


def show_replay(prediction_id: str, acting: Reader) -> Response:
    """Compute a prediction again and say what differs."""
    return answer(replay(acting, prediction_id))
