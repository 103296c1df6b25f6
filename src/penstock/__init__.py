"""Penstock: raw data in, monitored predictions out.

This module holds the names users declare with; everything it imports is pure and quick to import.
``connect`` opens a client of a project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .spec import (
    Aggregate,
    Approval,
    Average,
    Bandit,
    BatchScoring,
    Canary,
    Checks,
    Dataset,
    Deployment,
    DType,
    Entity,
    Experiment,
    Explain,
    Fallback,
    FeatureService,
    FeatureView,
    Files,
    Graph,
    Guardrail,
    Label,
    Lookup,
    Model,
    Monitor,
    OnDemandView,
    Predict,
    Project,
    Protection,
    RandomSplit,
    Retry,
    ScoreLog,
    Search,
    ShuffledSplit,
    Source,
    StratifiedSplit,
    Switch,
    TimeSplit,
    Topic,
    Trigger,
    Vote,
    approx_distinct,
    approx_quantile,
    at_least,
    at_most,
    beats,
    between,
    by_header,
    by_rule,
    cached,
    challenger,
    champion,
    choice,
    col,
    count,
    cron,
    custom,
    decayed_mean,
    feature,
    first,
    first_k,
    function,
    integer,
    last,
    last_k,
    lead,
    lightgbm,
    lit,
    loguniform,
    matches,
    maximise,
    mean,
    minimise,
    new_data,
    new_pins,
    notify,
    one_of,
    p99,
    positive,
    precomputed,
    psi,
    retrain,
    rollback,
    rolling,
    shadow,
    sklearn,
    std,
    top_k,
    uniform,
    unique,
    var,
    xgboost,
)
from .spec import maximum as max  # noqa: A004 - ps.max reads as what it is
from .spec import minimum as min  # noqa: A004 - ps.min reads as what it is
from .spec import total as sum  # noqa: A004 - ps.sum reads as what it is

String = DType.STRING
Int64 = DType.INT64
Float64 = DType.FLOAT64
Boolean = DType.BOOLEAN
Timestamp = DType.TIMESTAMP

if TYPE_CHECKING:
    from pathlib import Path

    from .client import Client


def connect(where: str | Path, *, token: str | None = None, timeout_s: float = 30.0) -> Client:
    """A client that reads features by the name of a feature service.

    Args:
        where: A project folder, or the address of a serving process, such as
            ``"http://host:8001"``.
        token: The caller's token. For a folder it may be left out: the caller is then whom the
            environment's ``PENSTOCK_TOKEN`` names, else whoever works on this machine.
        timeout_s: How long to wait for each answer, for an address.

    Raises:
        NotReadyError: The folder has not been initialised.
        InputError: The address is none.
        UnavailableError: This process has the folder's stores open already.
        AccessError: Nobody has that token.
    """
    # Whoever declares loads none of the libraries that a client needs.
    from .client import connect as opened  # noqa: PLC0415

    return opened(where, token=token, timeout_s=timeout_s)


__all__ = [
    "Aggregate",
    "Approval",
    "Average",
    "Bandit",
    "BatchScoring",
    "Boolean",
    "Canary",
    "Checks",
    "DType",
    "Dataset",
    "Deployment",
    "Entity",
    "Experiment",
    "Explain",
    "Fallback",
    "FeatureService",
    "FeatureView",
    "Files",
    "Float64",
    "Graph",
    "Guardrail",
    "Int64",
    "Label",
    "Lookup",
    "Model",
    "Monitor",
    "OnDemandView",
    "Predict",
    "Project",
    "Protection",
    "RandomSplit",
    "Retry",
    "ScoreLog",
    "Search",
    "ShuffledSplit",
    "Source",
    "StratifiedSplit",
    "String",
    "Switch",
    "TimeSplit",
    "Timestamp",
    "Topic",
    "Trigger",
    "Vote",
    "approx_distinct",
    "approx_quantile",
    "at_least",
    "at_most",
    "beats",
    "between",
    "by_header",
    "by_rule",
    "cached",
    "challenger",
    "champion",
    "choice",
    "col",
    "connect",
    "count",
    "cron",
    "custom",
    "decayed_mean",
    "feature",
    "first",
    "first_k",
    "function",
    "integer",
    "last",
    "last_k",
    "lead",
    "lightgbm",
    "lit",
    "loguniform",
    "matches",
    "max",
    "maximise",
    "mean",
    "min",
    "minimise",
    "new_data",
    "new_pins",
    "notify",
    "one_of",
    "p99",
    "positive",
    "precomputed",
    "psi",
    "retrain",
    "rollback",
    "rolling",
    "shadow",
    "sklearn",
    "std",
    "sum",
    "top_k",
    "uniform",
    "unique",
    "var",
    "xgboost",
]
