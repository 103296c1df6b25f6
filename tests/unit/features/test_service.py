"""Reading a service: its order, one state of the store, and reads gathered without waiting."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

import penstock as ps
from penstock.adapters.system import SystemClock
from penstock.errors import InputError, NotReadyError, UnavailableError
from penstock.features import (
    GatheredReads,
    OnlineReader,
    Reading,
    ServiceReader,
    built_to,
    space_of,
)
from penstock.features.gathering import SLOW_IN_A_ROW

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from penstock.ports import Found, OnlineStore
    from penstock.spec import Features, FeatureService, FeatureView

    from .conftest import World

HOUR_US = 3_600_000_000
NOW_US = 100 * HOUR_US
KEYS = ["a", "b", "nobody", "c"]


@pytest.fixture
def views() -> list[FeatureView]:
    prices = ps.Source(
        "prices",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
    )
    recent = ps.FeatureView(
        "recent", source=prices, features=[ps.last("close"), ps.count(over="2h", hop="1h")]
    )
    whole = ps.FeatureView("whole", source=prices, features=[ps.max("close"), ps.sum("close")])
    return [recent, whole]


@pytest.fixture
def service(world: World, views: list[FeatureView]) -> FeatureService:
    """Over both views, in another order than theirs, with records in the store."""
    ingest(world, views, {"a": 1.0, "b": 2.0, "c": 3.0})
    recent, whole = views
    features: list[Features] = [whole["sum_close"], recent, whole["max_close"]]
    return ps.FeatureService("scoring", features=features)


def ingest(world: World, views: list[FeatureView], closes: dict[str, float]) -> None:
    number = world.batches
    records = [
        {"symbol": name, "ts": (90 + number) * HOUR_US, "close": close}
        for name, close in closes.items()
    ]
    world.ingest(views[0].source, records)
    for view in views:
        world.refresh(view)


def test_values_come_in_the_order_of_the_service(
    world: World, service: FeatureService, views: list[FeatureView]
) -> None:
    whole = OnlineReader(world.online, views)
    values, as_of_us = whole.read(KEYS, NOW_US)
    found = ServiceReader(world.online, service).read(KEYS, NOW_US)
    places = [whole.names.index(name) for name in service.names]
    np.testing.assert_array_equal(found.values, values[:, places])
    np.testing.assert_array_equal(found.as_of_us, as_of_us)
    assert found.unknown == [2]
    assert found.progress == {"recent": 1, "whole": 1}


def test_a_key_is_known_where_any_view_knows_it(
    world: World, service: FeatureService, views: list[FeatureView]
) -> None:
    world.online.write(space_of(views[0]), {}, progress=50)
    reader = ServiceReader(world.online, service)
    assert reader.read(["a", "nobody"], NOW_US).unknown == [1]
    only = ps.FeatureView("only", source=views[0].source, features=[ps.count()])
    world.online.write(space_of(only), {}, progress=1)
    both = ps.FeatureService("both", features=[only, views[1]])
    assert ServiceReader(world.online, both).read(["a", "nobody"], NOW_US).unknown == [1]
    alone = ps.FeatureService("alone", features=[only])
    assert ServiceReader(world.online, alone).read(["a", "nobody"], NOW_US).unknown == [0, 1]


class Interrupted:
    """The real store, into which a batch is folded when some of what is asked has been read."""

    def __init__(self, store: OnlineStore, between: Callable[[], None]) -> None:
        self._store = store
        self._between = between
        self._reads = 0

    def look(self, asks: Sequence[tuple[str, Sequence[bytes]]]) -> list[Found]:
        found = self._store.look(asks)
        self._reads += 1
        if self._reads == 2:
            self._between()
        return found

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


def test_an_answer_is_of_one_state_of_the_store(
    world: World, service: FeatureService, views: list[FeatureView]
) -> None:
    store = Interrupted(world.online, lambda: ingest(world, views, {"a": 50.0}))
    found = ServiceReader(store, service).read(["a"], NOW_US)  # type: ignore[arg-type]  # it wraps one
    row = dict(zip(service.names, found.values[0].tolist(), strict=True))
    # Both were read before the batch came, and it says so.
    assert (row["whole.sum_close"], row["recent.last_close"]) == (1.0, 1.0)
    assert found.progress == {"recent": 1, "whole": 1}
    assert ServiceReader(store, service).read(["a"], NOW_US).progress == {"recent": 2, "whole": 2}  # type: ignore[arg-type]  # as above


class Spied:
    """A reader that says what it was asked, and can be made to wait or to fail."""

    def __init__(self, reader: ServiceReader) -> None:
        self.service = reader.service
        self.asked: list[list[str | int]] = []
        self.threads: set[str] = set()
        self.wait = 0.0
        self.error: Exception | None = None
        self._reader = reader

    def read(self, keys: Sequence[str | int], at_us: object, request: object) -> Reading:
        self.asked.append(list(keys))
        self.threads.add(threading.current_thread().name)
        if self.wait:
            threading.Event().wait(self.wait)
        if self.error is not None:
            raise self.error
        return self._reader.read(keys, at_us, request)  # type: ignore[arg-type]  # passed on


@pytest.fixture
def spied(world: World, service: FeatureService) -> Spied:
    return Spied(ServiceReader(world.online, service))


@pytest.fixture
def gathered(spied: Spied) -> Iterator[GatheredReads]:
    reads = GatheredReads(spied, SystemClock())  # type: ignore[arg-type]  # it wraps one
    yield reads
    reads.close()


def run(conversation: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(conversation())


def test_those_who_come_together_are_read_together(
    gathered: GatheredReads, spied: Spied, world: World, service: FeatureService
) -> None:
    async def conversation() -> None:
        asks: list[tuple[list[str | int], int | np.ndarray[tuple[int], np.dtype[np.int64]]]] = [
            (["a"], NOW_US),
            (["nobody", "b"], np.array([NOW_US, NOW_US + HOUR_US])),
            ([], NOW_US),
            (["c", "nobody"], NOW_US + 2 * HOUR_US),
        ]
        found = await asyncio.gather(*[gathered.read(keys, at_us) for keys, at_us in asks])
        alone = ServiceReader(world.online, service)
        for (keys, at_us), one in zip(asks, found, strict=True):
            wanted = alone.read(keys, at_us)
            np.testing.assert_array_equal(one.values, wanted.values)
            np.testing.assert_array_equal(one.as_of_us, wanted.as_of_us)
            assert (one.unknown, one.progress) == (wanted.unknown, wanted.progress)

    run(conversation)
    assert spied.asked == [["a", "nobody", "b", "c", "nobody"]]


def test_rows_of_several_entities_with_request_fields_are_read_together(
    world: World, views: list[FeatureView]
) -> None:
    ingest(world, views, {"a": 1.0, "b": 2.0})
    shops = ps.Source(
        "shops",
        entity=ps.Entity("shop", dtype=ps.Int64),
        timestamp="ts",
        schema={"shop": ps.Int64, "ts": ps.Timestamp, "close": ps.Float64},
    )
    own = ps.FeatureView("own", source=shops, features=[ps.last("close")])
    double = ps.OnDemandView(
        "double",
        views=[views[0], own],
        request={"factor": ps.Float64},
        features={
            "price": ps.col("recent.last_close") * ps.col("factor"),
            "own": ps.col("own.last_close") * ps.col("factor"),
        },
    )
    world.ingest(shops, [{"shop": 7, "ts": 90 * HOUR_US, "close": 5.0}])
    world.refresh(own)
    gathered = GatheredReads(
        ServiceReader(world.online, ps.FeatureService("s", features=[double])), SystemClock()
    )

    async def conversation() -> None:
        first, bad, second = await asyncio.gather(
            gathered.read({"symbol": ["a"], "shop": [7]}, NOW_US, {"factor": [3.0]}),
            gathered.read({"symbol": ["a"], "shop": ["7"]}, NOW_US, {"factor": [3.0]}),
            gathered.read(
                {"symbol": ["b", "nobody"], "shop": [8, 9]}, NOW_US, {"factor": [2.0, None]}
            ),
            return_exceptions=True,
        )
        assert isinstance(bad, InputError)
        assert isinstance(first, Reading)
        assert isinstance(second, Reading)
        assert (first.values.tolist(), first.unknown) == ([[3.0, 15.0]], [])
        np.testing.assert_array_equal(second.values, [[4.0, np.nan], [np.nan, np.nan]])
        assert second.unknown == [1]

    run(conversation)
    gathered.close()


def test_rows_of_nothing_but_the_request_are_counted_by_it(world: World) -> None:
    view = ps.OnDemandView("big", request={"x": ps.Float64}, features={"is": ps.col("x") > 1})
    service = ps.FeatureService("s", features=[view])
    gathered = GatheredReads(ServiceReader(world.online, service), SystemClock())

    async def conversation() -> None:
        found = await asyncio.gather(
            gathered.read({}, NOW_US, {"x": [2.0]}), gathered.read({}, NOW_US, {"x": [0.0, None]})
        )
        np.testing.assert_array_equal(found[0].values, [[1.0]])
        np.testing.assert_array_equal(found[1].values, [[0.0], [np.nan]])
        assert found[1].unknown == []

    run(conversation)
    gathered.close()


def test_one_bad_key_does_not_fail_its_neighbours(gathered: GatheredReads) -> None:
    async def conversation() -> None:
        good, bad = await asyncio.gather(
            gathered.read(["a"], NOW_US), gathered.read([7], NOW_US), return_exceptions=True
        )
        assert isinstance(good, Reading)
        assert good.unknown == []
        assert isinstance(bad, InputError)

    run(conversation)


def test_a_slow_store_is_read_in_a_thread(gathered: GatheredReads, spied: Spied) -> None:
    async def conversation() -> None:
        await gathered.read(["a"], NOW_US)
        assert spied.threads == {threading.current_thread().name}
        spied.wait = 0.006
        for _ in range(SLOW_IN_A_ROW):
            assert not gathered.slow
            await gathered.read(["a"], NOW_US)
        assert gathered.slow
        found = await asyncio.gather(*[gathered.read([key], NOW_US) for key in KEYS])
        assert [one.unknown for one in found] == [[], [], [0], []]
        assert "features-scoring_0" in spied.threads

    run(conversation)


def test_a_store_that_cannot_be_reached_does_not_hold_up_the_loop_again(
    gathered: GatheredReads, spied: Spied
) -> None:
    async def conversation() -> None:
        spied.error = UnavailableError("gone for now", where="redis")
        both = await asyncio.gather(
            gathered.read(["a"], NOW_US), gathered.read(["b"], NOW_US), return_exceptions=True
        )
        assert [type(one) for one in both] == [UnavailableError] * 2
        assert both[0] is not both[1]
        assert isinstance(both[0], UnavailableError)
        assert both[0].facts["where"] == "redis"
        assert len(spied.asked) == 1  # a store that is gone is asked once for all of them
        assert gathered.slow
        spied.error = None
        assert (await gathered.read(["a"], NOW_US)).unknown == []

    run(conversation)


def test_too_many_who_wait_are_sent_away(gathered: GatheredReads, spied: Spied) -> None:
    async def conversation() -> None:
        waiting = [gathered.read(["a"] * 1_000, NOW_US) for _ in range(16)]
        with pytest.raises(UnavailableError, match="16,000 rows wait"):
            await gathered.read(["a"] * 1_000, NOW_US)
        waiting[0].cancel()
        await asyncio.gather(*waiting[1:])
        await gathered.read(["a"] * 1_000, NOW_US)

    run(conversation)
    assert sum(map(len, spied.asked)) == 16_000
    assert max(map(len, spied.asked)) <= 2_000


def test_a_view_that_is_not_built_is_said(
    world: World, gathered: GatheredReads, views: list[FeatureView]
) -> None:
    world.online.drop(space_of(views[1]))
    assert built_to(world.online, space_of(views[1])) is None

    async def conversation() -> None:
        with pytest.raises(NotReadyError, match="penstock features build whole"):
            await gathered.read(["a"], NOW_US)

    run(conversation)
