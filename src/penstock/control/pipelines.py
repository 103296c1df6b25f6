"""The pipelines, and the runs of them that something or somebody asks for.

A pipeline is data: it travels in its run's arguments, so a run goes on with the steps that it was
begun with, whatever code is installed meanwhile. Names of steps and of their functions are
therefore never given a new meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from penstock.ports import EVENTS_TOPIC, Audit, Pipeline, StepSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ports import Services
    from penstock.records import ScoringJob

__all__ = [
    "PIPELINES",
    "Submission",
    "bandit_pipeline",
    "bandit_run",
    "check_pipeline",
    "check_run",
    "deploy_pipeline",
    "deploy_run",
    "experiment_pipeline",
    "experiment_run",
    "ingest_pipeline",
    "ingest_run",
    "job_pipeline",
    "job_run",
    "monitor_pipeline",
    "monitor_run",
    "profile_pipeline",
    "profile_run",
    "prune_pipeline",
    "prune_run",
    "release_run",
    "retry",
    "score_pipeline",
    "score_run",
    "start",
    "submit",
    "train_pipeline",
    "train_run",
    "vacuum_pipeline",
    "vacuum_run",
]


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is asked for.

    Attributes:
        pipeline: What is run.
        parameters: With what, as plain JSON values.
        run_id: Its id; the same id is the same run, however often it is submitted.
        subject: What it is about.
        group: Group of consumers of the topic ``events`` that asks for it; empty for none.
        offset: How far that group has come with this run.
    """

    pipeline: Pipeline
    parameters: Mapping[str, object]
    run_id: str
    subject: str
    group: str = ""
    offset: int = 0


def start(services: Services, submission: Submission) -> str:
    """Submit a run, and only then remember the events that asked for it.

    The audit entry comes first: who is killed in between has asked for a run that never was, and
    no run is without somebody who asked. A run that is known already gets no second entry.

    Args:
        services: The ports; uses metadata, workflows and the event log.
        submission: The run.

    Returns:
        Its id.
    """
    if services.workflows.get(submission.run_id) is None:
        asked = {"subject": submission.subject, "parameters": dict(submission.parameters)}
        _audit(services, f"start {submission.pipeline.name}", submission.run_id, asked)
    return submit(services, submission)


def submit(services: Services, submission: Submission) -> str:
    """Submit a run that the audit log knows of otherwise; as ``start`` but for the entry."""
    services.workflows.submit(
        submission.pipeline,
        submission.parameters,
        run_id=submission.run_id,
        subject=submission.subject,
    )
    if submission.group:
        services.log.commit(EVENTS_TOPIC, submission.group, submission.offset)
    return submission.run_id


def retry(services: Services, run_id: str) -> None:
    """Let a failed or cancelled run go on from its last finished step.

    Args:
        services: The ports; uses metadata and workflows.
        run_id: The run.

    Raises:
        NotFoundError: There is no such run.
        ConflictError: It has neither failed nor been cancelled.
    """
    run = services.workflows.get(run_id)
    if run is not None and run.state in {"failed", "cancelled"}:
        _audit(services, "retry", run_id, {"state": [run.state, "queued"]})
    services.workflows.retry(run_id)


def ingest_pipeline() -> Pipeline:
    """Files into the raw table, then on to the online features."""
    return _pipeline("ingest", "files", "refresh")


def train_pipeline() -> Pipeline:
    """A dataset, candidates, their evaluation and versions, and the best one deployed."""
    return _pipeline(
        "train",
        "pin",
        "snapshot",
        "candidates",
        "evaluate",
        "register",
        "package",
        "deploy",
        "mirror",
    )


def deploy_pipeline() -> Pipeline:
    """A version packaged, checked, asked stored requests again, and put behind its deployment."""
    return _pipeline("deploy", "package", "check", "replay", "release")


def score_pipeline() -> Pipeline:
    """Every new row of the spine into the scores table."""
    return _pipeline("score", "pin", "score")


def job_pipeline() -> Pipeline:
    """Rows that somebody sent into the scores table."""
    return _pipeline("job", "pin", "score")


def monitor_pipeline() -> Pipeline:
    """What has arrived into its tables, a look at it, and what follows from that."""
    return _pipeline("monitor", "drain", "look", "react")


def experiment_pipeline() -> Pipeline:
    """What has arrived into its tables, and a look at an experiment with what follows from it."""
    return _pipeline("experiment", "drain", "look")


def bandit_pipeline() -> Pipeline:
    """What has arrived into its tables, and the shares of a bandit's arms from that."""
    return _pipeline("bandit", "drain", "share")


def check_pipeline() -> Pipeline:
    """What was scored into its tables, features compared with the raw tables, and who is told."""
    return _pipeline("check", "drain", "compare", "tell")


def profile_pipeline() -> Pipeline:
    """Profiles of the days that have new records."""
    return _pipeline("profile", "compute")


def vacuum_pipeline() -> Pipeline:
    """Old versions of stored features removed, where nothing names them."""
    return _pipeline("vacuum", "features")


def prune_pipeline() -> Pipeline:
    """Scores removed that have been kept as long as their deployments want."""
    return _pipeline("prune", "scores")


PIPELINES = (
    ingest_pipeline,
    train_pipeline,
    score_pipeline,
    job_pipeline,
    deploy_pipeline,
    monitor_pipeline,
    experiment_pipeline,
    bandit_pipeline,
    check_pipeline,
    profile_pipeline,
    vacuum_pipeline,
    prune_pipeline,
)
"""Every pipeline there is."""


def ingest_run(run_id: str, source: str, *, paths: Sequence[str] | None = None) -> Submission:
    """A run that takes in files.

    Args:
        run_id: Its id.
        source: Name of the source.
        paths: The files; those of the source's pattern when left out.
    """
    parameters: dict[str, object] = {"source": source}
    if paths is not None:
        parameters["paths"] = list(paths)
    return _submission(ingest_pipeline(), run_id, source, parameters)


def train_run(
    run_id: str, model: str, *, promote: bool | None = None, asked_by: str = ""
) -> Submission:
    """A run that trains a model.

    Args:
        run_id: Its id; the versions it makes name it.
        model: Name of the model.
        promote: Whether the version that passed the gates is deployed; when left out, only while
            the model has no champion.
        asked_by: Key of the declaration that asks for it; empty for somebody.
    """
    parameters: dict[str, object] = {"model": model, "run_id": run_id}
    if promote is not None:
        parameters["promote"] = promote
    if asked_by:
        parameters["asked_by"] = asked_by
    return _submission(train_pipeline(), run_id, model, parameters)


def deploy_run(rollout_id: str, deployment: str) -> Submission:
    """A run that carries a rollout out, as far as it goes without anybody's approval.

    Args:
        rollout_id: The rollout; also the run's id.
        deployment: Name of its deployment.
    """
    return _submission(deploy_pipeline(), rollout_id, deployment, {"rollout_id": rollout_id})


def release_run(
    rollout_id: str, deployment: str, *, after: Literal["approved", "canary"] = "approved"
) -> Submission:
    """A run that goes on with a rollout that was approved, or whose canary has ended well.

    Args:
        rollout_id: The rollout.
        deployment: Name of its deployment.
        after: What it waited for.
    """
    return _submission(
        _pipeline("deploy", "release"),
        f"{rollout_id}-{after}",
        deployment,
        {"rollout_id": rollout_id},
    )


def score_run(run_id: str, deployment: str, *, asked_by: str = "") -> Submission:
    """A run that scores every new row of a deployment's spine.

    Args:
        run_id: Its id.
        deployment: Name of the deployment.
        asked_by: Key of the declaration that asks for it; empty for somebody.
    """
    parameters = {"deployment": deployment, "run_id": run_id}
    if asked_by:
        parameters["asked_by"] = asked_by
    return _submission(score_pipeline(), run_id, deployment, parameters)


def job_run(job: ScoringJob) -> Submission:
    """The run that scores a job."""
    return _submission(
        job_pipeline(), job.run_id, job.deployment, {"job": job.key, "run_id": job.run_id}
    )


def monitor_run(run_id: str, monitor: str) -> Submission:
    """A run in which a monitor looks once, and acts on what it sees.

    Args:
        run_id: Its id.
        monitor: Name of the monitor.
    """
    return _submission(monitor_pipeline(), run_id, monitor, {"monitor": monitor})


def experiment_run(run_id: str, deployment: str) -> Submission:
    """A run that begins a deployment's experiment, or looks at it once.

    Args:
        run_id: Its id.
        deployment: Name of the deployment.
    """
    return _submission(experiment_pipeline(), run_id, deployment, {"deployment": deployment})


def bandit_run(run_id: str, deployment: str) -> Submission:
    """A run that sets the shares of a bandit's arms.

    Args:
        run_id: Its id.
        deployment: Name of the deployment.
    """
    return _submission(bandit_pipeline(), run_id, deployment, {"deployment": deployment})


def check_run(run_id: str, *, max_rate: float) -> Submission:
    """A run in which the features of the project are compared with the raw tables.

    Args:
        run_id: Its id.
        max_rate: The share of a column's values that may differ before somebody is told.
    """
    return _submission(check_pipeline(), run_id, "features", {"max_rate": max_rate})


def profile_run(run_id: str, *, days: int, sample: int) -> Submission:
    """A run in which the views with new records are profiled.

    Args:
        run_id: Its id.
        days: So many days up to the newest record of each.
        sample: At most so many points of a day.
    """
    return _submission(profile_pipeline(), run_id, "features", {"days": days, "sample": sample})


def vacuum_run(run_id: str, *, older_than_h: int) -> Submission:
    """A run that removes old versions of stored features.

    Args:
        run_id: Its id.
        older_than_h: How many hours they stay.
    """
    return _submission(vacuum_pipeline(), run_id, "features", {"older_than_h": older_than_h})


def prune_run(run_id: str, *, now_us: int) -> Submission:
    """A run that removes scores that have been kept long enough.

    Args:
        run_id: Its id.
        now_us: The time that counts, in microseconds since 1970 UTC.
    """
    return _submission(prune_pipeline(), run_id, "scores", {"now_us": now_us})


def _submission(
    pipeline: Pipeline, run_id: str, subject: str, parameters: Mapping[str, object]
) -> Submission:
    return Submission(pipeline=pipeline, parameters=parameters, run_id=run_id, subject=subject)


def _audit(services: Services, action: str, run_id: str, difference: Mapping[str, object]) -> None:
    entry = Audit(
        actor=services.actor, action=action, subject=f"run/{run_id}", difference=difference
    )
    services.metadata.write(audit=entry)


def _pipeline(name: str, *steps: str) -> Pipeline:
    return Pipeline(
        name=name,
        steps=tuple(StepSpec(name=step, function=f"{name}.{step}") for step in steps),
    )
