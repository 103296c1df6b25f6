"""What nobody can ask for any more leaves the online store, and all that is read stays right."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.adapters.redis import RedisOnlineStore
from penstock.algebra import NEVER_US
from penstock.errors import StateError
from penstock.features import (
    OnlineReader,
    check_online,
    groups_of,
    partition_spaces,
    point_in_time,
    refresh,
    refresh_vectors,
    space_of,
    sweeping,
)
from penstock.features.sweeping import LEAST, MARGIN_US, SWEPT, Swept
from penstock.features.vectors import MARKS
from penstock.spec import Aggregate, FeatureView
from penstock.testing.oracle import naive_remaining
from penstock.testing.ports import free_port
from penstock.testing.redis_server import need_redis, redis_server
from penstock.testing.strategies import deleted_histories, is_deletion, leaving_views, source

from .test_deletes import assert_row, batches_of, feed, naive_row, thorough

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.features.conftest import World

    from penstock.features import RefreshResult
    from penstock.ports import OnlineStore

    from .test_deletes import Record

HOUR_US = 3_600_000_000
FAR_US = 10_000 * HOUR_US
STRICT = msgspec.structs.replace(source(), nullable=())
VIEW = FeatureView(
    name="v",
    source=STRICT,
    features=(
        Aggregate(op="count", over="1h", name="n"),
        Aggregate(op="mean", column="x", over="2h", name="mean"),
    ),
)
NEWEST = FeatureView(
    name="w",
    source=STRICT,
    features=(Aggregate(op="last", column="x"), Aggregate(op="sum", column="n", over="1h")),
    ttl="2h",
)
WHOLE = FeatureView(name="z", source=STRICT, features=(Aggregate(op="count"),))


def bring(world: World, view: FeatureView = VIEW, **options: object) -> RefreshResult:
    given: dict[str, object] = {"now_us": FAR_US} | options
    return refresh(world.tables, world.online, world.locks, view, **given)  # type: ignore[arg-type]  # options of refresh


def arrive(world: World, hour: float, *keys: str, x: float | None = 1.0) -> None:
    """A batch with a record of each key."""
    at_us = int(hour * HOUR_US)
    world.ingest(STRICT, [{"key": key, "ts": at_us, "x": x, "n": 1} for key in keys])


def crowd(name: str, size: int) -> list[str]:
    return [f"{name}-{number}" for number in range(size)]


def held(online: OnlineStore, view: FeatureView = VIEW, count: int = 1) -> set[str]:
    """The entities that the store has a value of."""
    spaces = partition_spaces(space_of(view), count)
    keys = {key for space in spaces for key, _ in online.items(space)}
    return {key.decode() for key in keys - {SWEPT}}


def assert_exact(world: World, keys: list[str], at_us: int, view: FeatureView = VIEW) -> list[int]:
    """Law 3: what is read is what the raw table gives at the times that are told."""
    reader = OnlineReader(world.online, [view])
    times = np.concatenate([reader.read([key], at_us)[1] for key in keys])
    values, as_of_us = reader.read(keys, at_us)
    np.testing.assert_array_equal(as_of_us, times)
    spine = pl.DataFrame({"key": keys, "at": pl.Series(as_of_us).cast(pl.Datetime("us", "UTC"))})
    frame = point_in_time(world.tables, [view], spine)
    expected = frame.select(pl.col(reader.names).cast(pl.Float64).fill_null(np.nan)).to_numpy()
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    found: list[int] = as_of_us.tolist()
    return found


@pytest.fixture(params=["lmdb", "redis"])
def either(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Iterator[World]:
    """The ports, with either online store."""
    if request.param == "lmdb":
        yield world
        return
    need_redis()
    port = free_port()
    with (
        redis_server(tmp_path / "redis", port, "--save", ""),
        closing(RedisOnlineStore(f"redis://127.0.0.1:{port}/0")) as online,
    ):
        yield type(world)(world.tables, online, world.locks)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("view", [VIEW, NEWEST], ids=["windows", "newest"])
def test_what_nobody_can_ask_for_leaves_slice_by_slice(
    either: World, view: FeatureView, count: int
) -> None:
    old = crowd("old", 4 * LEAST)
    arrive(either, 0, *old)
    first = bring(either, view, partitions=count)
    assert (first.swept, first.from_zero) == (0, True)
    swept: list[int] = []
    for hour in range(1, 14):
        arrive(either, hour, "here", f"at-{hour}")
        swept.append(bring(either, view, partitions=count).swept)
        assert_exact(either, ["here", old[0], old[-1], "nobody"], hour * HOUR_US, view)
    # Nothing leaves while a window or the hour behind them reaches it; then a slice at a time,
    # which in Redis may be the whole of a small space.
    assert swept[:2] == [0, 0]
    assert sum(swept) >= len(old)
    assert max(swept) <= LEAST * count or isinstance(either.online, RedisOnlineStore)
    left = held(either.online, view, count)
    assert left <= {"here"} | {f"at-{hour}" for hour in range(9, 14)}
    assert {"here", "at-13"} <= left
    checks = check_online(either.tables, either.online, view, at_us=14 * HOUR_US)
    assert [check.mismatches for check in checks] == [0] * len(checks)
    assert bring(either, view, partitions=count).swept == 0


def test_a_horizon_is_told_of_and_late_records_find_their_way(world: World) -> None:
    arrive(world, 0, "a", "b", "c")
    bring(world)
    arrive(world, 6, "b")
    assert bring(world).swept == 2
    assert held(world.online) == {"b"}
    horizon_us = 6 * HOUR_US - MARGIN_US
    assert assert_exact(world, ["a", "never"], HOUR_US // 2) == [horizon_us] * 2
    assert assert_exact(world, ["a", "b"], 7 * HOUR_US) == [7 * HOUR_US] * 2
    # Before the windows that are still asked; within them; and new, each for who has left.
    arrive(world, 0.5, "a")
    arrive(world, 4.5, "a", "c")
    late = bring(world)
    assert (late.records, late.too_late) == (3, 1)
    assert held(world.online) == {"a", "b", "c"}
    for hour in (0, 5, 6, 6.4, 7):
        assert_exact(world, ["a", "b", "c", "never"], int(hour * HOUR_US))
    reader = OnlineReader(world.online, [VIEW])
    assert reader.read_one("a", 0)["v.n"] == 1
    assert reader.knows(["a", "never"]) == [True, False]


@pytest.mark.parametrize("online", ["one", "three", "vectors"])
def test_nothing_is_told_from_before_a_seam(world: World, online: str) -> None:
    count = 3 if online == "three" else 1
    arrive(world, 0, "a", "b", "c", "d")
    bring(world, partitions=count)
    arrive(world, 1.2, "e")
    arrive(world, 3.5, "c")
    assert bring(world, partitions=count).swept == 3
    assert assert_exact(world, ["c", "e"], 2 * HOUR_US) == [7 * HOUR_US // 2, 2 * HOUR_US]
    # In time for who has left: its value says all from its newest event on.
    arrive(world, 3, "d")
    bring(world, partitions=count)
    assert assert_exact(world, ["d"], 3 * HOUR_US) == [3 * HOUR_US]
    # Late: what left is in its windows still, until the horizon.
    arrive(world, 1.9, "a", x=3.0)
    bring(world, partitions=count)
    times = assert_exact(world, ["a", "b", "c", "d"], 2 * HOUR_US)
    assert [at / HOUR_US for at in times] == [2.5, 2.5, 3.5, 3]
    if online == "vectors":
        refresh_vectors(world.tables, world.online, world.locks, [VIEW], 2 * HOUR_US)
    assert_vectors_exact(world, [VIEW], ["a", "b", "c", "d"])
    # Without a clock too.
    arrive(world, 9, "c")
    bring(world, partitions=count)
    arrive(world, 7, "b", x=3.0)
    bring(world, partitions=count, now_us=None)
    assert assert_exact(world, ["b"], 0) == [8 * HOUR_US]


def test_a_value_that_is_past_with_its_new_records_leaves_at_once(world: World) -> None:
    arrive(world, 0, *crowd("old", 4 * LEAST))
    arrive(world, 1, "z")  # the last one by key, far from the first slices
    bring(world)
    arrive(world, 0.9, "z")
    arrive(world, 20, "here")
    swept = bring(world).swept
    # What it said of times before the horizon is no longer so: the late record counts there too.
    assert assert_exact(world, ["z", "here"], HOUR_US) == [19 * HOUR_US, 20 * HOUR_US]
    found, mark = world.online.get(space_of(VIEW), [b"z", SWEPT])
    assert found is None
    assert swept == LEAST + 1 == Swept.read(mark).left


def test_many_hours_that_come_at_once_and_in_order_are_not_late(world: World) -> None:
    arrive(world, 0, "a")
    bring(world)
    hours = [{"ts": hour * HOUR_US, "n": 1, "x": 1.0} for hour in range(1, 25)]
    for key in ("a", "b"):
        world.ingest(STRICT, [record | {"key": key} for record in hours])
    found = bring(world)
    assert (found.records, found.too_late) == (48, 0)
    assert_exact(world, ["a", "b"], 0)
    # For the horizon that stands now, at 23, all up to 21 are.
    world.ingest(STRICT, [record | {"key": "c"} for record in hours])
    assert bring(world).too_late == 21


def test_a_horizon_only_goes_forward(world: World) -> None:
    arrive(world, 0, "a")
    bring(world)
    arrive(world, 3, "b")
    assert bring(world).swept == 1  # at the very end of its longest window
    arrive(world, 2.5, "b")
    bring(world)
    assert assert_exact(world, ["a", "b"], 7 * HOUR_US // 4) == [2 * HOUR_US, 3 * HOUR_US]


def test_a_first_build_and_one_anew_hold_only_what_can_be_asked_for(world: World) -> None:
    arrive(world, 0, *crowd("old", 20))
    arrive(world, 9, "a")
    built = bring(world)
    assert (built.records, built.swept, built.too_late) == (21, 0, 0)
    assert held(world.online) == {"a"}
    assert_exact(world, ["a", "old-1"], 0)
    bring(world, again=True, partitions=2, chunk_rows=5)
    arrive(world, 9, "b")
    bring(world)
    assert held(world.online, count=2) == {"a", "b"}
    assert_exact(world, ["a", "b", "old-1"], 0)


def test_without_a_clock_nothing_leaves(world: World) -> None:
    arrive(world, 0, "a")
    arrive(world, 90, "b")
    bring(world, now_us=None)
    arrive(world, 91, "b")
    assert bring(world, now_us=None).swept == 0
    assert held(world.online) == {"a", "b"}
    assert assert_exact(world, ["a"], 0) == [0]


def test_without_a_clock_a_horizon_stays_and_no_slice_is_looked_at(world: World) -> None:
    arrive(world, 0, *crowd("old", 4 * LEAST))
    bring(world)
    arrive(world, 20, "here")
    assert bring(world).swept == LEAST
    (mark,) = world.online.get(space_of(VIEW), [SWEPT])
    before = held(world.online)
    arrive(world, 90, "here")
    assert bring(world, now_us=None).swept == 0
    assert held(world.online) == before
    (after,) = world.online.get(space_of(VIEW), [SWEPT])
    assert Swept.read(after) == Swept.read(mark)._replace(is_rich=False)
    assert assert_exact(world, ["old-0", "here"], 0) == [19 * HOUR_US, 90 * HOUR_US]
    arrive(world, 91, "here")
    assert bring(world).swept == LEAST


def test_a_record_of_a_day_to_come_moves_nothing(world: World) -> None:
    arrive(world, 10, "a")
    bring(world, now_us=10 * HOUR_US)
    arrive(world, 9_000, "b")
    assert bring(world, now_us=11 * HOUR_US).swept == 0
    assert held(world.online) == {"a", "b"}
    assert assert_exact(world, ["a"], 0) == [10 * HOUR_US]


def test_features_of_the_whole_past_stay(world: World) -> None:
    arrive(world, 0, "a")
    bring(world, WHOLE)
    arrive(world, 900, "b")
    assert bring(world, WHOLE).swept == 0
    arrive(world, 901, "a")
    bring(world, WHOLE)
    assert OnlineReader(world.online, [WHOLE]).read_one("a", FAR_US) == {"z.count": 2}
    assert list(world.online.get(space_of(WHOLE), [SWEPT])) == [None]


def test_a_null_of_another_declaration_brings_the_past_back(world: World) -> None:
    arrive(world, 0, "a", x=7.0)
    bring(world, NEWEST)
    arrive(world, 10, "b")
    assert bring(world, NEWEST).swept == 1
    arrive(world, 11, "a", "c", x=None)
    bring(world, NEWEST)
    assert OnlineReader(world.online, [NEWEST]).read_one("a", 11 * HOUR_US)["w.last_x"] == 7.0
    assert_exact(world, ["a", "b", "c"], 11 * HOUR_US, NEWEST)


def test_deletions_find_who_has_left(world: World) -> None:
    arrive(world, 0, "a", "b")
    bring(world)
    arrive(world, 9, "c")
    bring(world)
    world.delete(STRICT, "a")
    arrive(world, 8.8, "b")
    world.delete(STRICT, "b", 0)
    bring(world)
    assert held(world.online) == {"b", "c"}
    assert_exact(world, ["a", "b", "c"], 9 * HOUR_US)


def test_vectors_leave_with_their_views(world: World) -> None:
    def write(hour: int) -> set[bytes]:
        refresh_vectors(
            world.tables, world.online, world.locks, [VIEW], hour * HOUR_US
        )  # fmt: skip
        return {key[1:] for key, _ in world.online.items(group.space) if key != MARKS}

    (group,) = groups_of([VIEW])
    arrive(world, 0, "a", "b")
    bring(world)
    assert write(1) == {b"a", b"b"}
    # They may leave from now on, with whatever comes: nothing is ready of them any more.
    assert write(3) == set()
    arrive(world, 5, "b")
    bring(world)
    assert write(5) == {b"b"}
    assert_vectors_exact(world, [VIEW], ["a", "b"])
    assert write(9) == set()


def test_each_row_is_told_as_of_the_horizon_of_its_own_partition(world: World) -> None:
    keys = crowd("old", 12)
    arrive(world, 0, *keys)
    bring(world, partitions=3)
    arrive(world, 9, *crowd("new", 12))
    bring(world, slots=lambda *_: [1])
    reader = OnlineReader(world.online, [VIEW])
    together = reader.read(keys, 0)[1].tolist()
    assert together == [reader.read([key], 0)[1].item() for key in keys]
    assert len(set(together)) == 2


def test_whom_the_views_know_no_more_has_no_vector(world: World) -> None:
    arrive(world, 0, "a")
    bring(world)
    refresh_vectors(world.tables, world.online, world.locks, [VIEW], HOUR_US)
    arrive(world, 5, "b")
    assert bring(world).swept == 1
    # By a clock that is behind, too: what has left says itself that it has.
    refresh_vectors(world.tables, world.online, world.locks, [VIEW], HOUR_US)
    plain, quick = (OnlineReader(world.online, [VIEW], vectors=own) for own in (False, True))
    for hour in range(10):
        wanted = plain.read_settled(["a", "b", "never"], hour * HOUR_US)
        found = quick.read_settled(["a", "b", "never"], hour * HOUR_US)
        assert found.unknown == wanted.unknown == [0, 2]
        np.testing.assert_array_equal(found.as_of_us, wanted.as_of_us)


def test_a_vector_does_not_hold_before_the_horizon_of_a_view_that_was_left(world: World) -> None:
    views = [VIEW, WHOLE]
    arrive(world, 0, "a")
    for view in views:
        bring(world, view)
    arrive(world, 3, "b")
    for view in views:
        bring(world, view)
    refresh_vectors(world.tables, world.online, world.locks, views, 3 * HOUR_US)
    assert_vectors_exact(world, views, ["a", "b"])


def assert_vectors_exact(world: World, views: list[FeatureView], keys: list[str]) -> None:
    """With vectors as without: what the raw table gives at the times that are told."""
    for vectors in (True, False):
        reader = OnlineReader(world.online, views, vectors=vectors)
        for at_us in range(0, 10 * HOUR_US, HOUR_US // 2):
            values, as_of_us = reader.read(keys, at_us)
            at = pl.Series(as_of_us).cast(pl.Datetime("us", "UTC"))
            frame = point_in_time(world.tables, views, pl.DataFrame({"key": keys, "at": at}))
            expected = frame.select(pl.col(reader.names).cast(pl.Float64).fill_null(np.nan))
            np.testing.assert_array_equal(values, expected.to_numpy())


def test_a_damaged_mark_is_told(world: World) -> None:
    arrive(world, 0, "a")
    bring(world)
    arrive(world, 9, "b")
    bring(world)
    (mark,) = world.online.get(space_of(VIEW), [SWEPT])
    assert Swept.read(mark) == Swept(8 * HOUR_US, NEVER_US, 1, b"", is_rich=True)
    for number, bad in enumerate((b"", b"x" * 40), start=3):
        world.online.write(space_of(VIEW), {SWEPT: bad}, progress=number)
        with pytest.raises(StateError, match="features build --again"):
            OnlineReader(world.online, [VIEW]).read(["a"], 0)


@thorough
@given(
    view=leaving_views(),
    history=deleted_histories(25),
    size=st.integers(1, 5),
    step_us=st.sampled_from([HOUR_US // 2, 2 * HOUR_US, 9 * HOUR_US]),
    chunk_rows=st.sampled_from([1, 1_000]),
    partitions=st.sampled_from([1, 3]),
    least=st.sampled_from([1, LEAST]),
)
def test_online_is_naive_while_values_leave_and_come_again(  # noqa: PLR0917 - what a stream depends on
    next_world: Callable[[], World],
    view: FeatureView,
    history: list[Record],
    size: int,
    step_us: int,
    chunk_rows: int,
    partitions: int,
    least: int,
) -> None:
    world = next_world()
    steps: list[Record] = [{"key": "a", "ts": 0}, *history]
    # Time goes on with the steps; a deletion is of all that an entity has.
    steps = [
        step | {"ts": None if is_deletion(step) else int(str(step["ts"])) + place * step_us}
        for place, step in enumerate(steps)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeping, "LEAST", least)
        for batch in batches_of(steps, size):
            feed(world, view, batch)
            bring(world, view, chunk_rows=chunk_rows, partitions=partitions)
    left = naive_remaining(view, steps, is_deletion)
    full = [{**dict.fromkeys(view.source.schema), **record} for record in left]
    reader = OnlineReader(world.online, [view])
    keys = ["a", "b", "c"] * 5
    asked = len(steps) * step_us + np.repeat([-9, -1, 0, 1, 6], 3) * HOUR_US
    values, as_of_us = reader.read(keys, asked)
    for place, (key, at_us) in enumerate(zip(keys, as_of_us.tolist(), strict=True)):
        own = [record for record in full if record["key"] == key]
        assert_row(values[place].tolist(), naive_row(view, own, at_us))
