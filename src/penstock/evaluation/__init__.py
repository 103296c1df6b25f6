"""Evaluation: metrics, comparison with the champion, gates, and what MLflow shows of it."""

from __future__ import annotations

from penstock.algebra import compute_metric, compute_metrics

from .evaluating import evaluate, mirror, register_candidates
from .gates import judge
from .results import CandidateResult, Evaluation, Rival

__all__ = [
    "CandidateResult",
    "Evaluation",
    "Rival",
    "compute_metric",
    "compute_metrics",
    "evaluate",
    "judge",
    "mirror",
    "register_candidates",
]
