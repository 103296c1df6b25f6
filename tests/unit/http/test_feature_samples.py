"""Which rows of a feature server's answers are kept for the consistency check."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.features import Reading
from penstock.http.serve_feature_samples import EVERY_US, KEPT, LEAST_OFTEN_US, Taken
from penstock.http.serve_feature_schema import Wanted

HOUR_US = 3_600_000_000


def answer(taken: Taken, now_us: int, rows: int = 1) -> None:
    """Answer a request as the door does."""
    if now_us >= taken.due_us:
        keys = [f"k{place}" for place in range(rows)]
        values = np.arange(rows, dtype=np.float64).reshape(-1, 1)
        found = Reading(values, np.full(rows, now_us), [], {"v": 3})
        taken.take(Wanted("columns", rows, keys, now_us), found, now_us)


def test_few_requests_are_all_kept_and_many_are_thinned() -> None:
    taken = Taken()
    for second in range(KEPT):
        answer(taken, second * 1_000_000)
    assert [row[0] for row in taken.unwritten(HOUR_US, last=False)] == [
        second * 1_000_000 for second in range(KEPT)
    ]
    answer(taken, 10 * HOUR_US)
    answer(taken, 10 * HOUR_US + EVERY_US)  # too soon by now
    rows = taken.unwritten(11 * HOUR_US, last=False)
    assert len(rows) == KEPT // 2 + 1


@given(st.integers(1, 400_000), st.integers(0, 3))
def test_rows_are_spread_over_the_last_hour_at_most(gap_us: int, hours: int) -> None:
    taken, end_us = Taken(), hours * HOUR_US + 60_000_000
    now_us = max(0, end_us - 3_000 * gap_us * 20)
    first_us = now_us
    while now_us < end_us:
        answer(taken, now_us, rows=3)
        now_us += gap_us * 20
    rows = taken.unwritten(end_us + HOUR_US, last=True)
    times = [row[0] for row in rows]
    assert times == sorted(times)
    assert len(times) <= KEPT
    assert end_us - times[-1] <= LEAST_OFTEN_US + 40 * gap_us
    reached_us = end_us - max(times[0], 0)
    assert reached_us >= min(end_us - first_us, KEPT // 2 * EVERY_US) - 40 * gap_us
    for _, place, wanted, found in rows:
        assert found.values.tolist() == [[float(place)]]
        assert wanted.keys[place] == f"k{place}"  # type: ignore[index]  # of one entity


def test_rows_are_told_once_in_a_while_and_at_the_end() -> None:
    taken = Taken()
    assert taken.unwritten(0, last=True) == []
    answer(taken, 1)
    assert len(taken.unwritten(2, last=False)) == 1
    answer(taken, 1_000_000)
    assert taken.unwritten(1_000_001, last=False) == []
    assert len(taken.unwritten(1_000_001, last=True)) == 2
    assert taken.unwritten(HOUR_US, last=True) == []
