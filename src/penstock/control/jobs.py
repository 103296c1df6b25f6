"""Scoring jobs: taken in, followed, paged, and told to whoever wants to know."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.deployment import champion_behind, changes_of
from penstock.errors import ConflictError, NotFoundError, NotReadyError
from penstock.plan import Catalogue
from penstock.ports import Audit, Put
from penstock.records import Delivery, RunProgress, ScoringJob
from penstock.scoring import JobScored, job_scores

from .pipelines import job_run, submit

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from penstock.ports import RunInfo, Services
    from penstock.scoring import JobRow

__all__ = [
    "BACK_OFF", "JobState", "cancel_job", "champion_of", "find_job", "job_page", "job_state",
    "jobs_of", "settle_jobs", "submit_job",
]  # fmt: skip

ENDED = frozenset({"succeeded", "failed", "cancelled"})
BACK_OFF = tuple(timedelta(seconds=s) for s in (5, 60, 300, 1_800, 7_200, 18_000, 36_000, 36_000))
"""Waits after each attempt to deliver a message; after the last it has failed."""


class JobState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a job stands.

    Attributes:
        job_id: The job.
        deployment: Its deployment.
        run_id: The run that scores it.
        state: ``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``.
        rows: How many rows it has.
        share: Share of the work that is done, from 0 to 1.
        doing: What is being done; empty when nothing is.
        version: ``model@version`` that scores.
        error: Why it failed.
        asked_by: Who asked.
        created_at: When.
        ended_at: When it ended.
        webhook: State of the message to the webhook; empty where there is none.
        scored: What there is to fetch, once it has succeeded.
    """

    job_id: str
    deployment: str
    run_id: str
    state: str
    rows: int
    share: float
    doing: str
    version: str
    error: str
    asked_by: str
    created_at: datetime
    ended_at: datetime | None
    webhook: str
    scored: JobScored | None


def submit_job(  # noqa: PLR0913 - what a client says of a job
    services: Services,
    deployment: str,
    version: int,
    rows: Sequence[JobRow],
    *,
    job_id: str = "",
    webhook: str = "",
) -> ScoringJob:
    """Take in a job; a worker scores it. Durable when this returns, and audited.

    Args:
        services: The ports.
        deployment: Name of the deployment.
        version: Number of the version that scores.
        rows: Its rows; at least one.
        job_id: The client's id: asked for again with the same one, it is the same job.
        webhook: Whom to tell when it has ended.

    Returns:
        The job, which may have been asked for before.

    Raises:
        ConflictError: There is another job of that id.
    """
    draft = services.scratch / f"job-{services.ids.new()}.jsonl"
    try:
        draft.write_bytes(msgspec.json.Encoder().encode_lines(rows))
        reference = services.artifacts.put(draft)
    finally:
        draft.unlink(missing_ok=True)
    job = ScoringJob(
        job_id=job_id or services.ids.new(),
        deployment=deployment,
        version=version,
        rows=len(rows),
        input=reference,
        asked_by=services.actor,
        created_at=services.clock.now(),
        webhook=webhook,
    )
    known = services.metadata.read(ScoringJob, job.key)
    if known is None:
        asked = {"rows": job.rows, "version": job.version, "webhook": webhook}
        audit = Audit(
            actor=services.actor, action="score job", subject=f"run/{job.run_id}", difference=asked
        )
        services.metadata.write(Put(job, expected=None), audit=audit)
    else:
        if (known.input, known.webhook) != (job.input, job.webhook):
            raise ConflictError(
                f"There is another job {job_id!r} of {deployment!r}, with other rows or another "
                "webhook. Give this one an id of its own, or none.",
                job_id=job_id,
            )
        job = known
    # Also where it is known: whoever was killed between the two is made up for.
    submit(services, job_run(job))
    return job


def champion_of(services: Services, deployment: str) -> tuple[str, int]:
    """The model of a deployment and the number of its champion; of a pinned one the version.

    Raises:
        NotFoundError: There is no such deployment.
        NotReadyError: Nothing is deployed.
    """
    declared = Catalogue.load(services.metadata).deployment(deployment)
    model = declared.model.name
    number = champion_behind(services, declared, changes_of(services.metadata, deployment))
    if not number:
        raise NotReadyError(
            f"Nothing has been deployed on {deployment!r} yet. Run 'penstock train {model}', "
            f"then 'penstock deploy {deployment}'.",
            deployment=deployment,
        )
    return model, number


def find_job(services: Services, deployment: str, job_id: str) -> ScoringJob:
    """A job.

    Raises:
        NotFoundError: There is none of that id.
    """
    job = services.metadata.read(ScoringJob, f"{deployment}/{job_id}")
    if job is None:
        known = [one.job_id for one in jobs_of(services, deployment, limit=50)]
        hint = f"It was asked for among those of the deployment {deployment!r}."
        raise NotFoundError.of("job", job_id, known, hint=hint)
    return job


def jobs_of(services: Services, deployment: str, *, limit: int) -> list[ScoringJob]:
    """The jobs of a deployment, the greatest id first."""
    where = {"deployment": deployment}
    return services.metadata.find(ScoringJob, where=where, newest_first=True, limit=limit)


def job_state(services: Services, job: ScoringJob) -> JobState:
    """Where a job stands."""
    run = services.workflows.get(job.run_id)
    state = run.state if run else "queued"
    done = state == "succeeded"
    progress = services.metadata.read(RunProgress, job.run_id) if state == "running" else None
    delivery = services.metadata.read(Delivery, _delivery_id(job)) if job.webhook else None
    model = Catalogue.load(services.metadata).deployment(job.deployment).model.name
    return JobState(
        job_id=job.job_id,
        deployment=job.deployment,
        run_id=job.run_id,
        state=state,
        rows=job.rows,
        share=1.0 if done else (progress.share if progress else 0.0),
        doing=progress.what if progress else "",
        version=f"{model}@{job.version}",
        error=run.error if run else "",
        asked_by=job.asked_by,
        created_at=job.created_at,
        ended_at=run.ended_at if run else None,
        webhook=(delivery.state if delivery else "waiting") if job.webhook else "",
        scored=_scored(run) if run and done else None,
    )


def job_page(services: Services, job: ScoringJob, *, after: str, limit: int) -> pl.DataFrame:
    """A page of what was scored, in the order of the job's rows.

    Args:
        services: The ports.
        job: The job.
        after: Id of the last prediction of the page before; empty for the first page.
        limit: At most so many.

    Raises:
        NotReadyError: It has not succeeded.
    """
    state = job_state(services, job)
    if state.scored is None:
        raise NotReadyError(
            f"The job {job.job_id!r} has nothing to fetch: it is {state.state}. Ask again when it "
            "has succeeded.",
            state=state.state,
        )
    return job_scores(services, job, state.scored, after=after, limit=limit)


def cancel_job(services: Services, job: ScoringJob) -> None:
    """End a job before its next step; one that has ended stays as it is."""
    run = services.workflows.get(job.run_id)
    if run is not None and run.state not in ENDED:
        services.metadata.write(
            audit=Audit(
                actor=services.actor,
                action="cancel",
                subject=f"run/{job.run_id}",
                difference={"state": [run.state, "cancelled"]},
            )
        )
        services.workflows.cancel(job.run_id)


def settle_jobs(services: Services) -> list[Delivery]:
    """Write a message for each job that has ended and has somebody to tell; once for each.

    Returns:
        The messages that were written.
    """
    written: list[Delivery] = []
    for job in services.metadata.find(ScoringJob, where={"state": "open"}):
        run = services.workflows.get(job.run_id)
        if run is None:
            submit(services, job_run(job))  # whoever took it in was killed before
        if run is None or run.state not in ENDED:
            continue
        changes = [Put(msgspec.structs.replace(job, state="ended"), expected=job)]
        if job.webhook:
            delivery = _delivery(services, job, run)
            changes.append(Put(delivery))
            written.append(delivery)
        try:
            services.metadata.write(*changes)
        except ConflictError:  # another worker was first
            continue
    return written


def _delivery(services: Services, job: ScoringJob, run: RunInfo) -> Delivery:
    """What a webhook is told: identifiers, never data."""
    now = services.clock.now()
    body = {
        "type": "scores.ready" if run.state == "succeeded" else f"job.{run.state}",
        "timestamp": now,
        "data": {
            "deployment": job.deployment,
            "job_id": job.job_id,
            "state": run.state,
            "rows": job.rows,
            "results": f"/v1/deployments/{job.deployment}/jobs/{job.job_id}/scores",
        },
    }
    return Delivery(
        delivery_id=_delivery_id(job),
        url=job.webhook,
        body=msgspec.json.encode(body).decode(),
        created_at=now,
        next_at=now,
    )


def _delivery_id(job: ScoringJob) -> str:
    return f"{job.run_id}.ended"


def _scored(run: RunInfo) -> JobScored | None:
    outputs: dict[str, Any] = {step.name: step.output for step in run.steps}
    found = outputs.get("score")
    return msgspec.convert(found, JobScored) if found else None
