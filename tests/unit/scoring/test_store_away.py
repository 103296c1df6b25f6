"""A store that cannot be reached is waited for until the deadline, and no version is blamed."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, cast

import pytest

import penstock as ps
from penstock.errors import UnavailableError
from penstock.scoring import ServedVersion
from penstock.testing.lanes import (
    FixedReader,
    Summing,
    Tenfold,
    ask_of,
    declare,
    endpoint_of,
)
from penstock.testing.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from penstock.features import OnlineReader, Reading
    from penstock.records import Score
    from penstock.scoring import Ask, Endpoint
    from penstock.testing.lanes import LaneWorld


class Away(FixedReader):
    """A reader whose store may be away."""

    def __init__(self) -> None:
        self.is_away = True
        self.reads = 0

    def come_back(self) -> None:
        self.is_away = False

    def read_settled(
        self, keys: Sequence[str | int], at_us: NDArray[np.int64], request: object
    ) -> Reading:
        self.reads += 1
        if self.is_away:
            raise UnavailableError("The store is away.")
        return super().read_settled(keys, at_us, request)


@pytest.fixture
def reader() -> Away:
    return Away()


def _version(number: int, reader: Away, engine: Summing | None = None) -> ServedVersion:
    manifest = manifest_of("v.a", "v.b", version=number)
    return ServedVersion(manifest, engine or Summing(), cast("OnlineReader", reader), slow=False)


def _asked(endpoint: Endpoint, reader: Away, *asks: Ask, back_s: float = 0.0) -> list[Score]:
    """Ask all at once; the store comes back after a while, if at all."""

    async def scenario() -> list[Score]:
        if back_s:
            asyncio.get_running_loop().call_later(back_s, reader.come_back)
        return await asyncio.gather(*[endpoint.score(ask) for ask in asks])

    return asyncio.run(scenario())


def test_rows_wait_for_the_store_and_are_answered_when_it_is_back(
    world: LaneWorld, reader: Away
) -> None:
    endpoint = endpoint_of(world, declare(), champion=_version(1, reader, Tenfold()))
    asks = [ask_of(world, key="k" * n) for n in range(1, 100)]

    scores = _asked(endpoint, reader, *asks, back_s=0.3)

    assert [one.prediction for one in scores] == [10 * n + 5 for n in range(1, 100)]
    assert len(world.logged()) == len(scores)
    assert endpoint.circuits["direction@1"].failures == 0
    assert endpoint.lanes["champion"].away is None
    assert reader.reads < 20  # a batch at a time, and not without a pause


def test_rows_that_bring_their_features_wait_for_nothing(world: LaneWorld, reader: Away) -> None:
    endpoint = endpoint_of(world, declare(), champion=_version(1, reader))

    async def scenario() -> tuple[Score, Score]:
        looked_up = asyncio.create_task(endpoint.score(ask_of(world, key="abc")))
        await asyncio.sleep(0.02)
        handed_in = await asyncio.wait_for(endpoint.score(ask_of(world, 1.0, 2.0)), 5)
        assert not looked_up.done()
        reader.is_away = False
        return handed_in, await looked_up

    handed_in, looked_up = asyncio.run(scenario())
    assert (handed_in.prediction, looked_up.prediction) == (3.0, 3.5)


def test_past_the_deadline_what_falls_back_answers_and_no_version_is_at_fault(
    world: LaneWorld, reader: Away
) -> None:
    endpoint = endpoint_of(
        world,
        declare(fallback=ps.Fallback(deadline="100ms", value=0.25)),
        champion=_version(2, reader),
        previous=_version(1, reader),
    )

    for _ in range(3):
        scores = _asked(endpoint, reader, *[ask_of(world, key="abc") for _ in range(8)])
        assert {one.prediction for one in scores} == {0.25}
        assert {one.reason for one in scores} == {"The store is away."}

    # The version before would read the same store, and is not asked.
    assert set(endpoint.counters.errors) == {("champion", 2, "unavailable")}
    assert not any(circuit.failures for circuit in endpoint.circuits.values())
    assert endpoint.breach is None


def test_rows_that_bring_their_features_say_nothing_of_the_store(
    world: LaneWorld, reader: Away
) -> None:
    endpoint = endpoint_of(
        world,
        declare(fallback=ps.Fallback(deadline="100ms", value=0.25)),
        champion=_version(1, reader),
    )

    async def scenario() -> None:
        for _ in range(5):
            looked_up = asyncio.create_task(endpoint.score(ask_of(world, key="abc")))
            while not looked_up.done():
                await endpoint.score(ask_of(world, 1.0, 2.0))
            assert (await looked_up).reason == "The store is away."

    asyncio.run(scenario())
    assert set(endpoint.counters.errors) == {("champion", 1, "unavailable")}
    assert endpoint.circuits["direction@1"].failures == 0


def test_where_nothing_falls_back_the_store_is_named(world: LaneWorld, reader: Away) -> None:
    declared = declare(fallback=ps.Fallback(deadline="50ms", to="previous"))
    endpoint = endpoint_of(world, declared, champion=_version(2, reader))

    with pytest.raises(UnavailableError, match=re.escape("The store is away.")):
        _asked(endpoint, reader, ask_of(world, key="abc"))

    assert endpoint.circuits["direction@2"].failures == 0
    assert endpoint.counters.errors == {("champion", 2, "unavailable"): 1}
