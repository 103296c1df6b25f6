"""Training: run the trainers, search their parameters, keep what was learned."""

from __future__ import annotations

from .candidates import check_candidates, train_candidates
from .graphs import graph_job, put_together
from .learned import TrainedCandidate, Trial

__all__ = [
    "TrainedCandidate",
    "Trial",
    "check_candidates",
    "graph_job",
    "put_together",
    "train_candidates",
]
