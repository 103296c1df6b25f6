"""Precomputed vectors: they are what the views give, at every time, whatever comes in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import NotReadyError, StateError
from penstock.features import (
    OnlineReader,
    drop_vectors,
    groups_of,
    refresh,
    refresh_vectors,
    space_of,
)
from penstock.features.vectors import HEAD, MARKS, vector_key
from penstock.testing.children import child
from penstock.testing.vectors_child import keep_vectors

from .conftest import open_world

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.unit.features.conftest import World

    from penstock.ports import OnlineStore
    from penstock.spec import FeatureView, View

MINUTE_US = 60_000_000
START_US = 1_000 * MINUTE_US
USER = ps.Entity("user")
SHOP = ps.Entity("shop", dtype=ps.Int64)
CLICKS = ps.Source(
    "clicks",
    entity=USER,
    timestamp="ts",
    schema={"user": ps.String, "ts": ps.Timestamp, "x": ps.Float64},
)
ORDERS = ps.Source(
    "orders",
    entity=USER,
    timestamp="ts",
    schema={"user": ps.String, "ts": ps.Timestamp, "x": ps.Float64},
)
SALES = ps.Source(
    "sales",
    entity=SHOP,
    timestamp="ts",
    schema={"shop": ps.Int64, "ts": ps.Timestamp, "x": ps.Float64},
)
RECENT = ps.FeatureView(
    "recent",
    source=CLICKS,
    features=[
        ps.count(over="10m", hop="2m"),
        ps.mean("x", over="30m", hop="7m"),
        ps.last("x"),
        ps.approx_quantile("x", 0.5, over="20m", hop="5m"),
        ps.decayed_mean("x", "5m", over="15m", hop="5m"),
    ],
)
EXACT = ps.FeatureView("exact", source=CLICKS, features=[ps.sum("x", over="6m", hop="0s")])
BRIEF = ps.FeatureView(
    "brief", source=ORDERS, features=[ps.max("x", over="1h", hop="10m"), ps.count()], ttl="25m"
)
TRADE = ps.FeatureView("trade", source=SALES, features=[ps.std("x", over="20m", hop="5m")])
RATIO = ps.OnDemandView(
    "ratio",
    views=[RECENT, TRADE],
    request={"amount": ps.Float64},
    features={"of": ps.col("amount") / ps.col("recent.last_x")},
)
BASE: list[FeatureView] = [RECENT, EXACT, BRIEF, TRADE]
VIEWS: list[View] = [RATIO, BRIEF, TRADE, EXACT, RECENT]
USERS = ["a", "b", "c", "never"]
SHOPS = [1, 2, 9]

SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

minutes = st.integers(0, 120)
events = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(SHOPS[:2]), minutes, st.integers(-9, 9)),
    max_size=8,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["clicks", "orders", "sales"]), events),
        st.tuples(st.just("vectors"), minutes),
        st.tuples(st.just("read"), minutes),
    ),
    min_size=3,
    max_size=14,
)


class Asked:
    """The real store, which counts what is asked of it."""

    def __init__(self, store: OnlineStore) -> None:
        self.looks: list[list[str]] = []
        self._store = store

    def look(self, asks: Sequence[tuple[str, Sequence[bytes]]]) -> object:
        self.looks.append([space for space, keys in asks if keys])
        return self._store.look(asks)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


def put(world: World, source: ps.Source, rows: Sequence[tuple[str, int, int, int]]) -> None:
    records = [
        {"user": user, "shop": shop, "ts": START_US + minute * MINUTE_US, "x": float(x)}
        for user, shop, minute, x in rows
    ]
    world.ingest(source, records)


def fold(world: World, views: Sequence[FeatureView] = BASE) -> None:
    for view in views:
        world.refresh(view)


def vectors(world: World, minute: int, views: Sequence[FeatureView] = BASE) -> int:
    now_us = START_US + minute * MINUTE_US
    found = refresh_vectors(world.tables, world.online, world.locks, views, now_us)
    return sum(one.written for one in found)


def assert_same(world: World, minute: int) -> None:
    """With vectors as without, one by one and together, at the minute and around it."""
    plain = OnlineReader(world.online, VIEWS)
    quick = OnlineReader(world.online, VIEWS, vectors=True)
    rows = [(user, shop) for user in USERS for shop in SHOPS]
    keys: dict[str, list[str | int]] = {
        "user": [user for user, _ in rows],
        "shop": [shop for _, shop in rows],
    }
    request: dict[str, list[object]] = {"amount": [2.0] * len(rows)}
    for at_us in (START_US + minute * MINUTE_US + offset for offset in (-1, 0, 1)):
        wanted = plain.read_settled(keys, at_us, request)
        found = quick.read_settled(keys, at_us, request)
        np.testing.assert_array_equal(found.values, wanted.values)
        np.testing.assert_array_equal(found.as_of_us, wanted.as_of_us)
        assert (found.unknown, found.seen) == (wanted.unknown, wanted.seen)
        for user, shop in rows[:3]:
            one = quick.read_one({"user": user, "shop": shop}, at_us, {"amount": 2.0})
            assert one == plain.read_one({"user": user, "shop": shop}, at_us, {"amount": 2.0})


def test_vectors_are_what_the_views_give(new_world: Callable[[], World]) -> None:
    """Late, tied and repeated events, views that lag, and clocks that go back and forth."""

    @settings(max_examples=15, deadline=None, suppress_health_check=SLOW)
    @given(steps)
    def check(taken: list[tuple[str, object]]) -> None:
        world = new_world()
        sources = {source.name: source for source in (CLICKS, ORDERS, SALES)}
        numbers = dict.fromkeys(sources, 0)

        def ingest(name: str, rows: Sequence[tuple[str, int, int, int]]) -> None:
            numbers[name] += 1
            world.batches = numbers[name] - 1  # numbered by source
            put(world, sources[name], rows)

        for name in sources:
            ingest(name, [("a", 1, 3, 1)])
        fold(world)
        for what, drawn in taken:
            if what == "vectors":
                vectors(world, drawn)  # type: ignore[arg-type]  # drawn so
            elif what == "read":
                assert_same(world, drawn)  # type: ignore[arg-type]  # as above
            else:
                ingest(what, drawn)  # type: ignore[arg-type]  # as above
                own = [view for view in BASE if view.source.name == what]
                fold(world, own[: len(own) - len(taken) % 2])
        assert_same(world, 60)
        fold(world)
        vectors(world, 61)
        assert_same(world, 61)

    check()


@pytest.fixture
def filled(world: World) -> World:
    """Three sources of one batch each, folded in, with vectors as of minute 40."""
    for source in (CLICKS, ORDERS, SALES):
        world.batches = 0
        put(world, source, [("a", 1, 10, 4), ("b", 2, 20, 5), ("a", 1, 39, 6)])
    fold(world)
    assert vectors(world, 40) == 4
    return world


def asked_of(world: World, minute: int, user: str = "a", shop: int = 1) -> list[list[str]]:
    store = Asked(world.online)
    reader = OnlineReader(store, VIEWS, vectors=True)  # type: ignore[arg-type]  # it wraps one
    reader.read({"user": [user], "shop": [shop]}, START_US + minute * MINUTE_US, {"amount": [1.0]})
    looks = [look for look in store.looks if look and not look[0].endswith("/layout")]
    return [[space.partition("@")[0] for space in look] for look in looks]


def test_one_look_is_enough_while_they_hold(filled: World) -> None:
    assert asked_of(filled, 40) == [["vectors", "vectors"]]
    # Later a window has moved: the views are read.
    assert asked_of(filled, 55)[0] == ["vectors", "vectors"]
    assert len(asked_of(filled, 55)) > 1
    assert vectors(filled, 55) > 0
    assert asked_of(filled, 55) == [["vectors", "vectors"]]
    assert len(asked_of(filled, 55, user="nobody")) > 1


def test_only_what_changes_is_written(filled: World) -> None:
    assert vectors(filled, 40) == 0
    filled.batches = 1
    put(filled, CLICKS, [("b", 1, 40, 7)])
    filled.refresh(RECENT)
    # One view of the source lags: what the other knows already is not taken for all.
    assert len(asked_of(filled, 40)) > 1
    assert vectors(filled, 40) == 1
    assert asked_of(filled, 40) == [["vectors", "vectors"]]
    filled.refresh(EXACT)
    assert vectors(filled, 40) == 1
    assert_same(filled, 40)


def test_a_view_built_from_nothing_is_not_mixed_with_old_vectors(filled: World) -> None:
    drop_vectors(filled.online, filled.locks, BASE)
    refresh(filled.tables, filled.online, filled.locks, RECENT, again=True)
    assert len(asked_of(filled, 40)) > 1
    assert vectors(filled, 40) == 4
    filled.online.drop(space_of(RECENT))
    assert refresh_vectors(filled.tables, filled.online, filled.locks, [RECENT, EXACT], 0) == []
    with pytest.raises(NotReadyError, match="features build recent"):
        asked_of(filled, 40)


def test_marks_come_last(filled: World) -> None:
    """A run that is killed before the marks leaves vectors that nobody takes."""
    (group, *_) = groups_of([RECENT, EXACT, BRIEF])
    (before,) = filled.online.get(group.space, [MARKS])
    filled.batches = 1
    put(filled, CLICKS, [("a", 1, 41, 100)])
    fold(filled)
    # What a killed run leaves: the vectors of the new state under the marks of the old.
    (part,) = group.parts(1)
    (vector,) = group.vectors(filled.online.look(part.asks([b"a"])), START_US + 41 * MINUTE_US)
    number = (filled.online.progress(group.space) or 0) + 1
    filled.online.write(group.space, {vector_key(b"a"): vector}, progress=number)
    assert filled.online.get(group.space, [MARKS]) == [before]
    assert len(asked_of(filled, 41)) > 1
    assert_same(filled, 41)
    assert vectors(filled, 41) >= 1
    assert asked_of(filled, 41) == [["vectors", "vectors"]]


def test_a_damaged_vector_is_told(filled: World) -> None:
    (group, *_) = groups_of([RECENT, EXACT, BRIEF])
    number = (filled.online.progress(group.space) or 0) + 1
    for bad in (b"x", b"\0" * (HEAD.size + 8 * group.width)):
        filled.online.write(group.space, {vector_key(b"a"): bad}, progress=number)
        number += 1
        with pytest.raises(StateError, match="vector is damaged"):
            asked_of(filled, 40)


def test_a_deletion_changes_the_vectors_of_whom_it_names(filled: World) -> None:
    filled.batches = 1
    filled.delete(CLICKS, "a")
    fold(filled)
    assert len(asked_of(filled, 40)) > 1
    assert vectors(filled, 40) == 1
    assert_same(filled, 40)
    filled.batches = 1
    filled.delete(ORDERS, "a")
    fold(filled)
    assert vectors(filled, 40) == 1
    # Nothing is known of the user any more, and there is no vector.
    assert len(asked_of(filled, 40)) > 1
    assert_same(filled, 40)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_kill(tmp_path: Path, count: int) -> None:
    """Whenever the process that writes vectors is killed, readers get what the views give."""
    world = open_world(tmp_path)
    rng = np.random.default_rng(7)
    counts = dict.fromkeys(["clicks", "orders", "sales"], 0)

    def arrive(minute: int) -> None:
        for source in (CLICKS, ORDERS, SALES):
            world.batches = counts[source.name]
            counts[source.name] += 1
            rows = [
                (str(rng.choice(["a", "b", "c"])), int(rng.integers(1, 3)), minute, int(x))
                for x in rng.integers(0, 9, 3)
            ]
            put(world, source, rows)

    arrive(0)
    for view in BASE:
        refresh(world.tables, world.online, world.locks, view, partitions=count)
    for turn in range(4):
        minute = 20 * turn
        start_us = START_US + minute * MINUTE_US
        with child(keep_vectors, tmp_path, BASE, start_us, MINUTE_US // 10) as writer:
            for heard in range(3, 12, 3):
                arrive(minute + heard)
                fold(world)
                writer.listen(heard)
                assert_same(world, minute + heard)
            time.sleep(float(rng.uniform(0, 0.02)))
            writer.kill()
        assert_same(world, minute + 13)
    arrive(110)  # what was there before may leave its views by now
    world.batches = counts["sales"]
    put(world, SALES, [("", 1, 115, 1)])
    fold(world)
    assert vectors(world, 120) > 0
    assert len(asked_of(world, 120)) == 1
    world.online.close()
    world.tables.close()
