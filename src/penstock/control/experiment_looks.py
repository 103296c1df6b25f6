"""One look at an experiment: its arms, how they differ, and what follows from that.

An entity's arm is the one that its key's hash gives it, by the very table that serving processes
route with, and not the version that happened to answer: where the tried version failed and a
fallback answered, the score counts for the tried arm, so a version gains nothing by failing on
what is hard. Scores of requests that a header or a rule led, and those whose client named a
version, were never the experiment's to assign and are left out of both arms.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from penstock.algebra import arm_mean, compare, ratio_evidence, score_values
from penstock.deployment import changes_of
from penstock.monitoring import latest_outcomes, measured
from penstock.plan import routed
from penstock.records import Arm, ExperimentLook, GuardrailLook
from penstock.scoring import RouteTable, table_of
from penstock.spec import MEASURES, OUTCOME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.algebra import ArmMean, FloatArray, IntArray
    from penstock.ports import Services
    from penstock.records import ExperimentState, Verdict
    from penstock.spec import Deployment, Experiment, Guardrail

__all__ = ["EFFECTIVE", "RATIO_LEVEL", "judge", "look_at", "smaller_is_better"]

EFFECTIVE = 30.0
"""Entities that an arm has to count as before its interval means anything."""

RATIO_LEVEL = 0.0005
"""Evidence that is too strong for entities that fall as they should.

There are two such tests, so one in a thousand sound experiments at most is ever called invalid.
"""

LATENCY = "latency_ms"
NO_SCORES: Mapping[str, pl.DataType] = {
    "prediction_id": pl.String(), "entity": pl.String(), "version": pl.Int64(),
    "prediction": pl.Float64(), "duration_us": pl.Int64(), "value": pl.Float64(),
}  # fmt: skip
COLUMNS = ("prediction_id", "entity", "version", "prediction", "duration_us")
ASSIGNED = pl.col("route").is_in(["champion", "challenger", "fallback", "cached"])
NAMED = (pl.col("route") == "challenger") & (pl.col("reason") == "")  # the client asked for it
DAY_US = 86_400_000_000
CHAMPION, TRIED, NEITHER = 0, 1, 2


class _Rows(NamedTuple):
    """The scores of an experiment, as columns of one length.

    Attributes:
        arm: ``CHAMPION``, ``TRIED`` or ``NEITHER``.
        entity: Number of the entity.
        version: Version that answered.
        latency: Time to answer, in milliseconds.
        outcome: The outcome; NaN where it is not known.
        measures: What was observed beside it, by metric; NaN where it was not told.
        prediction: The prediction.
    """

    arm: IntArray
    entity: IntArray
    version: IntArray
    latency: FloatArray
    outcome: FloatArray
    measures: Mapping[str, FloatArray]
    prediction: FloatArray


def smaller_is_better(metric: str, better: str) -> bool:
    """Whether a smaller mean is better."""
    told = metric == OUTCOME or metric.startswith(MEASURES)
    return better == "smaller" if told else True


def look_at(
    services: Services, declared: Deployment, state: ExperimentState, plan: Experiment, to_us: int
) -> ExperimentLook:
    """Compare the arms over all scores since the experiment began.

    Args:
        services: The ports; uses tables and metadata.
        declared: The deployment.
        state: The experiment; its routes are as they were when it began.
        plan: What was declared of it.
        to_us: Scores up to this time, in microseconds since 1970 UTC.
    """
    metrics = [state.metric, *(one.metric for one in plan.guardrails)]
    measures = [one for one in metrics if one.startswith(MEASURES)]
    frame, without_key = _scores(services, state, to_us, measures)
    rows = _assigned(services, declared, state, frame, measures)
    tried, champion = (_arm(rows, arm, state, state.metric) for arm in (TRIED, CHAMPION))
    found = compare(
        _mean(rows, TRIED, state.metric), _mean(rows, CHAMPION, state.metric),
        alpha=plan.alpha, expected=plan.expected_scores,
    )  # fmt: skip
    share = plan.share / (1 - sum(state.shares.values()) + plan.share)
    rails = tuple(_guarded(rows, one, plan) for one in plan.guardrails)
    return ExperimentLook(
        at_us=to_us,
        tried=tried,
        champion=champion,
        difference=found.difference if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        ratio=ratio_evidence(tried.entities, champion.entities, share),
        observed_ratio=ratio_evidence(tried.observed_entities, champion.observed_entities, share),
        without_key=without_key,
        guardrails=rails,
    )


def judge(
    state: ExperimentState, plan: Experiment, look: ExperimentLook
) -> tuple[Verdict, str] | None:
    """What a look means; None where the experiment goes on.

    Args:
        state: The experiment.
        plan: What was declared of it.
        look: The look.
    """
    wrong = _ratio_fault(look)
    if wrong:
        return "invalid", wrong
    for rail in look.guardrails:
        if rail.breached:
            return "loss", f"{rail.metric} is surely worse than allowed: {_interval(rail, plan)}"
    arms = (look.tried, look.champion)
    enough = all(_enough(arm.observed, arm.effective, plan) for arm in arms)
    low, high = look.low or 0.0, look.high or 0.0
    if enough and (low > 0 or high < 0):
        better = (high < 0) == state.smaller_is_better
        word = "better" if better else "worse"
        said = f"{state.label} is {word}: its mean {state.metric} by {_interval(look, plan)}"
        return ("win" if better else "loss"), said
    if look.at_us - state.from_us >= plan.max_days * DAY_US:
        said = _interval(look, plan) if look.low is not None else "too few outcomes"
        return "undecided", f"no difference found in {plan.max_days:g} days: {said}"
    return None


def _interval(seen: ExperimentLook | GuardrailLook, plan: Experiment) -> str:
    ends = f"between {seen.low:+.4g} and {seen.high:+.4g}"
    return f"{seen.difference:+.4g} ({ends}, {100 - 100 * plan.alpha:.4g} % sure)"


def _enough(scores: int, effective: float, plan: Experiment) -> bool:
    return scores >= plan.min_scores and effective >= EFFECTIVE


def _ratio_fault(look: ExperimentLook) -> str:
    tried, champion = look.tried, look.champion
    counts = {
        "scored entities": (look.ratio, tried.entities, champion.entities),
        "entities with an outcome": (
            look.observed_ratio, tried.observed_entities, champion.observed_entities,
        ),
    }  # fmt: skip
    for what, (evidence, mine, others) in counts.items():
        if evidence < RATIO_LEVEL:
            return (
                f"{what} do not fall to the arms as they should: {mine} met the tried version and "
                f"{others} the champion; something loses entities of one arm"
            )
    return ""


def _scores(
    services: Services, state: ExperimentState, to_us: int, measures: Sequence[str]
) -> tuple[pl.DataFrame, int]:
    """The scores that the experiment had to assign, and how many named no entity."""
    tables, table = services.tables, table_of(state.deployment)
    if tables.version(table) is None:
        return pl.DataFrame(schema={**NO_SCORES, **dict.fromkeys(measures, pl.Float64())}), 0
    at = pl.col("scored_at_us")
    ours = (
        tables.scan(table)
        .filter((at >= state.from_us) & (at <= to_us) & (pl.col("model") == state.model))
        .filter(ASSIGNED & ~NAMED & pl.col("prediction").is_finite())
        .select(*COLUMNS)
    )
    outcomes = latest_outcomes(tables, state.deployment, ours).select(
        "prediction_id",
        "value",
        *(measured(one.removeprefix(MEASURES)).alias(one) for one in dict.fromkeys(measures)),
    )
    frame = ours.join(outcomes, on="prediction_id", how="left").collect()
    keyed = frame.filter(pl.col("entity") != "")
    return keyed, frame.height - keyed.height


def _assigned(
    services: Services,
    declared: Deployment,
    state: ExperimentState,
    frame: pl.DataFrame,
    measures: Sequence[str],
) -> _Rows:
    now = routed(declared, changes_of(services.metadata, declared.name))
    table = RouteTable(now)
    arms = {
        name: TRIED if route.target == state.target else NEITHER
        for name, route in now.named_routes.items()
        if route.role == "challenger"
    } | {"champion": CHAMPION}
    keys = frame["entity"].unique().sort().to_list()
    codes = frame["entity"].rank("dense").to_numpy().astype(np.int64) - 1
    by_entity = np.array([arms[table.by_share(key).name] for key in keys], dtype=np.int64)
    return _Rows(
        arm=by_entity[codes],
        entity=codes,
        version=frame["version"].to_numpy().astype(np.int64),
        latency=frame["duration_us"].to_numpy().astype(np.float64) / 1000,
        outcome=_numbers(frame["value"]),
        measures={one: _numbers(frame[one]) for one in measures},
        prediction=frame["prediction"].to_numpy().astype(np.float64),
    )


def _numbers(column: pl.Series) -> FloatArray:
    found: FloatArray = column.cast(pl.Float64).fill_null(math.nan).to_numpy()
    return found


def _mean(rows: _Rows, arm: int, metric: str) -> ArmMean:
    """An arm's mean over the scores of which the metric is known."""
    mine = rows.arm == arm
    told = rows.latency if metric == LATENCY else rows.measures.get(metric, rows.outcome)
    known = mine & np.isfinite(told)
    if metric == LATENCY or metric in rows.measures:
        return arm_mean(told[known], rows.entity[known])
    values = score_values(metric, rows.outcome[known], rows.prediction[known])
    return arm_mean(values, rows.entity[known])


def _arm(rows: _Rows, arm: int, state: ExperimentState, metric: str) -> Arm:
    mine, found = rows.arm == arm, _mean(rows, arm, metric)
    version = state.version if arm == TRIED else state.champion
    return Arm(
        entities=int(np.unique(rows.entity[mine]).size),
        scores=int(np.count_nonzero(mine)),
        answered=int(np.count_nonzero(mine & (rows.version == version))),
        observed_entities=found.entities,
        observed=found.scores,
        effective=found.effective,
        mean=found.mean if found.scores else None,
    )


def _guarded(rows: _Rows, rail: Guardrail, plan: Experiment) -> GuardrailLook:
    """A guardrail's difference; together they call off a good version with a chance of alpha.

    What is enough goes by the scores that it counts itself: the latency of those without an
    outcome is known as well, and a measure is told of some of those with one.
    """
    arms = [_mean(rows, arm, rail.metric) for arm in (TRIED, CHAMPION)]
    found = compare(*arms, alpha=plan.alpha / len(plan.guardrails), expected=plan.expected_scores)
    if found is None:
        return GuardrailLook(metric=rail.metric)
    smaller = smaller_is_better(rail.metric, rail.better)
    worst = found.low if smaller else -found.high  # it is at least so much worse
    return GuardrailLook(
        metric=rail.metric,
        difference=found.difference,
        low=found.low,
        high=found.high,
        breached=worst > rail.worse and all(_enough(a.scores, a.effective, plan) for a in arms),
    )
