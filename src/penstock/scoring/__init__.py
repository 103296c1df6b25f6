"""Scoring: online routes in batches that wait for nothing, batch runs, and the log of scores."""

from __future__ import annotations

from penstock.deployment import Engine, load_engine

from .ask import Ask, Writer
from .backlog import Backlog, read_backlog
from .batch import BatchPin, BatchScored, pin_batch, score_batch
from .circuit import Circuit
from .counts import Counters, Durations
from .drain import drain_scores, find_score
from .endpoint import Breach, Endpoint
from .explain import Contribution, Explanation, explain_rows
from .explain_worker import explain_in_worker
from .fleet import Fleet, Target, build_fleet, look_at_ages, read_target
from .frames import SCORE_SCHEMA, score_frame, score_spine, scores_in, table_of
from .jobs import JobPin, JobRow, JobScored, job_scores, pin_job, score_job
from .kept import KeptScores
from .lane import Lane
from .routes import Chosen, RouteTable, share_of
from .score_log import ScoreLog
from .served import ServedVersion, load_served

__all__ = [
    "SCORE_SCHEMA",
    "Ask",
    "Backlog",
    "BatchPin",
    "BatchScored",
    "Breach",
    "Chosen",
    "Circuit",
    "Contribution",
    "Counters",
    "Durations",
    "Endpoint",
    "Engine",
    "Explanation",
    "Fleet",
    "JobPin",
    "JobRow",
    "JobScored",
    "KeptScores",
    "Lane",
    "RouteTable",
    "ScoreLog",
    "ServedVersion",
    "Target",
    "Writer",
    "build_fleet",
    "drain_scores",
    "explain_in_worker",
    "explain_rows",
    "find_score",
    "job_scores",
    "load_engine",
    "load_served",
    "look_at_ages",
    "pin_batch",
    "pin_job",
    "read_backlog",
    "read_target",
    "score_batch",
    "score_frame",
    "score_job",
    "score_spine",
    "scores_in",
    "share_of",
    "table_of",
]
