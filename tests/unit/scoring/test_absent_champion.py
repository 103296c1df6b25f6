"""A deployment whose champion cannot be loaded is answered for by what can."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import penstock as ps
from penstock.errors import NotReadyError
from penstock.scoring import Counters, Endpoint, Lane
from penstock.scoring.lanes import Absent
from penstock.testing.lanes import Summing, ask_of, declare

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from penstock.scoring import ServedVersion
    from penstock.testing.lanes import LaneWorld

WHY = "m@7 cannot be loaded"


class First(Summing):
    """Predicts the first feature."""

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The first column."""
        return x[:, 0]


def _endpoint(world: LaneWorld, before: ServedVersion | None = None, **fallback: Any) -> Endpoint:  # noqa: ANN401 - as Fallback takes them
    declared = declare(fallback=ps.Fallback(**fallback))
    lanes = {} if before is None else {"previous": Lane("fallback", before, world.writer)}
    absent = Absent(7, world.version(7).manifest)
    return Endpoint(
        declared, lanes, world.writer, Counters(), {}, reason="it is damaged", absent=absent
    )


def test_the_version_before_is_asked_with_its_features_in_its_own_order(world: LaneWorld) -> None:
    before = world.version(6, First(), features=("v.b", "v.a"))
    endpoint = _endpoint(world, before, deadline="1s", to=["previous"])
    score = asyncio.run(endpoint.score(ask_of(world, 2.0, 5.0)))
    assert (score.prediction, score.version, score.reason) == (5.0, 6, WHY)
    assert endpoint.counters.fallbacks == {("previous", "load_failed"): 1}
    assert endpoint.champion is None
    assert not endpoint.is_quick


def test_a_version_before_that_takes_more_than_was_handed_in_is_not_asked(
    world: LaneWorld,
) -> None:
    before = world.version(6, features=("v.a", "v.b", "v.c"))
    endpoint = _endpoint(world, before, deadline="1s", to=["previous", "constant"], value=0.5)
    score = asyncio.run(endpoint.score(ask_of(world, 2.0, 5.0)))
    assert (score.prediction, score.version, score.reason) == (0.5, 0, WHY)


def test_the_step_after_it_answers_where_the_version_before_hangs(world: LaneWorld) -> None:
    engine = Summing()
    before = world.version(6, engine, slow=True)
    endpoint = _endpoint(world, before, deadline="60ms", to=["previous", "constant"], value=0.5)
    engine.gate.clear()
    try:
        score = asyncio.run(endpoint.score(ask_of(world, 2.0, 5.0)))
    finally:
        engine.gate.set()
    assert (score.prediction, score.version) == (0.5, 0)
    assert endpoint.counters.fallbacks == {("constant", "load_failed"): 1}


def test_where_nothing_answers_the_reason_is_told(world: LaneWorld) -> None:
    endpoint = _endpoint(world, deadline="1s", to=["cached"])
    with pytest.raises(NotReadyError, match="it is damaged"):
        asyncio.run(endpoint.score(ask_of(world, 2.0, 5.0)))
