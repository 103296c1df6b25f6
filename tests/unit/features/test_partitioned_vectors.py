"""Vectors of views in partitions, while several write at once and their number changes."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.adapters.files import FileLocks
from penstock.adapters.redis import RedisOnlineStore
from penstock.errors import ConflictError
from penstock.features import (
    OnlineReader,
    drop_vectors,
    groups_of,
    layout_of,
    part_of,
    partition_of,
    refresh,
    refresh_vectors,
    space_of,
    vector_writing,
)
from penstock.testing.children import child
from penstock.testing.vectors_child import keep_vectors

from .conftest import open_world
from .test_vectors import (
    BASE,
    CLICKS,
    MINUTE_US,
    ORDERS,
    RECENT,
    SALES,
    SHOPS,
    SLOW,
    START_US,
    TRADE,
    USERS,
    VIEWS,
    asked_of,
    put,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import penstock as ps
    from penstock.features import VectorResult
    from penstock.spec import FeatureView

    from .conftest import Prepared, World

SOURCES = (CLICKS, ORDERS, SALES)
MOST = 3
"""No view has more partitions here."""

minutes = st.integers(0, 400)
rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(SHOPS[:2]), minutes, st.integers(-9, 9)),
    max_size=6,
)
slots = st.none() | st.integers(0, MOST - 1)
"""Which partitions a process has: all, or one."""

deeds = st.one_of(
    st.tuples(st.just("ingest"), st.sampled_from(range(3)), rows),
    st.tuples(st.just("fold"), st.sampled_from(range(len(BASE))), slots, minutes),
    st.tuples(st.just("fold all"), minutes),
    st.tuples(st.just("partitions"), st.integers(1, MOST), minutes),
    st.tuples(
        st.just("view partitions"),
        st.sampled_from(range(len(BASE))),
        st.integers(1, MOST),
        minutes,
    ),
    st.tuples(st.just("vectors"), slots, minutes),
    st.tuples(st.just("again"), st.sampled_from(range(len(BASE))), minutes),
)
steps = st.lists(
    st.one_of(
        deeds,
        st.tuples(st.just("read"), minutes),
        # Another process does something when the run that writes vectors comes to its n-th call.
        st.tuples(st.just("meanwhile"), minutes, st.integers(1, 12), st.lists(deeds, max_size=3)),
    ),
    min_size=3,
    max_size=12,
)


class Processes:
    """What some stream processes do to one project, in whatever order.

    Args:
        world: The ports.
        aside: Locks that exclude nobody of the others: only the store's fence holds back.
    """

    def __init__(self, world: World, aside: FileLocks) -> None:
        self.world = world
        self.aside = aside
        self.numbers = dict.fromkeys([source.name for source in SOURCES], 0)
        self.readers = [
            OnlineReader(self.world.online, VIEWS, vectors=own) for own in (False, True)
        ]
        for source in SOURCES:
            self.ingest(source, [("a", 1, 3, 1), ("b", 2, 4, 2)])
        self.fold_all(10)

    def ingest(self, source: ps.Source, drawn: Sequence[tuple[str, int, int, int]]) -> None:
        self.world.batches = self.numbers[source.name]  # numbered by source
        self.numbers[source.name] += 1
        put(self.world, source, drawn)

    def fold(
        self,
        view: FeatureView,
        minute: int,
        slot: int | None = None,
        *,
        count: int | None = None,
        again: bool = False,
    ) -> None:
        own = None if slot is None else lambda _space, count: {slot} & set(range(count))
        refresh(
            self.world.tables, self.world.online, self.aside, view,
            partitions=count, slots=own, again=again, now_us=START_US + minute * MINUTE_US,
        )  # fmt: skip

    def fold_all(self, minute: int, count: int | None = None) -> None:
        for view in BASE:
            self.fold(view, minute, count=count)

    def vectors(self, slot: int | None, minute: int, *, mine: bool = True) -> list[VectorResult]:
        """Write vectors, with the locks that exclude others or without."""
        world, now_us = self.world, START_US + minute * MINUTE_US
        own = None if slot is None else lambda _space, count: {slot} & set(range(count))
        locks = world.locks if mine else self.aside
        return refresh_vectors(world.tables, world.online, locks, BASE, now_us, slots=own)

    def do(self, deed: Sequence[object]) -> None:
        match deed:
            case ("ingest", int(source), list(drawn)):
                self.ingest(SOURCES[source], drawn)
            case ("fold", int(view), slot, int(minute)):
                self.fold(BASE[view], minute, slot)  # type: ignore[arg-type]  # drawn so
            case ("fold all", int(minute)):
                self.fold_all(minute)
            case ("partitions", int(count), int(minute)):
                self.fold_all(minute, count)
            case ("view partitions", int(view), int(count), int(minute)):
                self.fold(BASE[view], minute, count=count)
            case ("vectors", slot, int(minute)):
                self.vectors(slot, minute, mine=False)  # type: ignore[arg-type]  # drawn so
            case ("again", int(view), int(minute)):
                drop_vectors(self.world.online, self.aside, BASE)
                self.fold(BASE[view], minute, again=True)
            case _:
                raise AssertionError(deed)

    def meanwhile(self, minute: int, call: int, others: Sequence[Sequence[object]]) -> bool:
        """Write vectors, while others do something when it comes to its n-th call of the store.

        Returns:
            Whether it came to its end; else the next run goes on.
        """
        left = call

        def wrap(method: Callable[..., object]) -> Callable[..., object]:
            def calling(*args: object, **options: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    for deed in others:
                        self.do(deed)
                return method(*args, **options)

            return calling

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vector_writing, "AT_ONCE", 1)  # so that it takes several writes
            for name in ("look", "claim", "write", "items"):
                patch.setattr(self.world.online, name, wrap(getattr(self.world.online, name)))
            try:
                self.vectors(None, minute)
            except ConflictError:
                return False
        return True

    def assert_same(self, minute: int) -> None:
        """With vectors as without, for readers that have read before and for new ones."""
        fresh = [OnlineReader(self.world.online, VIEWS, vectors=own) for own in (False, True)]
        for readers in (self.readers, fresh):
            assert_alike(readers, minute)


def assert_alike(readers: Sequence[OnlineReader], minute: int) -> None:
    plain, quick = readers
    asked = [(user, shop) for user in USERS for shop in SHOPS]
    keys: dict[str, list[str | int]] = {
        "user": [user for user, _ in asked],
        "shop": [shop for _, shop in asked],
    }
    request: dict[str, list[object]] = {"amount": [2.0] * len(asked)}
    at_us = START_US + minute * MINUTE_US
    wanted = plain.read_settled(keys, at_us, request)
    found = quick.read_settled(keys, at_us, request)
    np.testing.assert_array_equal(found.values, wanted.values)
    np.testing.assert_array_equal(found.as_of_us, wanted.as_of_us)
    assert (found.unknown, found.seen) == (wanted.unknown, wanted.seen)
    assert (found.progress, [*found.by_row]) == (wanted.progress, [*wanted.by_row])
    for user, shop in (asked[0], asked[4]):
        one = quick.read_settled({"user": [user], "shop": [shop]}, at_us, {"amount": [2.0]})
        row = plain.read_settled({"user": [user], "shop": [shop]}, at_us, {"amount": [2.0]})
        np.testing.assert_array_equal(one.values, row.values)
        assert (one.as_of_us.tolist(), one.unknown, one.seen) == (
            row.as_of_us.tolist(), row.unknown, row.seen,
        )  # fmt: skip


def check_all(processes: Processes, taken: Sequence[Sequence[object]]) -> None:
    for step in taken:
        match step:
            case ("read", int(minute)):
                processes.assert_same(minute)
            case ("meanwhile", int(minute), int(call), list(others)):
                processes.meanwhile(minute, call, others)
                processes.assert_same(minute)
            case _:
                processes.do(step)
    for minute in (0, 60, 400):
        processes.assert_same(minute)
    processes.fold_all(401)
    processes.vectors(None, 401)
    processes.assert_same(401)
    assert all(one.written == 0 for one in processes.vectors(None, 401))


def test_vectors_in_partitions_are_what_the_views_give(
    next_world: Callable[[], World], tmp_path: Path
) -> None:
    @settings(max_examples=20, deadline=None, suppress_health_check=SLOW)
    @given(steps)
    def check(taken: list[Sequence[object]]) -> None:
        check_all(Processes(next_world(), FileLocks(tmp_path / "aside")), taken)

    check()


@pytest.fixture
def split(prepared: Prepared, tmp_path: Path) -> Processes:
    """All views in three partitions, with vectors as of minute 20, in either store."""
    processes = Processes(prepared.world, FileLocks(tmp_path / "aside"))
    processes.fold_all(10, 3)
    processes.vectors(None, 20)
    return processes


def test_one_look_is_enough_in_partitions_too(split: Processes) -> None:
    assert [len(asked_of(split.world, 20, user, shop)) for user, shop in [("a", 1), ("b", 2)]] == [
        1, 1,
    ]  # fmt: skip
    split.assert_same(20)


def test_what_one_partition_lacks_the_others_have(split: Processes) -> None:
    own = {
        slot: [key for key in "abcdefgh" if partition_of(key.encode(), 3) == slot]
        for slot in range(3)
    }
    split.ingest(CLICKS, [(keys[0], 1, 12, 5) for keys in own.values()])
    for view in BASE[:2]:
        split.fold(view, 20, slot=1)
    split.vectors(1, 20)
    # The new batch is in the vectors of one partition, and the others' still hold what they held.
    key = own[1][0]
    assert len(asked_of(split.world, 20, key, 1)) == 1 + (key not in "ab")
    split.assert_same(20)
    split.fold_all(20)
    split.assert_same(20)
    assert [one.written for one in split.vectors(0, 20)] == [1, 0]
    assert [one.written for one in split.vectors(None, 20)] == [1, 0]
    split.assert_same(20)


def test_another_number_of_partitions_has_vectors_of_its_own(split: Processes) -> None:
    (group,) = groups_of([TRADE])
    split.fold(TRADE, 20, count=2)
    assert len(asked_of(split.world, 20)) > 1
    assert [one.from_zero for one in split.vectors(None, 20)] == [False, True]
    assert len(asked_of(split.world, 20)) == 1
    # Views in unlike numbers of partitions have none: here those of the users.
    split.fold(RECENT, 20, count=2)
    assert [one.space for one in split.vectors(None, 20)] == [group.space]
    assert len(asked_of(split.world, 20)) > 1
    split.assert_same(20)
    assert layout_of(split.world.online, space_of(RECENT)).partitions == 2
    drop_vectors(split.world.online, split.world.locks, [TRADE])
    left = {part_of(name).space for name in split.world.online.spaces()}
    assert group.space not in left


def test_a_view_that_is_dropped_while_its_vectors_are_written_leaves_none(split: Processes) -> None:
    """It comes back with as many batches, and no vector may say that it has nothing."""
    refused = 0
    for call in range(1, 10):
        split.ingest(CLICKS, [("a", 1, 15, call), ("b", 2, 16, -call)])
        split.fold_all(20)
        refused += not split.meanwhile(20, call, [("view partitions", 0, 2, 20)])
        split.fold(RECENT, 20, count=3)
        split.assert_same(20)
    assert refused > 0


@pytest.mark.slow
@pytest.mark.parametrize("store", ["lmdb", "redis"])
def test_kill(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Two processes write vectors at once, either is killed, and partitions come and go."""
    with ExitStack() as stack:
        world, url = open_world(tmp_path), ""
        stack.callback(world.tables.close)
        stack.callback(world.online.close)
        if store == "redis":
            url = f"redis://127.0.0.1:{request.getfixturevalue('running')}/0#killed-vectors"
            world.online = stack.enter_context(closing(RedisOnlineStore(url)))
        processes = Processes(world, FileLocks(tmp_path / "aside"))
        rng = np.random.default_rng(11)
        for turn in range(3):
            minute = 20 * turn
            given = (BASE, START_US + minute * MINUTE_US, MINUTE_US // 10, url)
            with (
                child(keep_vectors, tmp_path, *given) as one,
                child(keep_vectors, tmp_path, *given) as other,
            ):
                for heard in range(2, 8, 2):
                    for source in SOURCES:
                        users, shops = rng.choice(["a", "b", "c"], 3), rng.integers(1, 3, 3)
                        drawn = [
                            (str(user), int(shop), minute + heard, int(shop))
                            for user, shop in zip(users, shops, strict=True)
                        ]
                        processes.ingest(source, drawn)
                    processes.fold_all(minute + heard, 1 + (turn + heard // 2) % MOST)
                    one.listen(heard)
                    processes.assert_same(minute + heard)
                time.sleep(float(rng.uniform(0, 0.02)))
                one.kill()
                processes.assert_same(minute + 8)
                processes.fold_all(minute + 9, 1 + turn % MOST)
                other.listen(len(other.said) + 3)
                processes.assert_same(minute + 9)
        for source in SOURCES:
            processes.ingest(source, [("a", 1, 69, 1)])
        processes.fold_all(70)
        processes.vectors(None, 70)
        processes.assert_same(70)
        assert len(asked_of(world, 70, "a", 1)) == 1
