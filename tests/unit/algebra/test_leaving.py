"""Law 3 where values leave the store: what is asked from the horizon on is naive, as ever."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.algebra import (
    NEVER_US,
    Events,
    ValueReader,
    as_of,
    compile_view,
    count_too_late,
    fold,
    is_past,
    lacks_past,
    may_leave,
    newest_of,
)
from penstock.spec import Aggregate, Expression, FeatureView
from penstock.testing.strategies import histories, leaving_views, source, times

from .test_engine import EMPTY, KEYS, assert_naive, events_of, thorough

if TYPE_CHECKING:
    from penstock.algebra import Program

    from .test_engine import Record

HOUR_US = 3_600_000_000
STRICT = msgspec.structs.replace(source(), nullable=())


def one_folded(program: Program, value: bytes | None, records: list[Record]) -> bytes:
    events = events_of(program, records)
    first = Events(codes=events.codes * 0, times=events.times, values=events.values)
    return fold(program, [value], first)[0]


def folded_and_swept(
    program: Program, parts: list[list[Record]], horizons: list[int], sweeps: list[bool]
) -> tuple[dict[str, bytes], int]:
    """What a store holds of parts that came one after the other, and its horizon then.

    After each part the horizon is where it is said, if that is later; after some a sweep comes.
    """
    values: dict[str, bytes] = {}
    horizon_us = NEVER_US
    seen: list[Record] = []
    for part, at_us, is_swept in zip(parts, horizons, sweeps, strict=True):
        seen += part
        horizon_us = max(horizon_us, at_us)
        for key in sorted({str(record["key"]) for record in part}):
            own = [record for record in part if record["key"] == key]
            value = one_folded(program, values.get(key), own)
            if key not in values and lacks_past(program, [value])[0]:
                value = one_folded(program, None, [one for one in seen if one["key"] == key])
            if not is_past(program, newest_of([value]), horizon_us)[0]:
                values[key] = value
        for key in [*values] if is_swept else ():
            if is_past(program, newest_of([values[key]]), horizon_us)[0]:
                del values[key]
    return values, horizon_us


turns = st.lists(
    st.tuples(
        histories(8),
        st.sampled_from([0, HOUR_US, 5 * HOUR_US, 20 * HOUR_US, 20 * HOUR_US]),
        times(),
        st.booleans(),
    ),
    min_size=6,
    max_size=6,
)


@thorough
@given(leaving_views(), turns, st.lists(times(), min_size=4, max_size=4))
def test_stream_is_naive_from_the_horizon_on(
    view: FeatureView, turns: list[tuple[list[Record], int, int, bool]], later: list[int]
) -> None:
    program = compile_view(view)
    assert may_leave(program)
    parts: list[list[Record]] = []
    horizons: list[int] = []
    now_us = 0
    for records, ahead_us, at_us, _ in turns:
        now_us += ahead_us
        parts.append([record | {"ts": now_us + int(str(record["ts"]))} for record in records])
        horizons.append(now_us + at_us)
    stored, horizon_us = folded_and_swept(program, parts, horizons, [turn[3] for turn in turns])
    values = [stored.get(key) for key in KEYS for _ in later]
    # A third of the times to come, which windows end in, and the horizon itself.
    asked_us = [horizon_us + max(at // 3, 0) for at in later] * len(KEYS)
    exact = as_of(values, np.array(asked_us))
    keys = [key for key in KEYS for _ in later]
    asked = list(zip(keys, exact.tolist(), strict=True))
    every = [record for part in parts for record in part]
    assert_naive(view, every, asked, ValueReader(program).read(values, exact))
    assert_naive(view, every, asked * 2, ValueReader(program).read(values * 2, np.tile(exact, 2)))


def view_of(*features: Aggregate, ttl: str = "", **derive: Expression) -> FeatureView:
    return FeatureView(name="v", source=STRICT, features=features, ttl=ttl, derive=derive)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (view_of(ps.count(over="1h"), ps.max("x", over="2d")), True),
        (view_of(ps.count(over="1h"), ps.count()), False),
        (view_of(ps.last("x")), False),
        (view_of(ps.last("x"), ps.last("flag"), ps.sum("x", over="1h"), ttl="1h"), True),
        (view_of(ps.last("x"), ps.first("y"), ttl="1h"), False),
        (view_of(ps.count(), ttl="1h"), False),
        (view_of(ps.last("x", where=ps.col("y") > 0), ttl="1h"), False),
        (view_of(ps.last("r"), ttl="1h", r=ps.col("x") / ps.col("y")), False),
        (FeatureView(name="v", source=source(), features=(ps.last("x"),), ttl="1h"), False),
    ],
)
def test_values_may_leave_where_nothing_later_needs_them(view: FeatureView, expected: bool) -> None:  # noqa: FBT001 - an expectation
    assert may_leave(compile_view(view)) is expected


@pytest.mark.parametrize(
    ("view", "first_us"),
    [
        # The window asked at 1h and 4m still begins at 0, for its start is rounded down.
        (view_of(ps.count(over="1h")), HOUR_US + 5 * 60_000_000),
        (view_of(ps.count(over="1h", hop="0s")), HOUR_US + 1),
        (view_of(ps.count(over="1h", hop="0s"), ps.count(over="6h", hop="1h")), 7 * HOUR_US),
        (view_of(ps.count(over="1h", hop="0s"), ttl="3h"), 3 * HOUR_US + 1),
        (view_of(ps.last("x"), ttl="3h"), 3 * HOUR_US + 1),
    ],
)
def test_a_value_leaves_at_the_first_moment_at_which_nothing_can_be_asked(
    view: FeatureView, first_us: int
) -> None:
    program = compile_view(view)
    value = one_folded(program, None, [EMPTY | {"key": "a", "ts": 1, "x": 1.0}])
    reader, nothing = ValueReader(program), ValueReader(program).read_one(None, 0)
    newest = newest_of([value])
    assert [is_past(program, newest, at)[0] for at in (first_us - 1, first_us)] == [False, True]
    np.testing.assert_array_equal(reader.read_one(value, first_us), nothing)
    assert not np.array_equal(reader.read_one(value, first_us - 1), nothing, equal_nan=True)
    assert not is_past(program, newest, NEVER_US)[0]


def test_what_is_past_at_the_horizon_comes_too_late() -> None:
    program = compile_view(view_of(ps.count(over="1h", hop="0s")))
    events = events_of(program, [EMPTY | {"key": "a", "ts": hour * HOUR_US} for hour in (1, 2, 3)])
    assert count_too_late(program, [None], events) == 0
    assert count_too_late(program, [None], events, 3 * HOUR_US) == 2
    known = one_folded(program, None, [EMPTY | {"key": "a", "ts": 5 * HOUR_US // 2}])
    assert count_too_late(program, [known], events) == 1
    assert count_too_late(program, [known], events, 3 * HOUR_US) == 2


def test_a_null_where_none_was_declared_asks_for_what_came_before() -> None:
    program = compile_view(view_of(ps.last("x"), ps.count(over="1h"), ttl="1h"))
    record: Record = EMPTY | {"key": "a", "ts": 0, "x": 1.0}
    whole = one_folded(program, None, [record])
    null = one_folded(program, None, [record | {"x": math.nan}])
    behind = one_folded(program, None, [record, record | {"ts": 1, "x": None}])
    assert lacks_past(program, [whole, null, behind]).tolist() == [False, True, True]
    windows = compile_view(view_of(ps.last("x", over="1h")))
    assert not lacks_past(windows, [one_folded(windows, None, [record | {"x": None}])])[0]
    assert len(lacks_past(program, [])) == 0
