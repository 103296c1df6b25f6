"""What worker processes do for training: check a trainer, train a candidate.

Plain JSON values in and out, files beside them. Only these processes load scikit-learn, XGBoost and
Optuna.
"""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from penstock.algebra import compute_metric
from penstock.errors import InputError, NotSupportedError, PenstockError, UserCodeError
from penstock.registry import NATIVE_FILES, GraphModel, as_native, open_native, save_native
from penstock.spec import Trainer

from .estimators import Estimator, build_estimator, estimator_faults, estimator_path, prepare_of
from .graphs import put_together
from .learned import PREDICTIONS_FILE, TrainedCandidate, TrainingJob
from .search import Attempt, search

if TYPE_CHECKING:
    from penstock.records import NativeFormat

__all__ = ["check_trainer", "train_candidate"]

FORMATS: Mapping[str, NativeFormat] = {
    "sklearn": "skops",
    "xgboost": "ubj",
    "lightgbm": "lgb",
    "custom": "custom",
    "graph": "graph",
}


class _Part(msgspec.Struct, frozen=True):
    """Rows of one part as arrays."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]


class _Fitted(msgspec.Struct, frozen=True):
    """A model of one trial."""

    estimator: Estimator | GraphModel
    params: Mapping[str, object]
    warnings: tuple[str, ...]


def check_trainer(*, trainer: object, task: Literal["classification", "regression"]) -> list[str]:
    """Everything that keeps a trainer from being tried; see ``estimator_faults``."""
    return estimator_faults(msgspec.convert(trainer, Trainer), task)


def train_candidate(*, job: object) -> object:
    """Train one candidate and write its model and predictions.

    Args:
        job: A ``TrainingJob`` as plain values.

    Returns:
        A ``TrainedCandidate`` as plain values, without references; with ``error`` when the
        estimator, or what it was given, was at fault.
    """
    work = msgspec.convert(job, TrainingJob)
    start = time.perf_counter()
    try:
        trained = _train(work)
    except (UserCodeError, InputError, NotSupportedError) as error:
        trained = TrainedCandidate(
            candidate=work.trainer.name,
            estimator=estimator_path(work.trainer, work.task),
            error=error.message,
            traceback=str(error.facts.get("traceback", "")),
        )
    duration_s = time.perf_counter() - start
    return msgspec.to_builtins(msgspec.structs.replace(trained, duration_s=duration_s))


def _train(job: TrainingJob) -> TrainedCandidate:
    frame = pl.read_parquet(job.rows)
    train, validation = _part(frame, job, "train"), _part(frame, job, "validation")

    def attempt(params: Mapping[str, object]) -> Attempt[_Fitted]:
        fitted = _fit(job, params, train)
        return Attempt(fitted, _value(job, fitted.estimator, validation))

    best, trials = search(
        job.trainer.params, job.search, maximise=job.objective.maximise, attempt=attempt
    )
    native = FORMATS[job.trainer.kind]
    _write(job, best.model.estimator, frame, native)
    return TrainedCandidate(
        candidate=job.trainer.name,
        estimator=estimator_path(job.trainer, job.task),
        prepare=prepare_of(job.trainer, job.task),
        params=best.model.params,
        native=native,
        value=best.value,
        trials=trials,
        warnings=best.model.warnings,
    )


def _part(frame: pl.DataFrame, job: TrainingJob, part: str) -> _Part:
    rows = frame.filter(pl.col("part") == part)
    return _Part(_features(rows, job), rows[job.label].cast(pl.Float64).to_numpy())


def _features(rows: pl.DataFrame, job: TrainingJob) -> NDArray[np.float64]:
    return rows.select(pl.col(job.features).cast(pl.Float64)).to_numpy()


def _fit(job: TrainingJob, params: Mapping[str, object], train: _Part) -> _Fitted:
    if job.graph is not None:
        return _Fitted(put_together(job.graph, job.features), dict(job.graph.pins), ())
    truth = train.y.astype(np.int64) if job.task == "classification" else train.y
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            estimator, chosen = build_estimator(job.trainer, job.task, params, job.search.seed)
            estimator.fit(train.x, truth)
        except PenstockError:
            raise
        except Exception as error:
            raise _blame(job, "fitting", error) from error
    found = dict.fromkeys(f"{one.category.__name__}: {one.message}" for one in caught)
    return _Fitted(estimator, chosen, tuple(found))


def _value(job: TrainingJob, estimator: Estimator | GraphModel, validation: _Part) -> float:
    """The objective on the validation part.

    Raises:
        UserCodeError: The estimator failed to predict, or predicted what is no number.
        InputError: The validation part does not define the metric.
    """
    classifies = job.task == "classification"
    try:
        predicted = as_native(estimator, classifies=classifies).predict(validation.x)
    except Exception as error:
        raise _blame(job, "predicting", error) from error
    if not np.isfinite(predicted).all():
        raise UserCodeError(
            f"Candidate {job.trainer.name!r} predicted NaN or infinity on the validation part. "
            "Try other parameters, or prepare='scale'.",
            candidate=job.trainer.name,
        )
    if job.graph is not None and classifies and not ((predicted >= 0) & (predicted <= 1)).all():
        raise UserCodeError(
            f"Candidate {job.trainer.name!r} predicted {predicted.min():g} to {predicted.max():g} "
            "on the validation part; a classification predicts the probability of true.",
            candidate=job.trainer.name,
        )
    value = compute_metric(job.objective.metric, validation.y, predicted)
    if value is None:
        raise InputError(
            f"{job.objective.metric} is not defined on the validation part: its labels are all "
            "alike. Ingest more records, change the split, or choose by another metric.",
            metric=job.objective.metric,
        )
    return value


def _write(
    job: TrainingJob, estimator: Estimator | GraphModel, frame: pl.DataFrame, native: NativeFormat
) -> None:
    """Write the model, and the predictions of the model as it is read back from its file."""
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NATIVE_FILES[native]
    save_native(estimator, path, native)
    model = open_native(path, native, classifies=job.task == "classification")
    rows = frame.filter(pl.col("part").is_in(["validation", "test"]))
    predicted = pl.Series("prediction", model.predict(_features(rows, job)), dtype=pl.Float64)
    label = pl.col(job.label).cast(pl.Float64).alias("label")
    rows.select(job.key, "at", "part", label).with_columns(predicted).write_parquet(
        folder / PREDICTIONS_FILE
    )


def _blame(job: TrainingJob, what: str, error: Exception) -> UserCodeError:
    """Say that the estimator failed, and keep where."""
    return UserCodeError(
        f"Candidate {job.trainer.name!r} failed while {what}: {type(error).__name__}: {error}",
        candidate=job.trainer.name,
        plain=f"Candidate {job.trainer.name!r} failed while {what}: {type(error).__name__}.",
        traceback="".join(traceback.format_exception(error)),
    )
