"""What happens to a deployment after it answers: outcomes, drift, accuracy, latency."""

from __future__ import annotations

from .look import look, measure_version
from .observations import OBSERVATIONS_TOPIC, REJECTED_TOPIC, drain_observations, observe
from .outcomes import latest_outcomes, measured

__all__ = [
    "OBSERVATIONS_TOPIC",
    "REJECTED_TOPIC",
    "drain_observations",
    "latest_outcomes",
    "look",
    "measure_version",
    "measured",
    "observe",
]
