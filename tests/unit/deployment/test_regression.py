from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.deployment import Replayed, compare_answers, regression_checks
from penstock.records import Regression

SHARES = st.floats(0, 1)
PAIRS = st.lists(st.tuples(SHARES, SHARES | st.just(float("nan"))), max_size=40)


def _replayed(pairs: list[tuple[float, float]], *, classifies: bool = True) -> Replayed:
    return Replayed(
        ids=[f"p{place}" for place in range(len(pairs))],
        before=np.array([one for one, _ in pairs], dtype=np.float64),
        after=np.array([other for _, other in pairs], dtype=np.float64),
        against=["m@1"] * len(pairs),
        skipped={},
        classifies=classifies,
    )


def _gap(one: float, other: float) -> float:
    """What is left of a difference where rounding is none; NaN where there is no answer."""
    gap = abs(one - other)
    return 0.0 if gap < 1e-9 else gap


@given(PAIRS)
def test_differences_are_those_counted_one_by_one(pairs: list[tuple[float, float]]) -> None:
    found = compare_answers(_replayed(pairs))

    answered = [(one, other) for one, other in pairs if not math.isnan(other)]
    gaps = sorted(_gap(one, other) for one, other in answered)
    assert (found.rows, found.failed) == (len(pairs), len(pairs) - len(answered))
    assert found.max_difference == (gaps[-1] if gaps else 0.0)
    assert abs(found.mean_difference - sum(gaps) / max(1, len(gaps))) < 1e-12
    assert found.flips == sum((one >= 0.5) != (other >= 0.5) for one, other in answered)
    if gaps:
        assert found.quantiles[0] == gaps[-(-len(gaps) // 2) - 1]
    shown = [abs(one.before - one.after) for one in found.most if one.after is not None]
    assert shown == sorted(shown, reverse=True)
    assert len(found.most) == min(20, sum(_gap(one, other) != 0 for one, other in pairs))


def test_a_regression_has_no_decision_to_flip() -> None:
    assert compare_answers(_replayed([(0.4, 0.6)], classifies=False)).flips == 0


def test_bounds_break_and_what_has_none_is_only_shown() -> None:
    found = compare_answers(_replayed([(0.4, 0.6), (0.1, 0.1), (0.2, 0.2), (0.9, 0.9)]))

    shown = regression_checks(found, ps.Checks())
    held = regression_checks(
        found, ps.Checks(max_difference=0.21, mean_difference=0.06, max_flips=0.25)
    )
    broken = regression_checks(
        found, ps.Checks(max_difference=0.1, mean_difference=0.01, max_flips=0.2)
    )

    assert all(one.passed for one in (*shown, *held))
    assert [one.name for one in broken if not one.passed] == [
        "mean difference", "max difference", "flips",
    ]  # fmt: skip


def test_requests_without_an_answer_break_without_a_bound() -> None:
    found = compare_answers(_replayed([(0.4, float("nan")), (0.1, 0.1)]))

    assert [one.name for one in regression_checks(found, ps.Checks()) if not one.passed] == [
        "answers"
    ]
    assert found.most[0].after is None


def test_differences_of_rounding_alone_are_none() -> None:
    pairs = [(0.4054, 0.4054 + 5e-17), (0.3, 0.3 + 9e-10), (0.5 - 1e-12, 0.5)]
    found = compare_answers(_replayed([*pairs, (0.2, 0.2 + 2e-9)]))

    assert [round(one.before, 6) for one in found.most] == [0.2]
    assert found.max_difference == pytest.approx(2e-9)
    alike = compare_answers(_replayed(pairs))
    assert (alike.most, alike.max_difference, alike.mean_difference) == ((), 0.0, 0.0)


def test_nothing_to_ask_again_holds_and_says_so() -> None:
    (only,) = regression_checks(Regression(rows=0, skipped={"were odd": 3}), ps.Checks())

    assert only.passed
    assert "3 were odd" in only.reason
