"""The step functions of the pipelines: small, and the same however often they are run.

A step that was killed in flight is run again with the same inputs. It then finds what it had
stored: batches by the hash of their file, datasets by their content, versions by their run, scores
by their batch, reports by the end of their window. What it returns refers to stored things and
holds none of them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import convert, to_builtins

from penstock.errors import NotReadyError, StateError
from penstock.evaluation import mirror
from penstock.ingest import ingest_files
from penstock.monitoring import drain_observations, look
from penstock.plan import Catalogue
from penstock.records import FeatureReport, MonitorReport, ScoringJob
from penstock.registry import aliases
from penstock.scoring import (
    BatchPin,
    JobPin,
    drain_scores,
    pin_batch,
    pin_job,
    score_batch,
    score_job,
)

from .actions import react
from .checking import check_features, report_inconsistent
from .deploying import DEPLOY_STEPS
from .experiment_steps import EXPERIMENT_STEPS
from .profiling import profile_views
from .pruning import prune_scores, vacuum_scores
from .refreshing import drop_unread_spaces, refresh_features
from .telling import telling
from .training import TRAIN_STEPS
from .vacuuming import vacuum_features, vacuum_raw

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.ports import Services, StepFunction

    Values: TypeAlias = Mapping[str, Any]  # plain JSON, as it comes back from storage
    Step: TypeAlias = Callable[[Services, Values, Values], Mapping[str, object]]

__all__ = ["step_functions"]


def step_functions(services: Services) -> Mapping[str, StepFunction]:
    """The functions of every step, by the names that pipelines call them.

    Args:
        services: The ports they work with; safe across threads.
    """
    steps: Mapping[str, Step] = {
        "ingest.files": _files,
        "ingest.refresh": _refresh,
        **TRAIN_STEPS,
        **DEPLOY_STEPS,
        "score.pin": _pin_score,
        "score.score": _score,
        "job.pin": _pin_job,
        "job.score": _score_job,
        "monitor.drain": _drain,
        "monitor.look": _look,
        "monitor.react": _react,
        **EXPERIMENT_STEPS,
        "check.drain": _drain_scores,
        "check.compare": _compare,
        "check.tell": _tell,
        "profile.compute": _profile,
        "vacuum.features": _vacuum,
        "prune.scores": _prune,
    }
    return {name: partial(step, services) for name, step in steps.items()}


def _files(services: Services, given: Values, _: Values) -> Mapping[str, object]:
    source = Catalogue.load(services.metadata).source(given["source"])
    batches = ingest_files(services, source, paths=given.get("paths"))
    reasons: dict[str, int] = {}
    for batch in batches:
        for reason, count in batch.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    missing: dict[tuple[str, str], int] = {}
    for one in (one for batch in batches for one in batch.lookups):
        missing[one.found_in, one.on] = missing.get((one.found_in, one.on), 0) + one.missing
    return {
        "batches": [batch.batch_id for batch in batches],
        "read": sum(batch.read for batch in batches),
        "stored": sum(batch.stored for batch in batches),
        "quarantined": sum(batch.quarantined for batch in batches),
        "duplicates": sum(batch.duplicates for batch in batches),
        "reasons": reasons,
        "lookups": [
            {"source": other, "on": on, "missing": count} for (other, on), count in missing.items()
        ],
    }


def _refresh(services: Services, given: Values, _: Values) -> Mapping[str, object]:
    views = refresh_features(services, given["source"])
    drop_unread_spaces(services)
    return {"views": views}


def _pin_score(services: Services, given: Values, _: Values) -> Mapping[str, object]:
    # An output of its own, so that a batch that is scored again after a kill is the same one.
    pinned: dict[str, object] = to_builtins(pin_batch(services, given["deployment"]))
    return pinned


def _score(services: Services, given: Values, outputs: Values) -> Mapping[str, object]:
    pinned = convert(outputs["pin"], BatchPin) if "pin" in outputs else None
    with telling(services, given["run_id"], "score") as tell:
        found = score_batch(services, given["deployment"], pinned=pinned, progress=tell)
    scored: dict[str, object] = to_builtins(found)
    return scored


def _pin_job(services: Services, given: Values, _: Values) -> Mapping[str, object]:
    pinned: dict[str, object] = to_builtins(pin_job(services, _job(services, given)))
    return pinned


def _score_job(services: Services, given: Values, outputs: Values) -> Mapping[str, object]:
    job, pinned = _job(services, given), convert(outputs["pin"], JobPin)
    with telling(services, given["run_id"], "score") as tell:
        found = score_job(services, job, pinned, tell)
    scored: dict[str, object] = to_builtins(found)
    return scored


def _job(services: Services, given: Values) -> ScoringJob:
    job = services.metadata.read(ScoringJob, given["job"])
    if job is None:
        raise StateError(
            f"The job {given['job']!r} is gone; the metadata was altered. Send it again.",
            job=given["job"],
        )
    return job


def _drain(services: Services, given: Values, _: Values) -> Mapping[str, object]:
    monitor = Catalogue.load(services.metadata).monitor(given["monitor"])
    scores = drain_scores(services, monitor.deployment.name)
    observations = drain_observations(services)
    # The end of the window is an output, so that a look that is done again is the same look.
    now_us = services.clock.now_us()
    return {"scores": scores, "observations": observations, "now_us": now_us}


def _look(services: Services, given: Values, outputs: Values) -> Mapping[str, object]:
    monitor = Catalogue.load(services.metadata).monitor(given["monitor"])
    try:
        report = look(services, monitor, now_us=outputs["drain"]["now_us"])
    except NotReadyError as error:
        return {"stop": True, "message": error.message}
    return {
        "report_id": report.report_id,
        "version": report.version,
        "breaches": [
            f"{check.name} of {check.subject}: {check.reason}" for check in report.breaches
        ],
    }


def _react(services: Services, _: Values, outputs: Values) -> Mapping[str, object]:
    report_id = outputs["look"]["report_id"]
    report = services.metadata.read(MonitorReport, report_id)
    if report is None:
        raise StateError(
            f"The report {report_id!r} is gone; the metadata was altered. Let the monitor look "
            "again.",
            report_id=report_id,
        )
    incident = react(services, report)
    if incident is None:
        return {"incident_id": "", "actions": {}}
    model = Catalogue.load(services.metadata).deployment(report.deployment).model.name
    # Where the champion is pinned, the alias may point elsewhere all the time, and nothing moved.
    moved = not incident.actions.get("rollback", "").startswith("not done")
    if moved and f"{model}@{aliases(services.metadata, model).champion}" != report.version:
        mirror(services, model)
    return {"incident_id": incident.incident_id, "actions": dict(incident.actions)}


def _vacuum(services: Services, given: Values, _: Values) -> Mapping[str, object]:
    older_than_h = given["older_than_h"]
    found = vacuum_features(services, older_than_h=older_than_h)
    return {"tables": to_builtins([*found, *vacuum_raw(services, older_than_h=older_than_h)])}


def _prune(services: Services, given: Values, _: Values) -> Mapping[str, object]:
    pruned = to_builtins(prune_scores(services, now_us=given["now_us"]))
    return {"deployments": pruned, "files": vacuum_scores(services)}


def _drain_scores(services: Services, _: Values, __: Values) -> Mapping[str, object]:
    # The time is an output, so that a check that is done again is the same check.
    return {"scores": drain_scores(services), "now_us": services.clock.now_us()}


def _compare(services: Services, _: Values, outputs: Values) -> Mapping[str, object]:
    reports = check_features(services, to_us=outputs["drain"]["now_us"])
    return {"reports": [report.report_id for report in reports]}


def _profile(services: Services, given: Values, _: Values) -> Mapping[str, object]:
    return profile_views(services, days=given["days"], sample=given["sample"])


def _tell(services: Services, given: Values, outputs: Values) -> Mapping[str, object]:
    found = [
        services.metadata.read(FeatureReport, report_id)
        for report_id in outputs["compare"]["reports"]
    ]
    told = [
        report.report_id
        for report in found
        if report and report_inconsistent(services, report, max_rate=given["max_rate"])
    ]
    return {"inconsistent": told}
