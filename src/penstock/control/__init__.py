"""The loop closed: pipelines of every stage, what calls for them, and what a breach leads to."""

from __future__ import annotations

from .actions import NOTIFICATIONS_TOPIC, Notification, react
from .bandits import advance_bandit, bandits, find_bandit
from .canary import advance_canaries
from .causes import Cause
from .checking import check_features, check_scores, check_view, report_inconsistent
from .deploying import carry_out
from .experiment_looks import RATIO_LEVEL
from .experiment_page import experiment_page, rail_word, sentence
from .experiments import (
    advance_experiment,
    experiments,
    find_experiment,
    live_experiment,
    stop_experiment,
    waiting_for,
)
from .explaining import ScoreExplanation, explain
from .graphs import GraphState, GraphStepState, graph_names, graph_state
from .happened import Happened, HappenedPage, happened_after, newest_happened
from .hiding import shown_run, shown_values
from .jobs import (
    BACK_OFF,
    JobState,
    cancel_job,
    champion_of,
    find_job,
    job_page,
    job_state,
    jobs_of,
    settle_jobs,
    submit_job,
)
from .known import Known
from .lineage import lineage
from .links import Lineage, Link
from .listing import Freshness, Listing, ViewState, list_features, view_states
from .overview import AppliedVersion, Overview, OverviewKind, overview, profiled_columns
from .partitioning import (
    PartitionState,
    partition_states,
    want_partitions,
    wanted_partitions,
)
from .pipelines import (
    PIPELINES,
    Submission,
    bandit_pipeline,
    bandit_run,
    check_pipeline,
    check_run,
    deploy_pipeline,
    deploy_run,
    experiment_pipeline,
    experiment_run,
    ingest_pipeline,
    ingest_run,
    monitor_pipeline,
    monitor_run,
    profile_pipeline,
    profile_run,
    prune_pipeline,
    prune_run,
    release_run,
    retry,
    score_pipeline,
    score_run,
    start,
    train_pipeline,
    train_run,
    vacuum_pipeline,
    vacuum_run,
)
from .profiling import profile_views
from .pruning import PrunedScores, prune_scores
from .read_checks import check_reads
from .refreshing import (
    drop_ready_vectors,
    drop_unread_spaces,
    refresh_features,
    refresh_ready_vectors,
)
from .replay import FeatureReplay, Replay, replay
from .retrying import NextTry, Retried, next_try, retry_failed
from .scores import shown_score
from .served import check_served
from .steps import step_functions
from .triggers import due
from .upkeep import CheckSchedule, ProfileSchedule, PruneSchedule, VacuumSchedule
from .usage import Usage
from .vacuuming import VacuumedTable, pinned_versions, vacuum_features, vacuum_raw

__all__ = [
    "BACK_OFF",
    "NOTIFICATIONS_TOPIC",
    "PIPELINES",
    "RATIO_LEVEL",
    "AppliedVersion",
    "Cause",
    "CheckSchedule",
    "FeatureReplay",
    "Freshness",
    "GraphState",
    "GraphStepState",
    "Happened",
    "HappenedPage",
    "JobState",
    "Known",
    "Lineage",
    "Link",
    "Listing",
    "NextTry",
    "Notification",
    "Overview",
    "OverviewKind",
    "PartitionState",
    "ProfileSchedule",
    "PruneSchedule",
    "PrunedScores",
    "Replay",
    "Retried",
    "ScoreExplanation",
    "Submission",
    "Usage",
    "VacuumSchedule",
    "VacuumedTable",
    "ViewState",
    "advance_bandit",
    "advance_canaries",
    "advance_experiment",
    "bandit_pipeline",
    "bandit_run",
    "bandits",
    "cancel_job",
    "carry_out",
    "champion_of",
    "check_features",
    "check_pipeline",
    "check_reads",
    "check_run",
    "check_scores",
    "check_served",
    "check_view",
    "deploy_pipeline",
    "deploy_run",
    "drop_ready_vectors",
    "drop_unread_spaces",
    "due",
    "experiment_page",
    "experiment_pipeline",
    "experiment_run",
    "experiments",
    "explain",
    "find_bandit",
    "find_experiment",
    "find_job",
    "graph_names",
    "graph_state",
    "happened_after",
    "ingest_pipeline",
    "ingest_run",
    "job_page",
    "job_state",
    "jobs_of",
    "lineage",
    "list_features",
    "live_experiment",
    "monitor_pipeline",
    "monitor_run",
    "newest_happened",
    "next_try",
    "overview",
    "partition_states",
    "pinned_versions",
    "profile_pipeline",
    "profile_run",
    "profile_views",
    "profiled_columns",
    "prune_pipeline",
    "prune_run",
    "prune_scores",
    "rail_word",
    "react",
    "refresh_features",
    "refresh_ready_vectors",
    "release_run",
    "replay",
    "report_inconsistent",
    "retry",
    "retry_failed",
    "score_pipeline",
    "score_run",
    "sentence",
    "settle_jobs",
    "shown_run",
    "shown_score",
    "shown_values",
    "start",
    "step_functions",
    "stop_experiment",
    "submit_job",
    "train_pipeline",
    "train_run",
    "vacuum_features",
    "vacuum_pipeline",
    "vacuum_raw",
    "vacuum_run",
    "view_states",
    "waiting_for",
    "want_partitions",
    "wanted_partitions",
]
