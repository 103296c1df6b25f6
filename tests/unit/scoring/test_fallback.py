"""What answers where circuits are open or the loop was held up: a stall must cost no answer."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.errors import UnavailableError
from penstock.testing.lanes import Summing, Tenfold, ask_of, declare, endpoint_of

if TYPE_CHECKING:
    from penstock.records import Score
    from penstock.scoring import Circuit, Endpoint
    from penstock.testing.lanes import LaneWorld

TO_PREVIOUS = ps.Fallback(deadline="200ms", to="previous")


def _score(world: LaneWorld, endpoint: Endpoint, *values: float) -> Score:
    async def scenario() -> Score:
        return await endpoint.score(ask_of(world, *values))

    return asyncio.run(scenario())


def _shut(world: LaneWorld, circuit: Circuit) -> Circuit:
    """Five failures together, as a stall of the machine makes them."""
    for _ in range(5):
        circuit.failed(world.writer.clock.now_us())
    assert circuit.is_open
    return circuit


def test_the_previous_version_answers_though_its_circuit_is_open(world: LaneWorld) -> None:
    endpoint = endpoint_of(
        world,
        declare(fallback=TO_PREVIOUS),
        champion=world.version(2),
        previous=world.version(1, Tenfold()),
    )
    before = _shut(world, endpoint.circuits["direction@1"])

    score = _score(world, endpoint, 13.0, 2.0)

    assert (score.version, score.route, score.prediction) == (1, "fallback", 150.0)
    assert endpoint.counters.fallbacks == {("previous", "failed"): 1}
    assert not before.is_open


def test_a_champion_with_no_version_before_answers_though_its_circuit_is_open(
    world: LaneWorld,
) -> None:
    endpoint = endpoint_of(world, declare(fallback=TO_PREVIOUS), champion=world.version(1))
    circuit = _shut(world, endpoint.circuits["direction@1"])

    score = _score(world, endpoint, 1.0, 2.0)

    assert (score.version, score.route, score.prediction) == (1, "champion", 3.0)
    assert score.reason == "circuit of direction@1 is open"
    assert endpoint.counters.fallbacks == {}
    assert not circuit.is_open


@pytest.mark.parametrize(("proved", "answers"), [("direction@1", 2), ("direction@2", 1)])
def test_of_two_shut_circuits_the_version_answers_that_is_not_proved_bad(
    world: LaneWorld, proved: str, answers: int
) -> None:
    endpoint = endpoint_of(
        world,
        declare(fallback=TO_PREVIOUS),
        champion=world.version(2),
        previous=world.version(1, Tenfold()),
    )
    for circuit in endpoint.circuits.values():
        _shut(world, circuit)
    endpoint.circuits[proved].is_confirmed = True

    assert _score(world, endpoint, 1.0, 2.0).version == answers


def test_a_version_that_fails_then_too_is_not_proved_bad_by_it(world: LaneWorld) -> None:
    endpoint = endpoint_of(world, declare(fallback=TO_PREVIOUS), champion=world.version(1))
    circuit = _shut(world, endpoint.circuits["direction@1"])

    for _ in range(3):
        with pytest.raises(UnavailableError, match=re.escape("circuit of direction@1 is open")):
            _score(world, endpoint, 13.0, 2.0)

    assert (circuit.failures, circuit.is_confirmed) == (5, False)


def test_it_is_waited_for_until_the_deadline_and_no_longer(world: LaneWorld) -> None:
    engine = Summing()
    hangs = world.version(1, engine, slow=True)
    endpoint = endpoint_of(world, declare(fallback=TO_PREVIOUS), champion=hangs)
    _shut(world, endpoint.circuits["direction@1"])
    engine.gate.clear()
    ask = ask_of(world, 1.0, 2.0)

    async def scenario() -> int:
        with pytest.raises(UnavailableError):
            await endpoint.score(ask)
        took_us = world.writer.clock.now_us() - ask.arrived_us
        engine.gate.set()
        return took_us

    assert 200_000 <= asyncio.run(scenario()) < 2_000_000


@pytest.mark.parametrize("fallback", [None, ps.Fallback(deadline="200ms", value=0.5)])
def test_a_shut_version_is_not_asked_where_that_is_not_needed(
    world: LaneWorld, fallback: ps.Fallback | None
) -> None:
    """There is no deadline to wait for, or something else answers."""
    engine = Summing()
    version = world.version(1, engine)
    endpoint = endpoint_of(world, declare(fallback=fallback), champion=version)
    _shut(world, endpoint.circuits["direction@1"])

    if fallback is None:
        with pytest.raises(UnavailableError, match="circuit of direction@1 is open"):
            _score(world, endpoint, 1.0, 2.0)
    else:
        assert _score(world, endpoint, 1.0, 2.0).prediction == 0.5

    assert engine.batches == []


def test_nothing_is_held_back_for_what_cannot_fall_back(world: LaneWorld) -> None:
    alone = endpoint_of(world, declare(fallback=TO_PREVIOUS), champion=world.version(1))
    late = _late(world, alone)
    with_other = endpoint_of(
        world,
        declare(fallback=TO_PREVIOUS),
        champion=world.version(2),
        previous=world.version(1),
    )

    assert "later than 200 ms" in late
    assert "later than 190 ms" in _late(world, with_other)


def _late(world: LaneWorld, endpoint: Endpoint) -> str:
    """What is said of a champion that hangs in its thread."""
    lane = endpoint.lanes["champion"]
    engine = lane.version.engine
    assert isinstance(engine, Summing)
    lane.slow = True
    engine.gate.clear()

    async def scenario() -> str:
        try:
            return (await endpoint.score(ask_of(world, 1.0, 2.0))).reason
        except UnavailableError as error:
            return error.message
        finally:
            engine.gate.set()

    return asyncio.run(scenario())


def test_a_version_that_stalls_with_the_event_loop_is_not_late(world: LaneWorld) -> None:
    engine = Summing()
    engine.gate.clear()
    version = world.version(1, engine, slow=True)
    endpoint = endpoint_of(world, declare(fallback=TO_PREVIOUS), champion=version)

    async def scenario() -> Score:
        asked = asyncio.create_task(endpoint.score(ask_of(world, 1.0, 2.0)))
        await asyncio.sleep(0.01)
        time.sleep(0.3)  # noqa: ASYNC251 - the machine stalls, and with it the thread
        asyncio.get_running_loop().call_soon(engine.gate.set)
        return await asked

    assert asyncio.run(scenario()).prediction == 3.0
    assert endpoint.circuits["direction@1"].failures == 0
