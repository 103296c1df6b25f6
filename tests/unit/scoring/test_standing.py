from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.errors import NotReadyError, UnavailableError
from penstock.scoring import (
    Counters,
    KeptScores,
    Memory,
    StandIn,
    answers_at_once,
    needs_no_model,
)
from penstock.testing.lanes import ask_of, declare, endpoint_of

if TYPE_CHECKING:
    from penstock.records import Score
    from penstock.scoring import Ask, Endpoint
    from penstock.testing.lanes import LaneWorld

HALF = ps.Fallback(deadline="1s", to="constant", value=0.5)


def _score(world: LaneWorld, ask: Ask, found: Endpoint | Exception) -> tuple[Score, Counters]:
    """What stands in for version 1 answers where a load ends so."""
    counters = Counters()

    async def load(_wait_us: int) -> Endpoint:
        if isinstance(found, Exception):
            raise found
        return found

    memory = Memory(world.writer, counters, {}, KeptScores(), {})
    manifest = world.version(1).manifest
    stand_in = StandIn(
        declare(fallback=HALF),
        manifest,
        memory,
        world.writer,
        others={},
        ready=None,
        load=load,
    )

    async def run() -> Score:
        return await stand_in.score(ask)

    return asyncio.run(run()), counters


def test_a_constant_answers_for_a_load_that_is_late_or_fails(world: LaneWorld) -> None:
    for error in (UnavailableError("It is being loaded."), NotReadyError("It is damaged.")):
        score, counters = _score(world, ask_of(world, key="abc"), error)
        assert (score.prediction, score.version, score.entity) == (0.5, 0, "abc")
        assert counters.fallbacks == {("constant", "loading"): 1}
        assert world.logged()[-1] == score


@pytest.mark.parametrize("number", [1, 2])
def test_a_row_that_was_read_for_one_version_is_for_any_that_takes_the_same(
    world: LaneWorld, number: int
) -> None:
    loaded = endpoint_of(world, declare(), champion=world.version(number))
    score, counters = _score(world, ask_of(world, 1.0, 2.0), loaded)
    assert (score.prediction, score.version) == (3.0, number)
    assert counters.fallbacks == {}


def test_values_in_the_order_of_one_version_are_not_for_another(world: LaneWorld) -> None:
    other = world.version(2, features=("v.b", "v.a"))
    loaded = endpoint_of(world, declare(), champion=other)
    with pytest.raises(UnavailableError, match="takes other features"):
        _score(world, ask_of(world, 1.0, 2.0), loaded)
    score, _ = _score(world, ask_of(world, key="abc"), loaded)  # it looks its features up
    assert score.version == 2


def test_of_which_deployments_anything_answers_without_a_model() -> None:
    route = ps.cached(max_age="30s")
    previous = ps.Fallback(deadline="1s", to="previous")
    found = [
        (needs_no_model(one), answers_at_once(one))
        for one in (
            declare(),
            declare(fallback=previous),
            declare(fallback=HALF),
            declare(route),
            declare(route, fallback=previous),
        )
    ]
    assert found == [(False, False), (False, False), (True, False), (True, True), (True, True)]
