"""The manifest: everything needed to explain, check and rebuild one model version."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

__all__ = [
    "MANIFEST_SCHEMA",
    "ColumnBins",
    "EngineChoice",
    "EngineName",
    "EngineTrial",
    "Manifest",
    "NativeFormat",
]

MANIFEST_SCHEMA = 1

NativeFormat = Literal["skops", "ubj", "lgb", "custom", "graph"]
"""Formats of native models: of scikit-learn, XGBoost, LightGBM, a class of the user, a graph."""

EngineName = Literal["native", "onnx", "trees", "graph"]
"""What computes predictions: the library that trained the model, onnxruntime, compiled trees, or
the engines of the models of a graph."""


class ColumnBins(msgspec.Struct, frozen=True, kw_only=True):
    """How the training rows spread over one feature: the reference that drift is measured against.

    Attributes:
        edges: Inner edges of the bins, growing; a value belongs to the first bin whose edge is >=
            it.
        counts: Rows per bin, one more than edges, and last the rows without a value.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class EngineTrial(msgspec.Struct, frozen=True, kw_only=True):
    """One engine that was tried for a version.

    Attributes:
        engine: What it is.
        dtype: Type of the input that it takes.
        proved: Whether its answers were equal to the native model's on every row compared.
        reason: What the comparison found, or why there is no such engine.
        max_difference: Greatest difference of a prediction; -1 where one was missing.
        one_us: Median time of one row, in microseconds; 0 where it was not proved.
        batch_us: Median time of 64 rows; 0 likewise.
    """

    engine: EngineName
    dtype: Literal["float32", "float64"]
    proved: bool
    reason: str
    max_difference: float = 0.0
    one_us: float = 0.0
    batch_us: float = 0.0


class EngineChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What serves the version, and why.

    Attributes:
        engine: The fastest at one row of those whose answers were proved equal; ``native`` where
            none was.
        dtype: Type of the input that the engine takes.
        reason: The proof, or what spoke against every other engine.
        rows: Rows compared.
        max_difference: Greatest difference of a prediction from the native model's.
        native_us: Median time of one row through the native model, in microseconds.
        engine_us: Median time of one row through the engine.
        batch_engine: What answers larger batches, where another one is faster there; else empty.
        batch_from: Rows from which it does.
        tried: Every engine with what was found and how long it took; empty for versions packaged
            before this was kept.
    """

    engine: EngineName
    dtype: Literal["float32", "float64"]
    reason: str
    rows: int
    max_difference: float
    native_us: float
    engine_us: float
    batch_engine: Literal["", "native", "onnx", "trees", "graph"] = ""
    batch_from: int = 0
    tried: tuple[EngineTrial, ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``manifest.json`` of a package.

    A package is a folder: ``manifest.json``; the native model ``model.skops``,
    ``model.ubj``, ``model.txt``, ``model.custom`` or ``model.graph``;
    ``model.onnx`` and ``trees.npz`` where those engines serve; ``sample.parquet`` with up to 1,000
    test rows (the features as float64, the label, and ``prediction`` by the native model).

    Attributes:
        schema: Number of this layout.
        model: Name of the model.
        version: Its version.
        task: What it does; the prediction of a classification is the probability of true.
        candidate: Name of the trainer.
        estimator: ``module:Class``.
        prepare: What stands before the estimator, resolved: ``none``, ``impute`` or ``scale``.
        params: The parameters it was built with.
        native: Format of the native model.
        entity: Name of the entity, which is the key's column.
        entity_dtype: Its type.
        features: Full names, in the order the model sees them.
        dtypes: Type of each feature: ``int64`` or ``float64``.
        views: Feature view to the fingerprint of its declaration.
        label: Name of the label.
        dataset_id: What it learned from.
        service: The feature service that it learned from; empty for features listed one by one.
        service_id: The service's id as it was then; see ``penstock.FeatureService``.
        entities: Every entity its features are about, to the type of its key; empty where that is
            ``entity`` alone.
        request: The request fields of its on-demand views, to their types.
        selection_id: The feature selection whose kept features it learned from; empty for none.
        tables: Version of each table that was read.
        definitions: The documents of the model and of everything it refers to, by key.
        functions: ``module:qualname`` of each Python function of the user to its source's sha256.
        dependencies: Installed version of each library that took part, and of Python.
        commit: Commit of the project folder; empty when there is none.
        diff: What differed from the commit.
        metrics: ``validation.<metric>`` and ``test.<metric>``.
        tags: Of the declaration.
        owner: Of the declaration.
        files: sha256 of every other file in the package.
        bins: The spread of the training rows, per feature.
        engine: What serves it; none until it is packaged.
        created_at: When.
    """

    model: str
    version: int
    task: Literal["classification", "regression"]
    candidate: str
    estimator: str
    prepare: Literal["none", "impute", "scale"]
    params: Mapping[str, object]
    native: NativeFormat
    entity: str
    entity_dtype: str
    features: tuple[str, ...]
    dtypes: Mapping[str, str]
    views: Mapping[str, str]
    label: str
    dataset_id: str
    tables: Mapping[str, int]
    definitions: Mapping[str, object]
    functions: Mapping[str, str]
    dependencies: Mapping[str, str]
    commit: str
    diff: str
    metrics: Mapping[str, float]
    files: Mapping[str, str]
    bins: Mapping[str, ColumnBins]
    created_at: datetime
    tags: tuple[str, ...] = ()
    owner: str = ""
    selection_id: str = ""
    service: str = ""
    service_id: str = ""
    entities: Mapping[str, str] = {}
    request: Mapping[str, str] = {}
    engine: EngineChoice | None = None
    schema: int = MANIFEST_SCHEMA

    @property
    def keys(self) -> dict[str, str]:
        """The entities a request names, ``entity`` first, to the types of their keys."""
        return {self.entity: self.entity_dtype} | dict(self.entities)

    @property
    def given(self) -> tuple[str, ...]:
        """What a request says beside the key of ``entity``: further keys and request fields."""
        return (*[name for name in self.keys if name != self.entity], *self.request)
