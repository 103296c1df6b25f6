from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra import ArmMean, arm_mean, chances_best, floored, weighed

SCORES = st.integers(min_value=5, max_value=3_000)
RATES = st.floats(min_value=0.0, max_value=1.0)


def _binary(scores: int, rate: float) -> ArmMean:
    ones = round(scores * rate)
    values = np.concatenate([np.ones(ones), np.zeros(scores - ones)])
    return arm_mean(values, np.arange(scores))


@given(st.lists(st.tuples(SCORES, RATES), min_size=2, max_size=4))
def test_the_chance_to_be_the_best_is_how_often_a_draw_is_the_greatest(
    given_arms: list[tuple[int, float]],
) -> None:
    arms = [_binary(scores, rate) for scores, rate in given_arms]
    rng, draws = np.random.default_rng(1), 20_000
    ones = [round(scores * rate) for scores, rate in given_arms]
    drawn = [
        rng.beta(1 + one, 1 + scores - one, draws)
        for one, (scores, _) in zip(ones, given_arms, strict=True)
    ]
    naive = np.bincount(np.argmax(drawn, axis=0), minlength=len(arms)) / draws

    found = chances_best(arms, binary=True)

    assert found.sum() == pytest.approx(1.0)
    assert found == pytest.approx(naive, abs=0.03)


@given(
    st.lists(
        st.tuples(st.floats(-5, 5), st.floats(0.01, 3), st.integers(10, 500)),
        min_size=2,
        max_size=4,
    )
)
def test_so_it_is_of_rewards_that_are_numbers(given_arms: list[tuple[float, float, int]]) -> None:
    rng = np.random.default_rng(2)
    arms = [
        arm_mean(mean + width * rng.standard_normal(scores), np.arange(scores))
        for mean, width, scores in given_arms
    ]
    drawn = [rng.normal(arm.mean, math.sqrt(arm.row_variance / arm.scores), 20_000) for arm in arms]
    naive = np.bincount(np.argmax(drawn, axis=0), minlength=len(arms)) / 20_000

    # The variance by entities of entities with one score each is that of the scores.
    found = chances_best(arms, binary=False)

    assert found == pytest.approx(naive, abs=0.03)


def test_scores_of_an_entity_that_go_together_count_as_fewer() -> None:
    values = np.repeat([1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0], 50)
    other = np.repeat([1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0], 50)
    apart = [arm_mean(one, np.arange(400)) for one in (values, other)]
    together = [arm_mean(one, np.repeat(np.arange(8), 50)) for one in (values, other)]

    assert chances_best(apart, binary=True)[0] > 0.999
    assert chances_best(together, binary=True)[0] < 0.95


@given(
    st.lists(
        st.tuples(
            st.integers(0, 6), st.integers(0, 2), st.floats(-1e3, 1e3), st.floats(0.05, 0.95)
        ),
        min_size=2,
        max_size=60,
    ),
    st.floats(-1e6, 1e6),
)
def test_sums_over_some_of_an_entitys_scores_say_the_same(
    rows: list[tuple[int, int, float, float]], level: float
) -> None:
    """Scores that are summed up by entity and time, as where some of them were removed."""
    entities = np.array([row[0] for row in rows])
    values = np.array([level + row[2] for row in rows])
    weights = 1 / np.array([row[3] for row in rows])
    _, parts = np.unique([10 * row[0] + row[1] for row in rows], return_inverse=True)
    mine = [parts == part for part in range(parts.max() + 1)]
    summed = arm_mean(
        np.array([values[one].mean() for one in mine]),
        np.array([entities[one][0] for one in mine]),
        scores=np.array([float(one.sum()) for one in mine]),
        spreads=np.array([((values[one] - values[one].mean()) ** 2).sum() for one in mine]),
    )
    whole = arm_mean(values, entities)
    size = 1 + abs(level)
    assert summed[:2] == whole[:2]
    assert summed.effective == pytest.approx(whole.effective)
    assert summed.mean == pytest.approx(whole.mean, abs=1e-9 * size)
    assert summed.row_variance == pytest.approx(whole.row_variance, abs=1e-6 * size, nan_ok=True)
    assert summed.variance == pytest.approx(whole.variance, abs=1e-6 * size, nan_ok=True)

    mean, error = weighed(
        np.array([weights[one] @ values[one] / weights[one].sum() for one in mine]),
        np.array([1 / weights[one].sum() for one in mine]),
        np.array([entities[one][0] for one in mine]),
    )
    naive = weighed(values, 1 / weights, entities)
    assert mean == pytest.approx(naive.mean, abs=1e-9 * size)
    assert error == pytest.approx(naive.error, abs=1e-6 * size, nan_ok=True)


def test_arms_that_never_vary_have_a_chance_too() -> None:
    same = arm_mean(np.full(100, 2.0), np.arange(100))
    more = arm_mean(np.full(100, 3.0), np.arange(100))

    assert chances_best([same, same], binary=False) == pytest.approx([0.5, 0.5], abs=0.01)
    assert chances_best([same, more], binary=False) == pytest.approx([0.0, 1.0], abs=1e-6)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda some: sum(some) > 0),
    st.floats(0.001, 1.0),
)
def test_every_arm_keeps_its_floor(raw: list[float], part: float) -> None:
    chances, floor = np.array(raw) / sum(raw), part / len(raw)

    shares = floored(chances, floor)

    assert shares.sum() == pytest.approx(1.0)
    assert shares.min() >= floor - 1e-12


def test_what_an_arm_would_have_brought_is_not_biased_by_shares_that_moved() -> None:
    """The world gets better while the arm's share grows: its mean says too much of it."""
    rng, estimates, means = np.random.default_rng(3), [], []
    for _ in range(300):
        share = np.where(np.arange(4_000) < 2_000, 0.1, 0.6)
        world = np.where(np.arange(4_000) < 2_000, 0.2, 0.8)
        mine = rng.random(4_000) < share
        reward = (rng.random(4_000) < world).astype(np.float64)
        found = weighed(reward[mine], share[mine], np.flatnonzero(mine))
        estimates.append(found)
        means.append(reward[mine].mean())

    assert np.mean(means) > 0.65
    assert np.mean([one.mean for one in estimates]) == pytest.approx(0.5, abs=0.01)
    spread = float(np.std([one.mean for one in estimates]))
    assert np.mean([one.error for one in estimates]) == pytest.approx(spread, rel=0.2)


def test_of_nothing_nothing_is_known() -> None:
    none, one = np.empty(0), np.ones(1)

    assert math.isnan(weighed(none, none, np.empty(0, dtype=np.int64)).mean)
    assert weighed(one, one, np.zeros(1, dtype=np.int64)).mean == 1.0
    assert math.isnan(weighed(one, one, np.zeros(1, dtype=np.int64)).error)
