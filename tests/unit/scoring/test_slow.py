"""Versions that answer, but slowly: held against them, with no answer cut."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.deployment import Engine
from penstock.errors import DeclarationError
from penstock.scoring import Circuit
from penstock.testing.fakes import FakeClock
from penstock.testing.lanes import LaneWorld, ask_of, declare, endpoint_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from penstock.records import Score
    from penstock.scoring import Ask, Endpoint

LIMIT_MS = 50
SLOW = ps.Fallback(slow_after=f"{LIMIT_MS}ms")


class Taking(Engine):
    """Takes as many milliseconds as the greatest first value of its rows says, times ``factor``."""

    name = "native"

    def __init__(self, clock: FakeClock, factor: float = 1.0) -> None:
        self.clock = clock
        self.factor = factor

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums, after that time."""
        self.clock.move(timedelta(milliseconds=self.factor * float(x[:, 0].max())))
        return np.asarray(x.sum(axis=1))


@pytest.fixture
def clock(world: LaneWorld) -> FakeClock:
    return _still(world)


def _still(world: LaneWorld) -> FakeClock:
    clock = FakeClock()
    world.writer.clock = clock
    return clock


def _scores(endpoint: Endpoint, asks: Sequence[Ask]) -> list[Score]:
    """The scores of rows that are asked one after the other."""

    async def scenario() -> list[Score]:
        return [await endpoint.score(ask) for ask in asks]

    return asyncio.run(scenario())


def _asked(world: LaneWorld, endpoint: Endpoint, *took_ms: float) -> list[Score]:
    return [_scores(endpoint, [ask_of(world, one, 0.5)])[0] for one in took_ms]


def test_slow_answers_are_given_until_the_circuit_opens_and_then_the_version_before_answers(
    world: LaneWorld, clock: FakeClock
) -> None:
    endpoint = endpoint_of(
        world,
        declare(fallback=SLOW),
        champion=world.version(2, Taking(clock)),
        previous=world.version(1, Taking(clock, 0)),
    )

    scores = _asked(world, endpoint, 80, 80, 80, 80, 80, 80)

    told = [(one.version, one.route, one.prediction) for one in scores]
    assert told == [(2, "champion", 80.5)] * 5 + [(1, "fallback", 80.5)]
    assert scores[-1].reason == "circuit of direction@2 is open"
    assert endpoint.counters.slow == {("champion", 2): 5}
    assert endpoint.counters.errors == {}
    assert endpoint.counters.fallbacks == {("previous", "circuit_open"): 1}
    assert endpoint.breach is None  # as yet: a machine may stall

    clock.move(timedelta(seconds=0.6))
    (tried,) = _asked(world, endpoint, 51)

    assert tried.version == 2
    assert endpoint.breach is not None
    assert endpoint.breach == (2, "direction@2 took longer than 50 ms")


def test_one_that_is_quick_again_is_asked_again(world: LaneWorld, clock: FakeClock) -> None:
    endpoint = endpoint_of(
        world,
        declare(fallback=SLOW),
        champion=world.version(2, Taking(clock)),
        previous=world.version(1, Taking(clock, 0)),
    )
    _asked(world, endpoint, *[80] * 5)
    clock.move(timedelta(seconds=0.6))

    scores = _asked(world, endpoint, LIMIT_MS, 1, 1)

    assert {(one.version, one.route) for one in scores} == {(2, "champion")}
    assert not endpoint.circuits["direction@2"].is_open
    assert endpoint.breach is None


def test_where_nothing_else_answers_it_goes_on(world: LaneWorld, clock: FakeClock) -> None:
    endpoint = endpoint_of(world, declare(fallback=SLOW), champion=world.version(1, Taking(clock)))

    scores = _asked(world, endpoint, *[80] * 12)

    assert {(one.version, one.route) for one in scores} == {(1, "champion")}
    circuit = endpoint.circuits["direction@1"]
    assert (circuit.is_open, circuit.is_confirmed) == (True, False)


def test_the_champion_answers_for_a_challenger_that_is_slow(
    world: LaneWorld, clock: FakeClock
) -> None:
    routes = [ps.challenger(share=0.99, version=2)]
    endpoint = endpoint_of(
        world,
        declare(*routes, fallback=SLOW),
        champion=world.version(1, Taking(clock, 0)),
        challenger=world.version(2, Taking(clock)),
    )

    scores = _asked(world, endpoint, *[80] * 40)

    assert [one.version for one in scores].count(2) == 5
    assert endpoint.counters.slow == {("challenger", 2): 5}
    assert endpoint.breach is None


def test_the_version_before_is_judged_as_well(world: LaneWorld, clock: FakeClock) -> None:
    endpoint = endpoint_of(
        world,
        declare(fallback=SLOW),
        champion=world.version(2, Taking(clock)),
        previous=world.version(1, Taking(clock)),
    )
    _asked(world, endpoint, *[80] * 10)
    assert endpoint.counters.slow == {("champion", 2): 5, ("fallback", 1): 5}
    assert all(one.is_open for one in endpoint.circuits.values())

    clock.move(timedelta(seconds=0.6))
    _asked(world, endpoint, 80)

    assert endpoint.breach is None  # what would take its place is no better


def test_the_wait_for_its_turn_is_held_against_nobody(world: LaneWorld, clock: FakeClock) -> None:
    endpoint = endpoint_of(world, declare(fallback=SLOW), champion=world.version(1, Taking(clock)))
    asks = [ask_of(world, 1.0, 0.5) for _ in range(20)]
    clock.move(timedelta(seconds=1))

    scores = _scores(endpoint, asks)

    assert min(one.duration_us for one in scores) >= 1_000_000
    assert endpoint.counters.slow == {}


def test_without_a_limit_nothing_is_slow(world: LaneWorld, clock: FakeClock) -> None:
    endpoint = endpoint_of(
        world,
        declare(fallback=ps.Fallback(deadline="9s")),
        champion=world.version(1, Taking(clock)),
    )

    _asked(world, endpoint, *[2_000] * 6)

    assert endpoint.counters.slow == {}
    assert not endpoint.circuits["direction@1"].is_open


def test_one_slow_batch_moves_a_version_to_a_thread(world: LaneWorld, clock: FakeClock) -> None:
    endpoint = endpoint_of(world, declare(fallback=SLOW), champion=world.version(1, Taking(clock)))

    _asked(world, endpoint, LIMIT_MS)
    assert not endpoint.lanes["champion"].slow
    _asked(world, endpoint, LIMIT_MS + 1)

    assert endpoint.lanes["champion"].slow


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([1, LIMIT_MS, 51, 80]), st.sampled_from([0, 30, 400, 1_500])),
        max_size=40,
    )
)
def test_a_circuit_sees_a_failure_in_each_slow_answer_and_in_nothing_else(
    steps: list[tuple[int, int]],
) -> None:
    """As a circuit that is told of each answer whether it took longer than the limit."""
    oracle = Circuit()
    with tempfile.TemporaryDirectory() as folder:
        world = LaneWorld(Path(folder))
        clock = _still(world)
        fallback = ps.Fallback(slow_after=f"{LIMIT_MS}ms", to="constant", value=-1.0)
        endpoint = endpoint_of(
            world, declare(fallback=fallback), champion=world.version(1, Taking(clock))
        )
        for took_ms, pause_ms in steps:
            allowed = oracle.allows(clock.now_us())
            (score,) = _asked(world, endpoint, took_ms)
            assert (score.version == 1) == allowed
            if allowed and took_ms > LIMIT_MS:
                oracle.failed(clock.now_us())
            elif allowed:
                oracle.succeeded()
            found = endpoint.circuits["direction@1"]
            assert (found.is_open, found.is_confirmed, found.failures) == (
                oracle.is_open, oracle.is_confirmed, oracle.failures,
            )  # fmt: skip
            clock.move(timedelta(milliseconds=pause_ms))
        world.writer.log.close()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"slow_after": "soon"}, "slow_after"),
        ({"slow_after": "0s"}, "is not above zero"),
        ({"slow_after": "10s"}, "below the deadline of 10s"),
        ({"slow_after": "50ms", "deadline": "50ms"}, "below the deadline of 50ms"),
        ({"slow_after": "50ms", "deadline": "soon"}, "deadline"),
    ],
)
def test_limits_that_cannot_work_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        ps.Fallback(**given)


def test_a_fallback_needs_no_deadline() -> None:
    assert (SLOW.deadline, SLOW.steps) == ("10s", ("previous",))
    assert ps.Fallback().slow_us is None
