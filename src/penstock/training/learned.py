"""What training leaves behind: plain values and references, fit to travel between steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from penstock.records import NativeFormat
from penstock.spec import Objective, Search, Trainer

__all__ = ["PREDICTIONS_FILE", "GraphJob", "TrainedCandidate", "TrainingJob", "Trial"]

PREDICTIONS_FILE = "predictions.parquet"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One set of parameters that was tried.

    Attributes:
        number: 0, 1, 2 ... in the order tried.
        params: The values of what was searched.
        value: The objective on the validation part; none for a trial that failed.
        duration_s: How long it took.
        error: Why it failed.
    """

    number: int
    params: Mapping[str, object]
    value: float | None
    duration_s: float
    error: str = ""


class TrainedCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate of a training run: its model, or why there is none.

    The model learned from the train part alone. It is not fitted again on more rows, so that what
    validation and test say is said of the very model that is deployed.

    Attributes:
        candidate: Name of the trainer.
        estimator: ``module:Class`` that was trained.
        prepare: What stands before it, resolved.
        params: The parameters it was built with.
        native: Format of the model file.
        model: Reference of the model file; empty when it failed.
        predictions: Reference of the Parquet file with the validation and test rows: the entity's
            key, ``at``, ``part``, ``label`` and ``prediction`` (Float64, by the stored model).
        value: The objective on the validation part.
        trials: Every trial, in order.
        duration_s: How long it took altogether.
        warnings: What the library warned of while the chosen model was fitted.
        error: Why it failed; empty when it did not.
        traceback: Where it failed.
    """

    candidate: str
    estimator: str
    prepare: Literal["none", "impute", "scale"] = "none"
    params: Mapping[str, object] = {}
    native: NativeFormat = "skops"
    model: str = ""
    predictions: str = ""
    value: float | None = None
    trials: tuple[Trial, ...] = ()
    duration_s: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str = ""
    traceback: str = ""


class GraphJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a graph is put together from.

    Attributes:
        key: Of the graph among ``definitions``.
        definitions: The documents of the graph and of everything it refers to, by key.
        pins: ``model@version`` of each step that predicts.
        packages: Path of the package of each pinned version, by ``model@version``.
    """

    key: str
    definitions: Mapping[str, object]
    pins: Mapping[str, str]
    packages: Mapping[str, str]


class TrainingJob(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that training one candidate takes.

    Attributes:
        trainer: The candidate.
        task: What it shall do.
        search: How its parameters are searched.
        objective: What it is chosen by.
        rows: Path of the dataset's Parquet file.
        features: The columns it learns from, in order.
        label: The column it learns.
        key: The entity's key.
        folder: Where its files go.
        graph: What a graph is put together from; none for what learns.
    """

    trainer: Trainer
    task: Literal["classification", "regression"]
    search: Search
    objective: Objective
    rows: str
    features: tuple[str, ...]
    label: str
    key: str
    folder: str
    graph: GraphJob | None = None
