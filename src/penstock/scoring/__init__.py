"""Scoring: online routes in batches that wait for nothing, batch runs, and the log of scores."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from penstock.deployment import Engine, load_engine

from .ask import Ask, Waiting, Writer
from .backlog import Backlog, read_backlog
from .circuit import Circuit
from .counts import Counters, Durations, LaneCounts
from .endpoint import Breach, Endpoint
from .fleet import Fleet, Memory, build_fleet, look_at_ages, wake
from .kept import KeptScores
from .lane import LONGEST_WAIT_US, QUEUE_US, Lane
from .lane_rows import unknown_error
from .light import Light
from .payloads import score_key
from .routes import Chosen, RouteTable, share_of
from .score_log import ScoreLog
from .served import ServedVersion, load_served
from .shelf import Held, let_go
from .standing import StandIn, answers_at_once, make_stand_in, needs_no_model
from .target import Target, audited_to, read_target
from .together import Together, all_scores, in_row
from .traces import BatchTrace, RequestTrace

if TYPE_CHECKING:
    from .batch import BatchPin, BatchScored, pin_batch, score_batch
    from .drain import drain_scores, find_score
    from .explain import Contribution, Explanation, explain_rows
    from .explain_steps import exact_explainer
    from .explain_worker import explain_in_worker, steps_in_worker
    from .frames import SCORE_SCHEMA, score_frame, score_spine, scores_in, table_of
    from .jobs import JobPin, JobRow, JobScored, job_scores, pin_job, score_job

__all__ = [
    "LONGEST_WAIT_US",
    "QUEUE_US",
    "SCORE_SCHEMA",
    "Ask",
    "Backlog",
    "BatchPin",
    "BatchScored",
    "BatchTrace",
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
    "Held",
    "JobPin",
    "JobRow",
    "JobScored",
    "KeptScores",
    "Lane",
    "LaneCounts",
    "Light",
    "Memory",
    "RequestTrace",
    "RouteTable",
    "ScoreLog",
    "ServedVersion",
    "StandIn",
    "Target",
    "Together",
    "Waiting",
    "Writer",
    "all_scores",
    "answers_at_once",
    "audited_to",
    "build_fleet",
    "drain_scores",
    "exact_explainer",
    "explain_in_worker",
    "explain_rows",
    "find_score",
    "in_row",
    "job_scores",
    "let_go",
    "load_engine",
    "load_served",
    "look_at_ages",
    "make_stand_in",
    "needs_no_model",
    "pin_batch",
    "pin_job",
    "read_backlog",
    "read_target",
    "score_batch",
    "score_frame",
    "score_job",
    "score_key",
    "score_spine",
    "scores_in",
    "share_of",
    "steps_in_worker",
    "table_of",
    "unknown_error",
    "wake",
]

LAZY = {
    name: module
    for module, names in {
        ".batch": ("BatchPin", "BatchScored", "pin_batch", "score_batch"),
        ".drain": ("drain_scores", "find_score"),
        ".explain": ("Contribution", "Explanation", "explain_rows"),
        ".explain_steps": ("exact_explainer",),
        ".explain_worker": ("explain_in_worker", "steps_in_worker"),
        ".frames": ("SCORE_SCHEMA", "score_frame", "score_spine", "scores_in", "table_of"),
        ".jobs": ("JobPin", "JobRow", "JobScored", "job_scores", "pin_job", "score_job"),
    }.items()
    for name in names
}


def __getattr__(name: str) -> object:
    if name in LAZY:
        return getattr(import_module(LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
