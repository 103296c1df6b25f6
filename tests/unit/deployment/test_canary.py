from __future__ import annotations

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.deployment import compare_counts, compare_metric
from penstock.records import VersionCounts

BOUNDS = (100, 250, 500, 1_000, 5_000, 20_000)
PLAN = ps.Canary(min_scores=100, max_errors=0.02, max_late=0.02, latency=2.0, latency_floor="1ms")


def _counted(times_us: list[int], errors: int = 0, late: int = 0) -> VersionCounts:
    buckets = [0] * (len(BOUNDS) + 1)
    for time_us in times_us:
        buckets[bisect_left(BOUNDS, time_us)] += 1
    return VersionCounts(
        answers=len(times_us), errors=errors, late=late, buckets=tuple(buckets), bounds_us=BOUNDS
    )


def _broken(new: VersionCounts, champion: VersionCounts) -> list[str]:
    return [one.name for one in compare_counts(PLAN, new, champion) if not one.passed]


TIMES = st.lists(st.integers(1, 30_000), max_size=60)


@given(TIMES, st.sampled_from([0.5, 0.9, 0.99]))
def test_a_quantile_is_the_bound_that_so_many_keep(times: list[int], share: float) -> None:
    found = _counted(times).quantile_us(share)

    if not times:
        assert found == 0
    else:
        kept = [bound for bound in BOUNDS if sum(t <= bound for t in times) >= share * len(times)]
        assert found == (kept[0] if kept else 2 * BOUNDS[-1])


@given(TIMES, TIMES)
def test_counts_add_up_and_come_apart(one: list[int], other: list[int]) -> None:
    both = _counted([*one, *other], 3, 2)

    assert _counted(one, 1, 2).plus(_counted(other, 2)) == both
    assert both.without(_counted(other, 2)) == _counted(one, 1, 2)
    assert VersionCounts().plus(both) == both


def test_an_equal_version_holds() -> None:
    assert _broken(_counted([200] * 100), _counted([200] * 900)) == []


def test_errors_and_late_answers_are_compared_with_those_of_the_champion() -> None:
    fine = _counted([200] * 1_000)

    assert _broken(_counted([200] * 95, errors=5), fine) == ["errors"]
    assert _broken(_counted([200] * 95, late=5), fine) == ["late"]
    assert _broken(_counted([200] * 95, errors=5), _counted([200] * 950, errors=50)) == []


def test_a_few_errors_at_the_start_are_no_verdict_and_too_many_are_one_at_once() -> None:
    fine = _counted([200] * 1_000)

    assert _broken(_counted([], errors=2), fine) == []
    assert _broken(_counted([], errors=3), fine) == ["errors"]


def test_latency_is_compared_above_its_floor_only() -> None:
    fine = _counted([90] * 1_000)

    assert _broken(_counted([900] * 100), fine) == []
    assert _broken(_counted([4_000] * 100), fine) == ["latency, p99 in us"]
    assert _broken(_counted([4_000] * 100), _counted([3_000] * 1_000)) == []
    assert _broken(_counted([4_000] * 99), fine) == []  # too few for a verdict


def test_latency_is_compared_with_nothing_where_the_champion_gave_no_answer() -> None:
    assert _broken(_counted([4_000] * 100), _counted([])) == []
    assert _broken(_counted([4_000] * 100), _counted([90])) == ["latency, p99 in us"]


def test_a_metric_is_compared_where_enough_outcomes_have_come() -> None:
    plan = ps.Canary(metric="roc_auc", min_observed=50, metric_drop=0.02)

    def holds(mine: float | None, rows: int = 50, *, smaller: bool = False) -> bool:
        new, champion = (mine, rows), (0.70, 500)
        return compare_metric(plan, new, champion, smaller_is_better=smaller).passed

    assert holds(0.69)
    assert not holds(0.67)
    assert holds(0.67, 49)
    assert holds(None)
    assert holds(0.67, smaller=True)
    assert not holds(0.73, smaller=True)
