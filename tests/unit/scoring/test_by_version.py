"""A version that a client names answers with its model, or with what it gave itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.errors import UnavailableError, UserCodeError
from penstock.testing.lanes import Summing, Tenfold, ask_of, declare, endpoint_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from penstock.testing.lanes import LaneWorld

BACK = ps.Fallback(deadline="60ms", to=["cached", "previous", "constant"], value=0.5)


class Failing(Summing):
    """Predicts until it is told to fail."""

    fails = False

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums, or an error."""
        if self.fails:
            raise ValueError("no")
        return super().predict(x)


def test_its_last_score_answers_after_a_failure_and_nobody_elses_does(world: LaneWorld) -> None:
    engine = Failing()
    endpoint = endpoint_of(
        world, declare(fallback=BACK), champion=world.version(2, engine), previous=world.version(1)
    )

    async def ask() -> None:
        lane = endpoint.versions[2]
        first = await endpoint.score_by(ask_of(world, key="abc"), lane)
        engine.fails = True
        again = await endpoint.score_by(ask_of(world, key="abc"), lane)
        assert (again.route, again.version, again.prediction) == ("cached", 2, first.prediction)
        assert f"; score {first.prediction_id} of " in again.reason
        # The version before has answered the same: that is no score of the one named.
        await endpoint.score_by(ask_of(world, key="abcd"), endpoint.versions[1])
        with pytest.raises(UserCodeError):
            await endpoint.score_by(ask_of(world, key="abcd"), lane)
        with pytest.raises(UserCodeError):
            await endpoint.score_by(ask_of(world, 1.0, 2.0), lane)

    asyncio.run(ask())
    assert endpoint.counters.fallbacks == {("cached", "failed"): 1}


def test_it_answers_with_what_it_gave_where_it_is_late(world: LaneWorld) -> None:
    engine = Summing()
    slow = world.version(2, engine, slow=True)
    endpoint = endpoint_of(world, declare(fallback=BACK), champion=slow)

    async def ask() -> None:
        lane = endpoint.versions[2]
        await endpoint.score_by(ask_of(world, key="abc"), lane)
        engine.gate.clear()
        try:
            again = await endpoint.score_by(ask_of(world, key="abc"), lane)
            with pytest.raises(UnavailableError, match="name no version"):
                await endpoint.score_by(ask_of(world, key="other"), lane)
        finally:
            engine.gate.set()
        assert again.reason.startswith("direction@2 was later than 60 ms; score ")

    asyncio.run(ask())
    assert endpoint.counters.fallbacks == {("cached", "late"): 1}


def test_without_a_fallback_that_repeats_it_is_the_model_or_nothing(world: LaneWorld) -> None:
    engine = Failing()
    fallback = ps.Fallback(deadline="60ms", to=["previous", "constant"], value=0.5)
    endpoint = endpoint_of(
        world, declare(fallback=fallback), champion=world.version(2, engine),
        previous=world.version(1),
    )  # fmt: skip

    async def ask() -> None:
        lane = endpoint.versions[2]
        await endpoint.score_by(ask_of(world, key="abc"), lane)
        engine.fails = True
        with pytest.raises(UserCodeError):
            await endpoint.score_by(ask_of(world, key="abc"), lane)

    asyncio.run(ask())


def test_routes_that_repeat_answer_with_scores_of_that_version_alone(world: LaneWorld) -> None:
    declared = declare(ps.cached(max_age="1h"), ps.by_header("x-group", "beta", version=3))
    endpoint = endpoint_of(
        world, declared, champion=world.version(2), **{"header 3": world.version(3, Tenfold())}
    )

    async def ask() -> None:
        champion, beta = endpoint.versions[2], endpoint.versions[3]
        first = await endpoint.score(ask_of(world, key="abc"))
        again = await endpoint.score_by(ask_of(world, key="abc"), champion)
        assert (again.route, again.prediction) == ("cached", first.prediction)
        other = await endpoint.score_by(ask_of(world, key="abc"), beta)
        assert (other.version, other.prediction) == (3, 10 * first.prediction)

    asyncio.run(ask())
