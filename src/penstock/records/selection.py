"""Feature selections: how the features of a dataset were ranked, and which were kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal, TypeAlias

import msgspec

from .base import Record

__all__ = ["FeatureRank", "FeatureSelection", "RankVerdict"]

RankVerdict: TypeAlias = Literal["kept", "beyond top", "redundant", "noise", "constant"]


class FeatureRank(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found of one feature.

    Attributes:
        name: Its full name.
        rank: 1 for the best.
        verdict: Whether it was kept, or why not.
        chi2: Chi-square of its bins against the label; none for a constant.
        chi2_p: The probability of such a chi-square by chance.
        mutual_information: What its bins tell of the label, in nats; none for a constant.
        importance: By how much the score of the quick model on the validation part falls when its
            values are shuffled; measured for the best feature of each group.
        importance_std: Standard deviation of that over the shuffles.
        group: 1, 2, 3 ...: features of one group correlate; 0 for a constant.
        redundant_with: The better feature that stands for its group; empty for that one itself.
        correlation: Spearman's, with the feature that stands for its group.
    """

    name: str
    rank: int
    verdict: RankVerdict
    chi2: float | None = None
    chi2_p: float | None = None
    mutual_information: float | None = None
    importance: float | None = None
    importance_std: float | None = None
    group: int = 0
    redundant_with: str = ""
    correlation: float | None = None


class FeatureSelection(Record, frozen=True):
    """The features of a dataset, ranked once; immutable.

    Attributes:
        selection_id: Hash of the dataset's id and of how was selected; what ``ps.Dataset`` takes as
            ``select``.
        dataset: Name of the dataset.
        dataset_id: The snapshot whose rows were ranked.
        task: ``classification`` or ``regression``.
        seed: Of the samples, the quick model and the shuffles.
        top: At most so many were to be kept; 0 for no limit.
        kept: Names of the kept features, in the dataset's order.
        ranks: Every feature, the best first.
        rows: Rows looked at, of ``train`` and of ``validation``.
        metric: What the quick model is scored by.
        score: The quick model's score on the validation rows.
        artifact: Reference of the folder with ``report.html`` and its pictures.
        created_at: When.
    """

    KIND: ClassVar[str] = "feature_selection"
    INDEXED: ClassVar[tuple[str, ...]] = ("dataset", "dataset_id")

    selection_id: str
    dataset: str
    dataset_id: str
    task: Literal["classification", "regression"]
    seed: int
    top: int
    kept: tuple[str, ...]
    ranks: tuple[FeatureRank, ...]
    rows: Mapping[str, int]
    metric: str
    score: float
    artifact: str
    created_at: datetime

    @property
    def key(self) -> str:
        """The selection's id."""
        return self.selection_id
