"""The rules of windows, tile by tile and edge by edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra import (
    Events,
    ValueReader,
    compile_view,
    compute_points,
    count_too_late,
    first_tile,
    fold,
    tile_of,
    window_start,
)
from penstock.spec import Aggregate, FeatureView
from penstock.testing.strategies import source

if TYPE_CHECKING:
    from penstock.algebra import Program

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**12))
def test_every_time_is_in_the_tile_whose_edges_hold_it(time: int, hop_us: int) -> None:
    tile = tile_of(time, hop_us)
    assert tile * hop_us < time <= (tile + 1) * hop_us
    assert tile_of(np.array([time]), hop_us).tolist() == [tile]


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**6), st.integers(1, 50))
def test_a_window_starts_where_its_first_tile_does(at: int, hop_us: int, hops: int) -> None:
    over_us = hops * hop_us
    start = window_start(at, over_us, hop_us)
    assert start == first_tile(at, over_us, hop_us) * hop_us
    assert at - over_us - hop_us < start <= at - over_us


def test_the_whole_past_is_one_tile() -> None:
    assert tile_of(-5, 0) == first_tile(99, 0, 0) == 0
    assert tile_of(np.array([-5, 7]), 0).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("at_us", "expected"),
    [
        (-1, 0),
        (0, 1),
        (6 * HOUR_US - 1, 1),
        (6 * HOUR_US, 0),  # the tail is on the event itself, which is outside
        (6 * HOUR_US + 59 * MINUTE_US, 0),
    ],
)
def test_an_event_on_the_edge_of_a_tile(at_us: int, expected: int) -> None:
    assert count_at(0, at_us) == expected


@pytest.mark.parametrize(
    ("at_us", "expected"),
    [
        (0, 0),
        (1, 1),
        (6 * HOUR_US + 1, 1),  # exactly 6h ago, yet the tail is rounded down to the hour
        (7 * HOUR_US - 1, 1),
        (7 * HOUR_US, 0),
    ],
)
def test_an_event_just_after_the_edge_stays_for_a_whole_hop(at_us: int, expected: int) -> None:
    assert count_at(1, at_us) == expected


def count_at(event_us: int, at_us: int) -> float:
    """Records in 6h by hours, in batch; online too, where it is exact."""
    view = FeatureView(
        name="v", source=source(), features=(Aggregate(op="count", over="6h", hop="1h"),)
    )
    program = compile_view(view)
    one = np.zeros(1, np.int64)
    events = Events(codes=one, times=np.array([event_us]), values=(np.ones(1),))
    found = compute_points(program, events, one, np.array([at_us]))
    if at_us >= event_us:
        value = fold(program, [None], events)
        for copies in (1, 20):
            read = ValueReader(program).read(value * copies, np.full(copies, at_us))
            assert read.tolist() == found.tolist() * copies
    return float(found[0, 0])


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("over", ["", "1h"])
def test_of_two_events_at_one_time_the_later_to_arrive_is_the_last(
    over: str, order: list[int]
) -> None:
    view = FeatureView(
        name="v", source=source(), features=(Aggregate(op="last", column="x", over=over),)
    )
    program = compile_view(view)
    values = np.array([1.0, 2.0])[order]
    both = Events(codes=np.zeros(2, np.int64), times=np.full(2, 5), values=(values,))
    parts = [
        Events(codes=np.zeros(1, np.int64), times=np.full(1, 5), values=(values[[place]],))
        for place in (0, 1)
    ]
    at_us = np.array([5])
    assert compute_points(program, both, at_us * 0, at_us).tolist() == [[values[1]]]
    together = fold(program, [None], both)
    apart = fold(program, [*fold(program, [None], parts[0])], parts[1])
    assert together == apart
    assert ValueReader(program).read(together, at_us).tolist() == [[values[1]]]


def test_a_late_event_is_not_the_last() -> None:
    view = FeatureView(name="v", source=source(), features=(Aggregate(op="last", column="x"),))
    program = compile_view(view)
    late = [
        Events(codes=np.zeros(1, np.int64), times=np.full(1, time), values=(np.full(1, value),))
        for time, value in ((9, 1.0), (8, 2.0))
    ]
    stored = fold(program, [*fold(program, [None], late[0])], late[1])
    assert ValueReader(program).read(stored, np.array([9])).tolist() == [[1.0]]


def windowed(*overs: str) -> Program:
    features = tuple(Aggregate(op="count", over=over) for over in overs)
    return compile_view(FeatureView(name="v", source=source(), features=features))


def counted(*times_us: int, code: int = 0) -> Events:
    size = len(times_us)
    inputs = (np.ones(size),)
    return Events(codes=np.full(size, code), times=np.array(times_us, np.int64), values=inputs)


@pytest.mark.parametrize(
    ("overs", "late_us", "expected"),
    [
        (["1h"], 9 * HOUR_US + 1, 0),  # just inside the window asked at the newest event
        (["1h"], 9 * HOUR_US, 1),
        (["1h", "6h"], 9 * HOUR_US, 0),  # the longer window still reaches it
        (["1h", "6h"], 4 * HOUR_US, 1),
        (["1h", ""], -(10**12), 0),  # the whole past has no end
    ],
)
def test_an_event_that_no_window_reaches_comes_too_late(
    overs: list[str], late_us: int, expected: int
) -> None:
    program = windowed(*overs)
    before = fold(program, [None], counted(10 * HOUR_US))

    assert count_too_late(program, before, counted(late_us)) == expected

    assert (fold(program, before, counted(late_us)) == before) == bool(expected)


def test_nothing_is_too_late_for_an_entity_that_was_not_known() -> None:
    program = windowed("1h")
    both = [*fold(program, [None], counted(10 * HOUR_US)), None]

    # Of a build from a whole table nearly all is older than a window; it did not come late.
    assert count_too_late(program, both, counted(0, 10 * HOUR_US, code=1)) == 0
    assert count_too_late(program, both, counted(0, 5, 10 * HOUR_US)) == 2


@given(st.lists(st.integers(0, 3 * HOUR_US), min_size=1), st.lists(st.integers(0, 3 * HOUR_US)))
def test_what_comes_too_late_is_what_changes_nothing(before: list[int], more: list[int]) -> None:
    program = windowed("30m", "1h")
    value = fold(program, [None], counted(*before))
    without_effect = sum(fold(program, value, counted(time)) == value for time in more)

    assert count_too_late(program, value, counted(*more)) == without_effect
