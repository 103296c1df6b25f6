"""Rows of one request: each has its score or its error, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.errors import InputError
from penstock.scoring import Counters, Endpoint, Lane, Together
from penstock.scoring.lanes import Absent
from penstock.testing.lanes import Summing, ask_of, declare, endpoint_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.records import Score
    from penstock.scoring import Ask
    from penstock.testing.lanes import LaneWorld

CONSTANT = ps.Fallback(deadline="1s", to="constant", value=0.5)


async def _scored(endpoint: Endpoint, asks: Sequence[Ask]) -> list[Score]:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    together = Together(endpoint, lambda _: ended.set_result(None))
    together.begin(asks)
    await asyncio.wait_for(ended, 20)
    return together.scores()


def test_rows_without_a_key_are_shared_out_once_where_the_champion_cannot_be_loaded(
    world: LaneWorld,
) -> None:
    declared = declare(ps.challenger(share=0.5), fallback=CONSTANT)
    challenger = Lane("challenger", world.version(3), world.writer)
    absent = Absent(7, world.version(7).manifest)
    endpoint = Endpoint(
        declared, {"challenger": challenger}, world.writer, Counters(), {}, absent=absent
    )
    scores = asyncio.run(_scored(endpoint, [ask_of(world, 1.0, 2.0) for _ in range(1_000)]))
    by_challenger = sum(score.route == "challenger" for score in scores)
    assert by_challenger / len(scores) == pytest.approx(0.5, abs=0.08)
    assert {score.route for score in scores} == {"challenger", "fallback"}


def test_what_falls_back_answers_for_a_row_alone(world: LaneWorld) -> None:
    """The engine refuses rows with 13."""
    engine = Summing()
    endpoint = endpoint_of(world, declare(fallback=CONSTANT), champion=world.version(2, engine))
    asks = [ask_of(world, float(value), 1.0) for value in (11, 12, 13, 14)]
    scores = asyncio.run(_scored(endpoint, asks))
    assert [score.prediction for score in scores] == [12.0, 13.0, 0.5, 15.0]
    assert engine.batches == [4, 1, 1, 1, 1]


def test_rows_that_nobody_waits_for_any_more_are_not_computed(world: LaneWorld) -> None:
    engine = Summing()
    endpoint = endpoint_of(world, declare(), champion=world.version(2, engine))

    async def leave() -> None:
        together = Together(endpoint, lambda _: pytest.fail("nobody waits"))
        together.begin([ask_of(world, 1.0, 1.0) for _ in range(5)])
        together.abandon()
        await asyncio.sleep(0.05)

    asyncio.run(leave())
    assert engine.batches == []
    assert not world.folder.exists()


def test_the_first_that_failed_is_told_with_its_place(world: LaneWorld) -> None:
    nan = float("nan")
    endpoint = endpoint_of(world, declare(), champion=world.version(2))
    asks = [ask_of(world, value, 1.0) for value in (1.0, nan, nan)]
    with pytest.raises(InputError, match=r"^rows\[1\]: "):
        asyncio.run(_scored(endpoint, asks))
