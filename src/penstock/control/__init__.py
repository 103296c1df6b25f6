"""The loop closed: pipelines of every stage, what calls for them, and what a breach leads to."""

from __future__ import annotations

from .actions import NOTIFICATIONS_TOPIC, Notification, react
from .pipelines import (
    Submission,
    ingest_pipeline,
    ingest_run,
    monitor_pipeline,
    monitor_run,
    score_pipeline,
    score_run,
    start,
    train_pipeline,
    train_run,
)
from .triggers import due

__all__ = [
    "NOTIFICATIONS_TOPIC",
    "Notification",
    "Submission",
    "due",
    "ingest_pipeline",
    "ingest_run",
    "monitor_pipeline",
    "monitor_run",
    "react",
    "score_pipeline",
    "score_run",
    "start",
    "train_pipeline",
    "train_run",
]
