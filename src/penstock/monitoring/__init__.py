"""What happens to a deployment after it answers: outcomes, drift, accuracy, latency."""

from __future__ import annotations

from .look import look, measure_version
from .observations import OBSERVATIONS_TOPIC, REJECTED_TOPIC, drain_observations, observe

__all__ = [
    "OBSERVATIONS_TOPIC",
    "REJECTED_TOPIC",
    "drain_observations",
    "look",
    "measure_version",
    "observe",
]
