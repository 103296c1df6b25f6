"""Chunks of points computed side by side give what they give one after the other."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import penstock as ps
from penstock.algebra import Events, compile_view, compute_points, kernel
from penstock.features import threads
from penstock.features.threads import side_by_side

EVENTS, POINTS = 5_000, 6_000
SOURCE = ps.Source(
    "ticks",
    entity=ps.Entity("id", dtype=ps.Int64),
    timestamp="ts",
    schema={"id": ps.Int64, "ts": ps.Timestamp, "x": ps.Float64},
)
VIEW = ps.FeatureView(
    "v",
    source=SOURCE,
    ttl="1s",
    features=[
        ps.last("x"),
        ps.sum("x", over="1s"),
        ps.std("x", over="1s", hop="0s"),
        ps.first_k("x", k=2, over="2s"),
        ps.approx_quantile("x", q=0.5, over="2s"),
        ps.approx_distinct("x"),
    ],
)


@pytest.fixture(autouse=True)
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks, and several threads whatever machine this is."""
    monkeypatch.setattr(kernel, "CHUNK", 1_024)
    monkeypatch.setattr(threads, "_cores", lambda: 4)


def test_threads_change_no_bit() -> None:
    rng = np.random.default_rng(3)
    program = compile_view(VIEW)
    gaps = np.where(rng.random(EVENTS) < 0.1, np.nan, rng.normal(size=EVENTS))
    events = Events(
        codes=rng.integers(0, 9, EVENTS),
        times=rng.integers(0, 10_000_000, EVENTS),
        values=tuple(gaps for _ in program.inputs),
    )
    codes, at_us = rng.integers(-1, 9, POINTS), rng.integers(0, 10_000_000, POINTS)
    in_turn = compute_points(program, events, codes, at_us)
    for _ in range(3):
        both = compute_points(program, events, codes, at_us, side_by_side)
        np.testing.assert_array_equal(both.view(np.int64), in_turn.view(np.int64))


def test_they_are_at_work_at_once() -> None:
    all_here = threading.Barrier(3)
    side_by_side(lambda _: all_here.wait(20), [1, 2, 3])


def test_what_one_raises_is_raised() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 2:
            raise ValueError("the second")
        done.append(number)

    with pytest.raises(ValueError, match="the second"):
        side_by_side(work, [1, 2, 3])
    side_by_side(work, [])
    assert set(done) <= {1, 3}


def test_one_core_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_cores", lambda: 1)
    names: list[str] = []
    side_by_side(lambda _: names.append(threading.current_thread().name), [1, 2])
    assert names == [threading.current_thread().name] * 2
