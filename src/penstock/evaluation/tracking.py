"""Tracking in MLflow: one run per training run, a child per candidate, a version per version.

Our own records are the truth; this is their picture for whoever looks through MLflow. Everything
is found again by tag before it is made, and logged with the same times and steps, so that doing it
twice leaves the same as once. Only worker processes import this module: MLflow takes seconds.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from penstock.training import TrainedCandidate

from .results import CandidateResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "CandidateFiles",
    "MirroredVersion",
    "TrackedRun",
    "mirror_versions",
    "open_store",
    "track_run",
]

RUN_TAG = "penstock.run_id"
CANDIDATE_TAG = "penstock.candidate"
VERSION_TAG = "penstock.version"
MODEL_FOLDER = "model"
PICTURES_FOLDER = "pictures"
MOST_METRICS = 1000  # of one log_batch
MOST_PARAMS = 100
LONGEST_PARAM = 6000
EXISTS = "RESOURCE_ALREADY_EXISTS"


class TrackedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A training run, as it is to be tracked.

    Attributes:
        uri: Where MLflow tracks.
        artifacts: Folder of MLflow's artifacts.
        model: Name of the model, and of MLflow's experiment.
        run_id: The training run.
        dataset_id: What it learned from.
        objective: The metric it chose by.
        task: The task.
        at_ms: When it was evaluated, in milliseconds since 1970 UTC.
        trained: The candidates.
        results: What was found of those that did not fail.
    """

    uri: str
    artifacts: str
    model: str
    run_id: str
    dataset_id: str
    objective: str
    task: Literal["classification", "regression"]
    at_ms: int
    trained: tuple[TrainedCandidate, ...]
    results: tuple[CandidateResult, ...]


class CandidateFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Files of a candidate.

    Attributes:
        model: The model file.
        model_name: What it is called in MLflow.
        pictures: The pictures.
    """

    model: Path
    model_name: str
    pictures: tuple[Path, ...]


class MirroredVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A model version to be mirrored.

    Attributes:
        version: Our number.
        tracking_run: The MLflow run of its candidate.
        candidate: Name of the trainer.
    """

    version: int
    tracking_run: str
    candidate: str


def open_store(uri: str) -> None:
    """Open MLflow's database; the first to do so makes it, which takes seconds.

    Args:
        uri: Where MLflow tracks.
    """
    MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)


def track_run(run: TrackedRun, files: Mapping[str, CandidateFiles]) -> dict[str, str]:
    """Track a training run.

    Args:
        run: The run.
        files: Files of each candidate that did not fail, by its name.

    Returns:
        Id of the MLflow run of each candidate by name, and of the parent as ``""``.
    """
    client = MlflowClient(tracking_uri=run.uri, registry_uri=run.uri)
    experiment = _experiment(client, run)
    results = {result.candidate: result for result in run.results}
    made = _run_of(client, experiment, run, "")
    parent = str(made.info.run_id)
    # Of a run that was begun before, the time is kept: what is logged again is then the same.
    run = msgspec.structs.replace(run, at_ms=made.info.start_time)
    ids = {"": parent}
    for trained in run.trained:
        child = str(_run_of(client, experiment, run, trained.candidate, parent).info.run_id)
        ids[trained.candidate] = child
        _log(client, child, run, trained, results.get(trained.candidate))
        if trained.candidate in files:
            _log_files(client, child, trained, files[trained.candidate])
        client.set_terminated(child, "FAILED" if trained.error else "FINISHED", run.at_ms)
    best = next((result for result in run.results if result.selected), None)
    if best is not None:
        client.log_batch(parent, metrics=_metrics(best.metrics, run.at_ms))
        client.set_tag(parent, "penstock.selected", best.candidate)
        client.set_tag(parent, "penstock.ready", str(best.ready).lower())
    client.set_terminated(parent, "FINISHED", run.at_ms)
    return ids


def mirror_versions(
    uri: str, model: str, found: Sequence[MirroredVersion], aliases: Mapping[str, int]
) -> None:
    """Bring MLflow's registry to what ours says.

    Args:
        uri: Where MLflow tracks.
        model: Name of the model.
        found: Our versions.
        aliases: Alias to our version; 0 for none.
    """
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != EXISTS:
            raise
    known = {
        version.tags[VERSION_TAG]: str(version.version)
        for version in client.search_model_versions(f"name='{model}'")
        if VERSION_TAG in version.tags
    }
    for version in found:
        if str(version.version) not in known and version.tracking_run:
            source = f"{client.get_run(version.tracking_run).info.artifact_uri}/{MODEL_FOLDER}"
            made = client.create_model_version(
                model,
                source,
                version.tracking_run,
                tags={VERSION_TAG: str(version.version), CANDIDATE_TAG: version.candidate},
            )
            known[str(version.version)] = str(made.version)
    _mirror_aliases(client, model, aliases, known)


def _mirror_aliases(
    client: MlflowClient, model: str, aliases: Mapping[str, int], known: Mapping[str, str]
) -> None:
    present = client.get_registered_model(model).aliases
    for alias, version in aliases.items():
        wanted = known.get(str(version))
        if wanted is None and alias in present:
            client.delete_registered_model_alias(model, alias)
        elif wanted is not None and str(present.get(alias)) != wanted:
            client.set_registered_model_alias(model, alias, wanted)


def _experiment(client: MlflowClient, run: TrackedRun) -> str:
    found = client.get_experiment_by_name(run.model)
    if found is not None:
        return str(found.experiment_id)
    try:
        location = (Path(run.artifacts) / run.model).as_uri()
        return str(client.create_experiment(run.model, artifact_location=location))
    except MlflowException as error:
        if error.error_code != EXISTS:
            raise
    return _experiment(client, run)  # another worker made it in between


def _run_of(
    client: MlflowClient, experiment: str, run: TrackedRun, candidate: str, parent: str = ""
) -> Run:
    """The MLflow run with these tags, made when there is none."""
    wanted = f"tags.`{RUN_TAG}` = '{run.run_id}' and tags.`{CANDIDATE_TAG}` = '{candidate or '-'}'"
    found: list[Run] = list(client.search_runs([experiment], wanted, max_results=1))
    if found:
        return found[0]
    tags = {RUN_TAG: run.run_id, CANDIDATE_TAG: candidate or "-", "dataset_id": run.dataset_id}
    if parent:
        tags["mlflow.parentRunId"] = parent
    name = candidate or run.run_id
    return client.create_run(experiment, start_time=run.at_ms, tags=tags, run_name=name)


def _log(
    client: MlflowClient,
    child: str,
    run: TrackedRun,
    trained: TrainedCandidate,
    result: CandidateResult | None,
) -> None:
    """Log parameters, metrics and trials in as few calls as MLflow takes."""
    metrics = list(_trial_metrics(trained, run))
    if result is not None:
        metrics += _metrics(result.metrics, run.at_ms)
        metrics.append(Metric("train.duration_s", trained.duration_s, run.at_ms, 0))
    params = [Param(name, _text(value)) for name, value in trained.params.items()]
    tags = [
        RunTag("estimator", trained.estimator),
        RunTag("prepare", trained.prepare),
        RunTag("selected", str(result is not None and result.selected).lower()),
    ]
    if trained.error:
        tags.append(RunTag("error", trained.error[:LONGEST_PARAM]))
    client.log_batch(child, params=params[:MOST_PARAMS], tags=tags)
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(child, metrics=metrics[start : start + MOST_METRICS])
    client.log_text(child, _trial_table(trained), "trials.json")


def _metrics(values: Mapping[str, float], at_ms: int) -> list[Metric]:
    return [Metric(name, value, at_ms, 0) for name, value in sorted(values.items())]


def _trial_metrics(trained: TrainedCandidate, run: TrackedRun) -> Iterator[Metric]:
    for trial in trained.trials:
        if trial.value is not None:
            yield Metric(f"trial.{run.objective}", trial.value, run.at_ms, trial.number)


def _trial_table(trained: TrainedCandidate) -> str:
    return json.dumps(msgspec.to_builtins(trained.trials), indent=2)


def _text(value: object) -> str:
    return (value if isinstance(value, str) else json.dumps(value))[:LONGEST_PARAM]


def _log_files(
    client: MlflowClient, child: str, trained: TrainedCandidate, files: CandidateFiles
) -> None:
    for picture in files.pictures:
        client.log_artifact(child, str(picture), PICTURES_FOLDER)
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / files.model_name
        named.symlink_to(files.model)
        client.log_artifact(child, str(named), MODEL_FOLDER)
    if trained.warnings:
        client.log_text(child, "\n".join(trained.warnings), "warnings.txt")
