"""Evaluation of a training run: measured, compared, judged, tracked, and then registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import polars as pl

from penstock.algebra import compute_metrics, reference_bins
from penstock.datasets import load
from penstock.errors import InputError, StateError
from penstock.ports import Task
from penstock.registry import Registration, register

from .gates import judge
from .results import CandidateResult, Evaluation
from .rivals import measure_rivals
from .tracking_tasks import artifact_folder, ask_mlflow
from .unseen import learned_by, unseen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ports import Services
    from penstock.records import ColumnBins, DatasetSnapshot, ModelVersion
    from penstock.spec import Model
    from penstock.training import TrainedCandidate

    from .results import Rival

__all__ = ["evaluate", "register_candidates"]

TRACK = "penstock.evaluation.worker:track"
SAMPLE_ROWS = 1000


def evaluate(
    services: Services,
    model: Model,
    snapshot: DatasetSnapshot,
    trained: Sequence[TrainedCandidate],
    run_id: str,
) -> Evaluation:
    """Measure the candidates of a training run and judge the best of them.

    The best is chosen on the validation part by the model's objective; the gates look at the test
    part, which nothing was chosen by. A graph is measured on rows that none of its models learned
    from.

    Args:
        services: The project's ports.
        model: The model.
        snapshot: What the candidates learned from.
        trained: The candidates.
        run_id: The training run.

    Returns:
        Metrics, verdicts and the ids of the MLflow runs.

    Raises:
        InputError: No candidate was trained.
        StateError: A file is damaged.
    """
    done = [one for one in trained if not one.error]
    if not done:
        raise InputError(f"The run {run_id!r} has no trained candidate to evaluate.", run_id=run_id)
    best = _best(model, done)
    learned = learned_by(services, model, snapshot, done)
    judged = unseen(services, trained, learned)
    rivals = measure_rivals(services, model, snapshot, without=learned.rows if learned else None)
    results = [
        _result(services, model, one, rivals, selected=one.candidate == best.candidate)
        for one in judged
        if not one.error
    ]
    ids = _track(services, model, snapshot, judged, results, run_id)
    return Evaluation(
        run_id=run_id,
        results=tuple(
            msgspec.structs.replace(result, tracking_run=ids[result.candidate])
            for result in results
        ),
        rivals=rivals,
        tracking_run=ids[""],
        warnings=learned.warnings if learned else (),
    )


def register_candidates(  # noqa: PLR0913, PLR0917 - the outputs of the steps before
    services: Services,
    model: Model,
    snapshot: DatasetSnapshot,
    trained: Sequence[TrainedCandidate],
    evaluation: Evaluation,
    run_id: str,
) -> list[ModelVersion]:
    """Register the candidates of an evaluated run. ``mirror`` shows them in MLflow afterwards.

    Args:
        services: The project's ports.
        model: The model.
        snapshot: What the candidates learned from.
        trained: The candidates.
        evaluation: What was found of them.
        run_id: The training run.

    Returns:
        The run's versions; those of the first time when it is done again.

    Raises:
        StateError: A file is damaged.
    """
    by_name = {one.candidate: one for one in trained}
    test = load(services, snapshot, "test")
    return register(
        services,
        model,
        snapshot,
        [
            _registration(services, model, snapshot, by_name[result.candidate], result, test)
            for result in evaluation.results
        ],
        run_id=run_id,
        bins=_bins(load(services, snapshot, "train"), snapshot),
    )


def _best(model: Model, trained: Sequence[TrainedCandidate]) -> TrainedCandidate:
    """The best by the objective on the validation part; the first of equals."""
    sign = 1 if model.select.maximise else -1
    return max(trained, key=lambda one: sign * one.value if one.value is not None else -1e308)


def _predictions(services: Services, one: TrainedCandidate) -> pl.DataFrame:
    return pl.read_parquet(services.artifacts.path(one.predictions))


def _result(
    services: Services,
    model: Model,
    one: TrainedCandidate,
    rivals: Sequence[Rival],
    *,
    selected: bool,
) -> CandidateResult:
    rows = _predictions(services, one)
    metrics: dict[str, float] = {}
    for part in ("validation", "test"):
        of_part = rows.filter(pl.col("part") == part)
        found = compute_metrics(
            model.dataset.task, of_part["label"].to_numpy(), of_part["prediction"].to_numpy()
        )
        metrics |= {f"{part}.{name}": value for name, value in found.items()}
    result = CandidateResult(candidate=one.candidate, metrics=metrics, selected=selected)
    if not selected:
        return result
    bounds = {rival.alias: rival.metrics for rival in rivals}
    verdicts = judge(model.gates, result.test_metrics, bounds)
    ready = all(verdict.passed for verdict in verdicts)
    return msgspec.structs.replace(result, verdicts=verdicts, ready=ready)


def _track(  # noqa: PLR0913, PLR0917 - all that is tracked
    services: Services,
    model: Model,
    snapshot: DatasetSnapshot,
    trained: Sequence[TrainedCandidate],
    results: Sequence[CandidateResult],
    run_id: str,
) -> dict[str, str]:
    run = {
        "uri": services.tracking_uri,
        "artifacts": str(artifact_folder(services)),
        "model": model.name,
        "run_id": run_id,
        "dataset_id": snapshot.dataset_id,
        "objective": model.select.metric,
        "task": model.dataset.task,
        "at_ms": services.clock.now_us() // 1000,
        "trained": msgspec.to_builtins(trained),
        "results": msgspec.to_builtins(results),
    }
    files = {
        one.candidate: {
            "model": str(services.artifacts.path(one.model)),
            "predictions": str(services.artifacts.path(one.predictions)),
        }
        for one in trained
        if not one.error
    }
    found = ask_mlflow(services, Task(function=TRACK, arguments={"run": run, "files": files}))
    return msgspec.convert(found, dict[str, str])


def _registration(  # noqa: PLR0913, PLR0917 - what the registry keeps
    services: Services,
    model: Model,
    snapshot: DatasetSnapshot,
    one: TrainedCandidate,
    result: CandidateResult,
    test: pl.DataFrame,
) -> Registration:
    return Registration(
        candidate=one.candidate,
        estimator=one.estimator,
        prepare=one.prepare,
        params=one.params,
        native=one.native,
        model_file=services.artifacts.path(one.model),
        metrics=result.metrics,
        sample=_sample(model, snapshot, test, _predictions(services, one)),
        verdicts=result.verdicts,
        selected=result.selected,
        ready=result.ready,
        tracking_run=result.tracking_run,
    )


def _sample(
    model: Model, snapshot: DatasetSnapshot, test: pl.DataFrame, predictions: pl.DataFrame
) -> pl.DataFrame:
    """At most 1,000 test rows, spread evenly over them.

    Raises:
        StateError: The predictions are not of these rows.
    """
    label = model.dataset.label.name if model.dataset.label is not None else ""
    predicted = predictions.filter(pl.col("part") == "test")
    if not predicted["at"].equals(test["at"]):
        raise StateError(
            f"The predictions are not of the rows of dataset {snapshot.dataset_id}. "
            f"Train again: 'penstock train {model.name}'.",
            dataset_id=snapshot.dataset_id,
        )
    rows = test.select(pl.col(*snapshot.feature_names, label).cast(pl.Float64))
    rows = rows.with_columns(predicted["prediction"])
    return rows.gather_every(-(-len(rows) // SAMPLE_ROWS))


def _bins(train: pl.DataFrame, snapshot: DatasetSnapshot) -> dict[str, ColumnBins]:
    return {
        name: reference_bins(train[name].cast(pl.Float64).to_numpy())
        for name in snapshot.feature_names
    }
