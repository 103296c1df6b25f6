"""Evaluation: metrics, comparison with the champion, gates, and what MLflow shows of it."""

from __future__ import annotations

from penstock.algebra import compute_metric, compute_metrics

from .evaluating import evaluate, register_candidates
from .gates import judge
from .results import CandidateResult, Evaluation, Rival
from .selection import select_features
from .tracking_tasks import mirror, preparing_tracking

__all__ = [
    "CandidateResult",
    "Evaluation",
    "Rival",
    "compute_metric",
    "compute_metrics",
    "evaluate",
    "judge",
    "mirror",
    "preparing_tracking",
    "register_candidates",
    "select_features",
]
