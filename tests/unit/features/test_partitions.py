from __future__ import annotations

import math
import threading
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.adapters.redis import RedisOnlineStore
from penstock.errors import ConflictError, NotReadyError, UnavailableError
from penstock.features import (
    Layout,
    OnlineReader,
    PartOf,
    built_to,
    check_online,
    layout_of,
    lock_of,
    marks_of,
    part_of,
    partition_of,
    partition_spaces,
    point_in_time,
    refresh,
    space_of,
)
from penstock.features.partitions import partitions_of
from penstock.testing.ports import free_port
from penstock.testing.redis_server import need_redis, redis_server

from .test_online import HOUR_US, OTHER, VIEW, make_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from tests.unit.features.conftest import World

    from penstock.features import RefreshResult
    from penstock.ports import OnlineStore
    from penstock.spec import FeatureView

SPACE = space_of(VIEW)
MANY = "abcdefghijklmnopqrstuvwxyz"


def bring(
    world: World,
    count: int | None = None,
    *slots: int,
    view: FeatureView = VIEW,
    again: bool = False,
    online: OnlineStore | None = None,
) -> RefreshResult:
    """Refresh some partitions, all where none is named."""
    chosen: Callable[[str, int], Iterable[int]] | None = None
    if slots:
        chosen = lambda _, count: [slot for slot in slots if slot < count]  # noqa: E731
    return refresh(
        world.tables, online or world.online, world.locks, view,
        partitions=count, slots=chosen, again=again, chunk_rows=60,
    )  # fmt: skip


def values_of(online: OnlineStore, count: int, space: str = SPACE) -> dict[bytes, bytes]:
    """Every value of a view, wherever it lies."""
    return {
        key: value
        for slot, name in enumerate(partition_spaces(space, count))
        for key, value in online.items(name)
        if partition_of(key, count) == slot
    }


def assert_same_as_offline(world: World, views: Sequence[FeatureView] = (VIEW,)) -> None:
    """What is read online is what the raw tables give out of what each row has seen."""
    reader = OnlineReader(world.online, views)
    keys = [*MANY, "nobody"]
    found = reader.read_settled(keys, np.arange(len(keys)) * HOUR_US)
    at = pl.Series(found.as_of_us).cast(pl.Datetime("us", "UTC"))
    spine = pl.DataFrame({"key": keys, "at": at})
    seen = {view.name: np.array([row[view.name] for row in found.seen]) for view in views}
    frame = point_in_time(world.tables, views, spine, batches=seen)
    expected = frame.select(pl.col(reader.names).cast(pl.Float64).fill_null(np.nan)).to_numpy()
    np.testing.assert_allclose(found.values, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("key", "partitions"),
    [
        (b"", (0, 0, 0)),
        (b"BTCUSDT", (1, 3, 45)),
        ("Größe".encode(), (0, 2, 82)),
        ((7).to_bytes(8, "big"), (0, 2, 12)),
        ((-7).to_bytes(8, "big", signed=True), (0, 3, 218)),
    ],
)
def test_the_partition_of_a_key_never_changes(key: bytes, partitions: tuple[int, ...]) -> None:
    """What is stored lies where these numbers say: they may not be brought up to date."""
    assert tuple(partition_of(key, count) for count in (2, 7, 256)) == partitions


@given(keys=st.lists(st.binary(max_size=40)), count=st.integers(1, 256))
def test_one_key_and_many_have_the_same_partitions(keys: list[bytes], count: int) -> None:
    many = partitions_of(keys, count).tolist()
    assert many == [partition_of(key, count) for key in keys]
    assert all(0 <= slot < count for slot in many)


@given(
    start=st.integers(-(2**62), 2**62),
    step=st.integers(1, 2**40),
    count=st.integers(2, 32),
    as_text=st.booleans(),
)
def test_partitions_are_balanced(start: int, step: int, count: int, *, as_text: bool) -> None:
    """Keys that follow one another, in steps of any length, lie evenly: within six sigmas."""
    numbers = range(start, start + step * 4_000, step)
    keys = [
        f"user-{n}".encode() if as_text else (n % 2**63).to_bytes(8, "big") for n in numbers
    ]  # fmt: skip
    sizes = np.bincount(partitions_of(keys, count), minlength=count)
    expected = len(keys) / count
    assert np.abs(sizes - expected).max() <= 6 * math.sqrt(expected)


def test_the_spaces_of_partitions_are_told_apart() -> None:
    assert partition_spaces("v@1", 1) == ("v@1",)
    assert [part_of(name) for name in partition_spaces("v@1", 1)] == [PartOf("v@1", 0, 1)]
    assert [part_of(name) for name in partition_spaces("v@1", 12)] == [
        PartOf("v@1", slot, 12) for slot in range(12)
    ]
    assert part_of("v@1/layout") == PartOf("v@1", None, 0)


@pytest.fixture(params=["lmdb", "redis"])
def stores(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[int], OnlineStore]]:
    """Opens a store of its own for each number."""
    with ExitStack() as stack:
        if request.param == "lmdb":
            yield lambda n: stack.enter_context(closing(LmdbOnlineStore(tmp_path / f"own-{n}")))
            return
        need_redis()
        port = free_port()
        stack.enter_context(redis_server(tmp_path / "redis", port, "--save", ""))
        address = f"redis://127.0.0.1:{port}/0"
        yield lambda n: stack.enter_context(closing(RedisOnlineStore(f"{address}#own-{n}")))


def test_several_consumers_store_what_one_does(
    world: World, stores: Callable[[int], OnlineStore]
) -> None:
    """The same batches through 1, 2 and 4 partitions, each refreshed apart: the same bytes."""
    counts = (1, 2, 4)
    online = {count: stores(count) for count in counts}
    for seed in range(6):
        world.ingest(VIEW.source, make_records(50, seed, keys=MANY))
        for count in counts:
            done = [bring(world, count, slot, online=online[count]) for slot in range(count)]
            assert sum(one.records for one in done) == 50
    one = values_of(online[1], 1)
    assert len(one) == len(MANY)
    for count in counts:
        assert values_of(online[count], count) == one
        assert built_to(online[count], SPACE) == 6
        assert_same_as_offline(replace(world, online=online[count]))


def test_each_row_says_what_it_has_seen(world: World) -> None:
    for seed in range(3):
        world.ingest(VIEW.source, make_records(80, seed, keys=MANY))
    bring(world, 4)
    world.ingest(VIEW.source, make_records(80, 3, keys=MANY))
    bring(world, 4, 1, 2)
    assert marks_of(world.online, SPACE, 4) == [3, 4, 4, 3]
    reader = OnlineReader(world.online, [VIEW])
    assert (reader.progress(), built_to(world.online, SPACE)) == ({"v": 3}, 3)
    found = reader.read_settled([*MANY], 0)
    slots = partitions_of([key.encode() for key in MANY], 4)
    assert found.progress == {"v": 3}
    assert [row["v"] for row in found.seen] == np.array([3, 4, 4, 3])[slots].tolist()
    (alone,) = {MANY[place] for place in np.flatnonzero(slots == 1)[:1].tolist()}
    one = reader.read_settled([alone], 0)
    assert (one.progress, one.by_row) == ({"v": 4}, ())
    assert reader.read_settled([], 0).progress == {"v": 3}
    assert_same_as_offline(world)
    checks = check_online(world.tables, world.online, VIEW, at_us=30 * HOUR_US)
    assert {check.mismatches for check in checks} == {0}


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (2, 3), (8, 2)])
def test_another_number_of_partitions_is_built_beside_the_old(
    world: World, before: int, after: int
) -> None:
    world.ingest(VIEW.source, make_records(200, 0, keys=MANY))
    bring(world, before)
    reader = OnlineReader(world.online, [VIEW])
    old = reader.read([*MANY], 0)[0]
    for slot in range(after):
        assert layout_of(world.online, SPACE).partitions == before
        np.testing.assert_array_equal(reader.read([*MANY], 0)[0], old)
        bring(world, after, slot)
    # Who has a partition that is left drops it with the next refresh.
    for slot in range(max(before, after)):
        np.testing.assert_allclose(reader.read([*MANY], 0)[0], old, rtol=1e-12)
        bring(world, after, slot)
    assert layout_of(world.online, SPACE) == Layout(
        after, 0, layout_of(world.online, SPACE).generation
    )
    spaces = {*partition_spaces(SPACE, after), f"{SPACE}/layout"}
    assert set(world.online.spaces()) == spaces
    np.testing.assert_allclose(reader.read([*MANY], 0)[0], old, rtol=1e-12)
    world.ingest(VIEW.source, make_records(50, 1, keys=MANY))
    assert bring(world).records == 50
    assert_same_as_offline(world)


def test_what_is_read_is_kept_up_to_date_until_the_others_are_built(world: World) -> None:
    world.ingest(VIEW.source, make_records(100, 0, keys=MANY))
    bring(world)
    bring(world, 3, 0)
    world.ingest(VIEW.source, make_records(100, 1, keys=MANY))
    bring(world, 3, 0)
    assert built_to(world.online, SPACE) == 2
    assert marks_of(world.online, SPACE, 3) == [2, None, None]
    bring(world, 3, 1)
    world.ingest(VIEW.source, make_records(100, 2, keys=MANY))
    assert built_to(world.online, SPACE) == 2
    bring(world, 3, 2)
    # Built, and yet not read: the others lack a batch that the last one has.
    assert marks_of(world.online, SPACE, 3) == [2, 2, 3]
    assert layout_of(world.online, SPACE).partitions == 3
    assert_same_as_offline(world)
    bring(world, 3)
    assert built_to(world.online, SPACE) == 3
    assert_same_as_offline(world)


def test_what_is_built_is_read_when_it_holds_all_that_was(world: World) -> None:
    world.ingest(VIEW.source, make_records(100, 0, keys=MANY))
    bring(world)
    bring(world, 3, 1)
    world.ingest(VIEW.source, make_records(100, 1, keys=MANY))
    bring(world, 3, 0)
    bring(world, 3, 2)
    assert (marks_of(world.online, SPACE, 1), marks_of(world.online, SPACE, 3)) == ([2], [2, 1, 2])
    assert layout_of(world.online, SPACE).partitions == 1, "one of them would go back to a batch"
    bring(world, 3, 1)
    assert layout_of(world.online, SPACE).partitions == 3
    assert_same_as_offline(world)


def test_readers_never_go_back_in_time(world: World) -> None:
    """While partitions come and go, every read is of a whole state, and of no older one."""
    world.ingest(VIEW.source, make_records(60, 0, keys=MANY))
    bring(world)
    stop = threading.Event()
    faults: list[str] = []

    def read(keys: list[str]) -> None:
        reader, last = OnlineReader(world.online, [VIEW]), [0] * len(keys)
        while not stop.is_set():
            now = [row["v"] for row in reader.read_settled(keys, 0).seen]
            if any(a > b for a, b in zip(last, now, strict=True)):
                faults.append(f"{last} before {now}")
            last = now

    threads = [threading.Thread(target=read, args=(keys,)) for keys in ([*MANY], ["q"])]
    for thread in threads:
        thread.start()
    for seed, count in enumerate((2, 4, 1, 3, 1, 2), 1):
        world.ingest(VIEW.source, make_records(60, seed, keys=MANY))
        bring(world, count)
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert_same_as_offline(world)


def test_a_change_of_mind_half_way(world: World) -> None:
    world.ingest(VIEW.source, make_records(200, 0, keys=MANY))
    bring(world)
    bring(world, 4, 0, 1)
    assert bring(world, 2).from_zero
    assert layout_of(world.online, SPACE).partitions == 2
    bring(world, 4, 2, 3)
    assert layout_of(world.online, SPACE).partitions == 4
    bring(world, 4)
    assert_same_as_offline(world)


def test_one_partition_that_is_lost_is_built_again_alone(world: World) -> None:
    world.ingest(VIEW.source, make_records(200, 0, keys=MANY))
    bring(world, 4)
    world.ingest(VIEW.source, make_records(30, 1, keys=MANY))
    lost = partition_spaces(SPACE, 4)[2]
    world.online.drop(lost)
    reader = OnlineReader(world.online, [VIEW])
    key = {slot: key for key in MANY for slot in [partition_of(key.encode(), 4)]}
    assert np.isfinite(reader.read([key[1]], 0)[0][0, 0])
    with pytest.raises(NotReadyError, match="penstock features build v"):
        reader.read([key[2]], 0)
    with pytest.raises(NotReadyError, match=r"not built yet"):
        reader.progress()
    again = bring(world, 4)
    assert again.from_zero
    assert_same_as_offline(world)


def test_a_lost_store_is_built_with_as_many_partitions_as_wanted(world: World) -> None:
    world.ingest(VIEW.source, make_records(200, 0, keys=MANY))
    bring(world, 4)
    reader = OnlineReader(world.online, [VIEW])
    reader.read([*MANY], 0)
    for space in world.online.spaces():
        world.online.drop(space)
    with pytest.raises(NotReadyError):
        reader.read([*MANY], 0)
    bring(world, 2)
    assert marks_of(world.online, SPACE, 2) == [1, 1]
    assert_same_as_offline(world)
    bring(world, 2, again=True)
    assert_same_as_offline(world)


def test_views_of_other_numbers_of_partitions_are_read_together(world: World) -> None:
    world.ingest(VIEW.source, make_records(200, 0, keys=MANY))
    bring(world, 3)
    bring(world, 2, view=OTHER)
    world.ingest(VIEW.source, make_records(40, 1, keys=MANY))
    bring(world, 3, 1)
    assert_same_as_offline(world, [VIEW, OTHER])
    reader = OnlineReader(world.online, [VIEW, OTHER])
    assert reader.knows([*"ab", "nobody"]) == [True, True, False]
    assert reader.read_settled(["nobody", "a"], 0).unknown == [0]


def test_who_comes_back_late_can_write_nothing(world: World) -> None:
    """The lock was lost to another while a refresh was under way: it stops at its next write."""
    world.ingest(VIEW.source, make_records(100, 0, keys=MANY))
    bring(world, 2)
    for seed in (1, 2, 3):
        world.ingest(VIEW.source, make_records(100, seed, keys=MANY))

    class Lapsing:
        """Locks that are held by nobody else only because everybody gets a greater token."""

        def hold(self, name: str, *, wait_s: float = 30.0) -> object:
            del wait_s
            return world.locks.hold(f"{name}/{threading.get_ident()}/{id(self)}")

    def take_over(_: str, share: float) -> None:
        if share < 1:
            refresh(
                world.tables, world.online, Lapsing(), VIEW, slots=lambda _, __: [0],  # type: ignore[arg-type]  # a stand-in
            )  # fmt: skip

    with pytest.raises(ConflictError, match="is another's to write"):
        refresh(
            world.tables, world.online, world.locks, VIEW, chunk_rows=60, progress=take_over
        )  # fmt: skip
    assert marks_of(world.online, SPACE, 2) == [4, 2]
    assert_same_as_offline(world)
    bring(world)
    assert marks_of(world.online, SPACE, 2) == [4, 4]
    assert_same_as_offline(world)


def test_a_partition_is_locked_apart_from_the_others(world: World) -> None:
    world.ingest(VIEW.source, make_records(100, 0, keys=MANY))

    class Impatient:
        """The locks, without waiting."""

        def hold(self, name: str, *, wait_s: float = 30.0) -> object:
            del wait_s
            return world.locks.hold(name, wait_s=0)

    def three(slots: list[int]) -> RefreshResult:
        return refresh(
            world.tables, world.online, Impatient(), VIEW,  # type: ignore[arg-type]  # a stand-in
            partitions=3, slots=lambda _, __: slots,
        )  # fmt: skip

    with world.locks.hold(lock_of(SPACE, 1)):
        three([0, 2])
        with pytest.raises(UnavailableError):
            three([1])
    assert marks_of(world.online, SPACE, 3) == [1, None, 1]
