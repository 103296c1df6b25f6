"""A score log that cannot be written: nothing is answered, or scores are lost; none is to blame."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.errors import DeclarationError, NotLoggedError
from penstock.testing.lanes import Summing, Tenfold, ask_of, declare, endpoint_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.records import Score
    from penstock.scoring import Endpoint
    from penstock.spec import FallbackStep
    from penstock.testing.lanes import LaneWorld

STEPS: list[list[FallbackStep]] = [["previous"], ["cached"], ["constant"]]


def _score(world: LaneWorld, endpoint: Endpoint, *values: float, by: int = 0) -> Score:
    async def scenario() -> Score:
        ask = ask_of(world, *values, key=None if values else "abc")
        if by:
            return await endpoint.score_by(ask, endpoint.versions[by])
        return await endpoint.score(ask)

    return asyncio.run(scenario())


def _refused(world: LaneWorld, endpoint: Endpoint, *values: float, by: int = 0) -> None:
    with pytest.raises(NotLoggedError, match=r"cannot be written to .*btc.*Nothing is answered"):
        _score(world, endpoint, *values, by=by)


@pytest.fixture
def block(world: LaneWorld) -> Callable[[], Path]:
    """Puts a file in the place of the log's folder."""

    def put() -> Path:
        world.writer.log.close()
        shutil.rmtree(world.folder, ignore_errors=True)
        world.folder.parent.mkdir(parents=True, exist_ok=True)
        world.folder.write_bytes(b"")
        return world.folder

    return put


@pytest.mark.parametrize("steps", STEPS)
def test_nothing_is_answered_and_no_version_is_at_fault(
    world: LaneWorld, block: Callable[[], Path], steps: list[FallbackStep]
) -> None:
    value = 0.5 if "constant" in steps else None
    endpoint = endpoint_of(
        world,
        declare(fallback=ps.Fallback(deadline="1s", to=steps, value=value)),
        champion=world.version(2),
        previous=world.version(1, Tenfold()),
    )
    assert _score(world, endpoint).version == 2
    there = block()
    for _ in range(20):
        _refused(world, endpoint)
        _refused(world, endpoint, by=2)

    assert not any(circuit.failures for circuit in endpoint.circuits.values())
    assert endpoint.breach is None
    assert endpoint.counters.errors == {("champion", 2, "not_logged"): 40}
    assert endpoint.counters.fallbacks == {}
    there.unlink()
    assert _score(world, endpoint).version == 2


def test_what_falls_back_is_refused_as_well_and_not_to_blame(
    world: LaneWorld, block: Callable[[], Path]
) -> None:
    endpoint = endpoint_of(
        world,
        declare(fallback=ps.Fallback(deadline="1s", to="previous")),
        champion=world.version(2),
        previous=world.version(1, Tenfold()),
    )
    block()
    for _ in range(20):
        _refused(world, endpoint, 13.0, 2.0)  # the champion fails, the version before has a score

    assert endpoint.circuits["direction@1"].failures == 0


@pytest.mark.parametrize("steps", STEPS)
def test_scores_may_be_lost_where_that_is_declared(
    world: LaneWorld, block: Callable[[], Path], steps: list[FallbackStep]
) -> None:
    engine = Summing()
    endpoint = endpoint_of(
        world,
        declare(fallback=ps.Fallback(deadline="1s", to=steps, value=0.5)),
        champion=world.version(2, engine),
        previous=world.version(1, Tenfold()),
    )
    world.writer.log.lose = endpoint.counters.lose
    block()
    assert _score(world, endpoint, 1.0, 2.0).prediction == 3.0
    assert _score(world, endpoint).prediction == 3.5
    assert _score(world, endpoint, 13.0, 2.0).route == "fallback"
    assert endpoint.counters.lost == 3
    world.folder.unlink()
    later = _score(world, endpoint, 2.0, 2.0)
    assert world.logged() == [later]
    assert endpoint.counters.lost == 3


def test_only_two_words_say_what_becomes_of_requests() -> None:
    with pytest.raises(DeclarationError, match="unwritable='drop'; give 'refuse' or 'answer'"):
        ps.ScoreLog(unwritable="drop")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
