from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra import (
    arm_mean,
    compare,
    compute_metric,
    half_width,
    ratio_evidence,
    score_values,
)
from penstock.errors import NotFoundError

VALUES = st.floats(min_value=-1e3, max_value=1e3)
ROWS = st.lists(st.tuples(VALUES, st.integers(min_value=0, max_value=5)), min_size=2, max_size=40)
ALPHA = 0.05


def naive_mean(rows: list[tuple[float, int]]) -> tuple[float, float]:
    """The mean of an arm and its variance by entities, word for word as the law says it."""
    mean = sum(value for value, _ in rows) / len(rows)
    spread = 0.0
    entities = {entity for _, entity in rows}
    for wanted in entities:
        values = [value for value, entity in rows if entity == wanted]
        spread += (sum(values) - mean * len(values)) ** 2
    factor = len(entities) / (len(entities) - 1) if len(entities) > 1 else math.nan
    return mean, spread / len(rows) ** 2 * factor


def naive_rows(rows: list[tuple[float, int]]) -> float:
    mean = sum(value for value, _ in rows) / len(rows)
    return sum((value - mean) ** 2 for value, _ in rows) / (len(rows) - 1) / len(rows)


@given(ROWS, ROWS)
def test_the_interval_is_the_law_s(
    tried: list[tuple[float, int]], other: list[tuple[float, int]]
) -> None:
    arms = [
        arm_mean(np.array([v for v, _ in rows]), np.array([e for _, e in rows]))
        for rows in (tried, other)
    ]
    for rows, arm in zip((tried, other), arms, strict=True):
        mean, variance = naive_mean(rows)
        assert arm.mean == pytest.approx(mean, abs=1e-9)
        assert arm.variance == pytest.approx(variance, rel=1e-6, abs=1e-9, nan_ok=True)
        assert 1 - 1e-9 <= arm.effective <= arm.entities + 1e-9

    found = compare(arms[0], arms[1], alpha=ALPHA, expected=100)

    by_entities = naive_mean(tried)[1] + naive_mean(other)[1]
    by_rows = naive_rows(tried) + naive_rows(other)
    if math.isnan(by_entities) or by_rows < 1e-9:
        assert found is None or by_rows > 0
        return
    assert found is not None
    n = len(tried) + len(other)
    bound = -2 * math.log(ALPHA)
    r = n * by_rows * 100 / (bound + math.log(bound + 1))
    v = n**2 * max(by_entities, by_rows)
    width = math.sqrt((v + r) * math.log((v + r) / (r * ALPHA**2))) / n
    assert found.difference == pytest.approx(naive_mean(tried)[0] - naive_mean(other)[0], abs=1e-9)
    assert found.high - found.difference == pytest.approx(width, rel=1e-6)
    assert found.difference - found.low == pytest.approx(width, rel=1e-6)


def _ever_found(
    seed: int, runs: int, scores: int, *, effect: float = 0.0, rate: float = 0.5, share: float = 0.5
) -> float:
    """Share of runs in which a difference was ever found, looking at every score from the 400th.

    Values are 0 and 1, as of a click; each score is of an entity of its own.
    """
    rng, found = np.random.default_rng(seed), 0
    number = np.arange(1.0, scores + 1)
    for _ in range(runs):
        tried = rng.random(scores) < share
        values = (rng.random(scores) < rate + effect * tried).astype(np.float64)
        mine, others = np.cumsum(tried), np.cumsum(~tried)
        with np.errstate(all="ignore"):
            means = np.cumsum(values * tried) / mine, np.cumsum(values * ~tried) / others
            row = means[0] * (1 - means[0]) / (mine - 1) + means[1] * (1 - means[1]) / (others - 1)
            width = half_width(number, number * row, 1.0, ALPHA, 2_000)
            out = np.abs(means[0] - means[1]) > width
        found += bool(out[(number >= 400) & (row > 0)].any())
    return found / runs


@pytest.mark.parametrize(("rate", "share"), [(0.5, 0.5), (0.05, 0.5), (0.3, 0.1)])
def test_who_looks_at_every_score_seldom_finds_what_is_not_there(rate: float, share: float) -> None:
    runs = 1_000

    ever = _ever_found(1, runs, 6_000, rate=rate, share=share)

    assert ever <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def test_a_fixed_test_looked_at_often_would_find_it_often() -> None:
    """That the test above can fail: the interval of one planned look, looked at every time."""
    rng, found = np.random.default_rng(1), 0
    number = np.arange(1, 6_001)
    for _ in range(200):
        means = np.cumsum(rng.standard_normal(6_000)) / number
        found += bool((np.abs(means) > 1.96 / np.sqrt(number))[399:].any())

    assert found / 200 > 0.2


def test_the_greater_the_difference_and_the_more_the_scores_the_surer_it_is_found() -> None:
    power = [
        _ever_found(2, 150, scores, effect=effect)
        for scores, effect in [(3_000, 0.02), (3_000, 0.06), (3_000, 0.12), (9_000, 0.06)]
    ]

    assert power[0] < power[1] < power[2]
    assert power[2] > 0.95
    assert power[3] > power[1]


@pytest.mark.parametrize("again", [0.0, 0.5, 1.0])
def test_scores_of_an_entity_that_go_together_find_nothing_either(again: float) -> None:
    """Few entities with very many scores each, some with far more than others."""
    rng, runs, found, by_scores = np.random.default_rng(3), 120, 0, 0
    for _ in range(runs):
        weights = rng.pareto(1.5, 200) + 0.05
        entity = rng.choice(200, size=6_000, p=weights / weights.sum())
        tried = (rng.permutation(200) < 100)[entity]
        values = again * rng.standard_normal(200)[entity] + rng.standard_normal(6_000)
        ever = naive = False
        for n in range(400, 6_001, 200):
            mine, others = tried[:n], ~tried[:n]
            arms = [arm_mean(values[:n][one], entity[:n][one]) for one in (mine, others)]
            seen = compare(arms[0], arms[1], alpha=ALPHA, expected=2_000)
            ever |= seen is not None and not seen.low <= 0 <= seen.high
            alone = [arm_mean(values[:n][one], np.arange(one.sum())) for one in (mine, others)]
            seen = compare(alone[0], alone[1], alpha=ALPHA, expected=2_000)
            naive |= seen is not None and not seen.low <= 0 <= seen.high
        found, by_scores = found + ever, by_scores + naive

    assert found / runs <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / runs)
    if again == 1.0:
        assert by_scores / runs > 0.5  # whoever takes scores for independent is fooled


def test_nothing_is_said_of_what_does_not_vary_or_of_one_entity() -> None:
    same = arm_mean(np.ones(10), np.arange(10))
    one = arm_mean(np.arange(10.0), np.zeros(10, dtype=np.int64))
    none = arm_mean(np.empty(0), np.empty(0, dtype=np.int64))

    assert compare(same, same, alpha=ALPHA, expected=100) is None
    assert compare(same, one, alpha=ALPHA, expected=100) is None
    assert compare(same, none, alpha=ALPHA, expected=100) is None


@given(
    st.integers(min_value=0, max_value=5_000),
    st.integers(min_value=0, max_value=5_000),
    st.floats(min_value=0.05, max_value=0.95),
)
def test_evidence_of_a_wrong_ratio_is_the_ratio_of_likelihoods(
    tried: int, other: int, share: float
) -> None:
    """Entity by entity: the share that was predicted from those before, over the one asked for."""
    order = [True] * tried + [False] * other
    first, both, log = 1_000 * share, 1_000.0, 0.0
    for one in order:
        likely = first / both if one else 1 - first / both
        log += math.log(likely / (share if one else 1 - share))
        first, both = first + one, both + 1

    expected = min(1.0, math.exp(min(-log, 0.0)))
    assert ratio_evidence(tried, other, share) == pytest.approx(expected, rel=1e-5, abs=1e-300)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_right_ratio_is_seldom_called_wrong_and_a_wrong_one_soon(share: float) -> None:
    rng, runs, level = np.random.default_rng(4), 400, 0.05
    wrong = 0
    for _ in range(runs):
        tried = np.cumsum(rng.random(3_000) < share)
        seen = [ratio_evidence(int(tried[n]), n + 1 - int(tried[n]), share)
                for n in range(9, 3_000, 10)]  # fmt: skip
        wrong += min(seen) < level

    assert wrong / runs <= level + 2 * math.sqrt(level * (1 - level) / runs)
    lost = int(2_000 * share * 0.8)  # a fifth of one arm never comes back
    assert ratio_evidence(10 * lost, 10 * (2_000 - int(2_000 * share)), share) < 1e-6


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0]), st.floats(min_value=0, max_value=1)), min_size=1
    )
)
def test_the_mean_of_a_loss_is_the_metric_of_that_name(rows: list[tuple[float, float]]) -> None:
    y, p = np.array([one for one, _ in rows]), np.array([one for _, one in rows])

    for loss in ("log_loss", "brier"):
        assert score_values(loss, y, p).mean() == pytest.approx(compute_metric(loss, y, p))
    assert 1 - score_values("error", y, p).mean() == pytest.approx(compute_metric("accuracy", y, p))
    squared, absolute = (score_values(f"{one}_error", y, p) for one in ("squared", "absolute"))
    assert math.sqrt(squared.mean()) == pytest.approx(compute_metric("rmse", y, p))
    assert absolute.mean() == pytest.approx(compute_metric("mae", y, p))
    assert score_values("outcome", y, p).tolist() == y.tolist()
    with pytest.raises(NotFoundError, match="log_loss"):
        score_values("log_los", y, p)
