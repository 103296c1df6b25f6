"""Model versions, the verdicts on them, and the aliases that point to them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from penstock.spec import ALIASES

from .base import Record

__all__ = ["ALIASES", "Aliases", "GateVerdict", "ModelVersion"]


class GateVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate said.

    Attributes:
        gate: The gate's name, such as ``"roc_auc >= 0.5"``.
        passed: Whether the candidate passed.
        value: The candidate's metric; none where the test rows do not define it.
        bound: What it was compared with; none where there was nobody to beat.
        reason: The comparison in words.
    """

    gate: str
    passed: bool
    value: float | None
    bound: float | None
    reason: str


class ModelVersion(Record, frozen=True):
    """One candidate of one training run, kept for ever.

    Attributes:
        model: Name of the model.
        version: 1, 2, 3 ... within the model.
        candidate: Name of the trainer.
        run_id: The training run.
        dataset_id: What it learned from.
        params: The parameters chosen.
        metrics: ``validation.<metric>`` and ``test.<metric>``.
        verdicts: What each gate said; empty for candidates that were not selected.
        selected: Whether it was the best of its run.
        ready: Whether it was selected and passed every gate.
        tracking_run: Id of the MLflow run.
        package: Reference of the package artifact: manifest, model files, reference sample.
        engine: What serves it: ``onnx``, ``trees``, ``graph`` or ``native``; empty
            until it is packaged.
        engine_reason: Why that engine.
        created_at: When.
        fingerprint: Of the model's declaration.
    """

    KIND: ClassVar[str] = "model_version"
    INDEXED: ClassVar[tuple[str, ...]] = ("model", "run_id", "version")

    model: str
    version: int
    candidate: str
    run_id: str
    dataset_id: str
    params: Mapping[str, object]
    metrics: Mapping[str, float]
    created_at: datetime
    fingerprint: str
    verdicts: tuple[GateVerdict, ...] = ()
    selected: bool = False
    ready: bool = False
    tracking_run: str = ""
    package: str = ""
    engine: Literal["", "onnx", "trees", "native", "graph"] = ""
    engine_reason: str = ""

    @property
    def key(self) -> str:
        """``model/version``, ordered as text like the numbers."""
        return f"{self.model}/{self.version:06d}"

    @property
    def label(self) -> str:
        """How people write it: ``btc-direction@3``."""
        return f"{self.model}@{self.version}"


class Aliases(Record, frozen=True):
    """Which versions of a model the aliases point to; 0 for none.

    Attributes:
        model: Name of the model.
        champion: Answers by default.
        challenger: Answers its share.
        previous: Was champion before; rollback goes there.
        candidate: The newest version that is ready.
        revision: Counts the changes; a writer names the one it read.
        changed_at: When it changed last.
        crowned: The revision since which the champion is the same; 0 for from the beginning, or
            since before that was kept.
    """

    KIND: ClassVar[str] = "aliases"

    model: str
    changed_at: datetime
    champion: int = 0
    challenger: int = 0
    previous: int = 0
    candidate: int = 0
    revision: int = 0
    crowned: int = 0

    @property
    def key(self) -> str:
        """The model's name."""
        return self.model
