"""What the arms of a bandit brought: of the scores that are there, and of those that were removed.

A deployment may keep scores for a while only, and its bandit learns for as long as it runs. Before
scores are removed, what they brought is summed up by version and entity, and the sums are kept: the
estimates from sums and scores are those from all scores. A sum says no more of the entity than a
hash with the project's key, and nothing of what was asked or answered.

The sums of a removal are one append whose number is the time up to which scores are removed. Scores
before the greatest such time count by their sums alone, so it matters nothing whether a removal
that was killed has removed its scores; the next sums up from that time on.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from penstock.algebra import score_values
from penstock.monitoring import latest_outcomes, measured
from penstock.records import to_plain
from penstock.scoring import score_key, table_of
from penstock.spec import MEASURES, OUTCOME

if TYPE_CHECKING:
    from penstock.algebra import FloatArray, IntArray
    from penstock.ports import Services
    from penstock.records import BanditState
    from penstock.spec import Bandit, Deployment

__all__ = ["Rewards", "keep_rewards", "rewards_of"]

APP = "bandit"
KEPT = pl.Schema(
    {
        "bandit": pl.String, "began_us": pl.Int64, "version": pl.Int64, "entity": pl.Int64,
        "scores": pl.Float64, "mean": pl.Float64, "spread": pl.Float64,
        "weight": pl.Float64, "weighed": pl.Float64, "binary": pl.Boolean,
    }
)  # fmt: skip
PROPENSITY = pl.col("reason").str.extract(r"^share ([0-9.e+-]+)$").cast(pl.Float64)


class Rewards(NamedTuple):
    """What was brought, as columns of one length: a score each, or the sum of an entity's.

    Attributes:
        version: Version that answered.
        entity: Number of the entity; of requests without one each is its own.
        scores: How many scores.
        mean: Mean of their rewards; the greater the better.
        spread: Sum of the squares of what the rewards differ from that mean by.
        weight: Sum over the scores of one over the share that the arm had.
        weighed: Mean of the rewards, weighed by that.
        binary: Whether every reward is 0 or 1.
    """

    version: IntArray
    entity: IntArray
    scores: FloatArray
    mean: FloatArray
    spread: FloatArray
    weight: FloatArray
    weighed: FloatArray
    binary: bool


def rewards_of(
    services: Services, declared: Deployment, plan: Bandit, state: BanditState, to_us: int
) -> Rewards:
    """What was brought since a bandit began, by scores up to a time whose outcome is known.

    Args:
        services: The ports; uses tables. The bandit's lock is held.
        declared: The deployment.
        plan: The bandit.
        state: When it began.
        to_us: The time, in microseconds since 1970 UTC.
    """
    table = _kept_table(declared.name)
    summed_us = services.tables.applied(table, APP)
    scores = _scores(services, declared, plan, max(state.began_us, summed_us), to_us + 1)
    ours = (pl.col("bandit") == state.name) & (pl.col("began_us") == state.began_us)
    kept = (
        services.tables.scan(table).filter(ours).collect()
        if summed_us > state.began_us
        else pl.DataFrame(schema=KEPT)
    )
    if kept.is_empty():
        numbered = scores.with_columns(entity=pl.col("unit").rank("dense").cast(pl.Int64))
        return _columns(numbered)
    columns = list(Rewards._fields)
    return _columns(pl.concat([kept.select(columns), _hashed(services, scores).select(columns)]))


def keep_rewards(
    services: Services, declared: Deployment, state: BanditState, below_us: int
) -> None:
    """Sum up what scores brought that are about to be removed; done again, it does nothing.

    Args:
        services: The ports; uses tables. The bandit's lock is held.
        declared: The deployment.
        state: Its bandit.
        below_us: Scores before this time are removed, in microseconds since 1970 UTC.
    """
    plan, table = declared.bandit, _kept_table(declared.name)
    summed_us = services.tables.applied(table, APP)
    from_us = max(state.began_us, summed_us)
    if plan is None or to_plain(plan) != state.plan or below_us <= from_us:
        return
    scores = _hashed(services, _scores(services, declared, plan, from_us, below_us))
    mean, number = pl.col("mean"), pl.col("scores")
    sums = (
        scores.group_by("version", "entity")
        .agg(
            number.sum(),
            mean.mean(),
            spread=((mean - mean.mean()) ** 2).sum(),
            weight=pl.col("weight").sum(),
            weighed=(pl.col("weight") * mean).sum() / pl.col("weight").sum(),
            binary=pl.col("binary").all(),
        )
        .with_columns(bandit=pl.lit(state.name), began_us=pl.lit(state.began_us, dtype=pl.Int64))
        .select(pl.col(name).cast(dtype) for name, dtype in KEPT.items())
    )
    services.tables.append(table, sums, app=APP, number=below_us)


def _scores(
    services: Services, declared: Deployment, plan: Bandit, from_us: int, below_us: int
) -> pl.DataFrame:
    """What each score brought, a row each; ``unit`` says whose it is."""
    tables, table = services.tables, table_of(declared.name)
    if tables.version(table) is None:
        return pl.DataFrame(schema={**KEPT, "unit": pl.String})
    at = pl.col("scored_at_us")
    ours = (
        tables.scan(table)
        .filter((at >= from_us) & (at < below_us) & (pl.col("model") == declared.model.name))
        .filter(pl.col("route").is_in(["champion", "challenger"]))
        .filter(pl.col("prediction").is_finite())
        .select("prediction_id", "entity", "version", "prediction", propensity=PROPENSITY)
        .filter(pl.col("propensity") > 0)
    )
    outcomes = latest_outcomes(tables, declared.name, ours)
    if plan.metric.startswith(MEASURES):
        told = measured(plan.metric.removeprefix(MEASURES))
        outcomes = outcomes.with_columns(value=told).drop_nulls("value")
    frame = ours.join(outcomes, on="prediction_id").collect()
    outcome = frame["value"].to_numpy().astype(np.float64)
    prediction = frame["prediction"].to_numpy().astype(np.float64)
    reward = pl.Series("mean", _reward(plan.metric, outcome, prediction), dtype=pl.Float64)
    unit = pl.when(pl.col("entity") == "").then("prediction_id").otherwise("entity")
    return frame.select(
        "version",
        reward,
        unit.alias("unit"),
        scores=pl.lit(1.0),
        spread=pl.lit(0.0),
        weight=1 / pl.col("propensity"),
        weighed=reward,
        binary=reward.is_in([0.0, 1.0]),
    )


def _reward(metric: str, outcome: FloatArray, prediction: FloatArray) -> FloatArray:
    """The reward of each score, the greater the better."""
    if metric == OUTCOME or metric.startswith(MEASURES):
        return outcome
    losses = score_values(metric, outcome, prediction)
    return 1 - losses if metric == "error" else -losses


def _hashed(services: Services, scores: pl.DataFrame) -> pl.DataFrame:
    """The scores with a number for whose each is that says nothing without the project's key."""
    key = score_key(services)
    names = scores["unit"].unique()
    digests = (hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in names)
    numbers = [int.from_bytes(digest, "big", signed=True) for digest in digests]
    known = pl.DataFrame({"unit": names, "entity": pl.Series(numbers, dtype=pl.Int64)})
    return scores.drop("entity", strict=False).join(known, on="unit")


def _columns(frame: pl.DataFrame) -> Rewards:
    numbers = {
        name: frame[name].to_numpy().astype(np.float64)
        for name in ("scores", "mean", "spread", "weight", "weighed")
    }
    return Rewards(
        version=frame["version"].to_numpy().astype(np.int64),
        entity=frame["entity"].to_numpy().astype(np.int64),
        binary=bool(frame["binary"].all()),
        **numbers,
    )


def _kept_table(deployment: str) -> str:
    return f"rewards/{deployment}"
