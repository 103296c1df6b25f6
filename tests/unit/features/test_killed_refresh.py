"""A refresh that is killed loses and doubles nothing: killed here before and after each write."""

from __future__ import annotations

import shutil
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest
import redis

from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.adapters.redis import RedisOnlineStore
from penstock.algebra import compile_view, is_past, newest_of
from penstock.features import built_to, refresh, space_of
from penstock.features.sweeping import SWEPT, Swept
from penstock.testing.killing import KilledError, Killer
from penstock.testing.ports import free_port
from penstock.testing.redis_server import need_redis, redis_server

from .conftest import World
from .test_online import HOUR_US, VIEW, make_records
from .test_partitions import assert_same_as_offline
from .test_sweeping import FAR_US
from .test_sweeping import VIEW as LEAVING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from penstock.ports import OnlineStore
    from penstock.spec import FeatureView

WRITES = ("claim", "write", "drop")
KEYS = "abcdefgh"
LEAST_BYTES = 24
"""The length of a value's header; what says how a view lies is shorter."""


class Case(NamedTuple):
    """What is there, and what the refresh that is killed is to do.

    Attributes:
        was: Partitions of the view before; 0 where it was never built.
        wanted: Partitions that it is to have.
        again: Whether it is built again from nothing.
        deletes: Whether the new batches delete records.
        view: The view; values of one leave the store.
    """

    was: int
    wanted: int
    again: bool = False
    deletes: bool = False
    view: FeatureView = VIEW


CASES = {
    "first build": Case(0, 1),
    "first build in partitions": Case(0, 2),
    "new batches": Case(1, 1),
    "deletions": Case(1, 1, deletes=True),
    "deletions in partitions": Case(2, 2, deletes=True),
    "built again": Case(1, 1, again=True),
    "more partitions": Case(1, 2),
    "fewer partitions": Case(2, 1),
    "values leave": Case(1, 1, view=LEAVING),
    "values leave partitions": Case(2, 2, deletes=True, view=LEAVING),
    "values have left": Case(1, 2, view=LEAVING),
}


def bring(world: World, case: Case, *, again: bool = False) -> None:
    refresh(
        world.tables, world.online, world.locks, case.view,
        partitions=case.wanted, again=again, chunk_rows=30, now_us=FAR_US,
    )  # fmt: skip


def prepare(world: World, case: Case) -> None:
    """Batches that are in the store, and batches that wait."""
    if case.view is LEAVING:
        world.ingest(VIEW.source, [{"key": key, "ts": 0, "x": 1.0} for key in "mnopqrst"])
        bring(world, case._replace(wanted=case.was))
    for seed in range(3):
        world.ingest(VIEW.source, make_records(20, seed, keys=KEYS))
    if case.was:
        bring(world, case._replace(wanted=case.was))
        for seed in range(3, 6):
            world.ingest(VIEW.source, make_records(20, seed, keys=KEYS))
    if case.deletes:
        world.delete(VIEW.source, "a")
        world.ingest(VIEW.source, [{"key": "z", "ts": HOUR_US, "x": 1.0}])
        world.delete(VIEW.source, "z")
        world.ingest(VIEW.source, make_records(20, 6, keys=KEYS))


def state(online: OnlineStore, case: Case) -> Mapping[str, object]:
    """All that a store holds; of a view whose values leave, those that can be asked for.

    Which slice a value leaves with depends on where a refresh was killed, and so do the marks.
    """
    if case.view is not LEAVING:
        return {name: (online.progress(name), dict(online.items(name))) for name in online.spaces()}
    items = {name: dict(online.items(name)) for name in online.spaces()}
    marks = [Swept.read(own.pop(SWEPT, None)) for own in items.values()]
    horizon_us = max(mark.horizon_us for mark in marks)
    program = compile_view(case.view)
    living = {
        name: {
            key: value
            for key, value in own.items()
            if len(value) < LEAST_BYTES or not is_past(program, newest_of([value]), horizon_us)[0]
        }
        for name, own in items.items()
    }
    return {name: (online.progress(name), living[name], horizon_us) for name in items}


class Prepared(NamedTuple):
    """Ports to prepare, and copies of them to kill refreshes in.

    Attributes:
        world: The ports; once there are copies, nothing is written there any more.
        copied: Gives, by name, the same tables, and a store of one's own that holds what the first
            one held.
    """

    world: World
    copied: Callable[[str], AbstractContextManager[World]]


@contextmanager
def copied(world: World, folder: Path, name: str) -> Generator[World]:
    """The same tables, and a store of one's own that holds what the first one held."""
    world.online.close()  # a store is copied as it lies on disk
    shutil.copytree(folder / "online", folder / name)
    with closing(LmdbOnlineStore(folder / name)) as online:
        yield World(world.tables, online, world.locks)
    shutil.rmtree(folder / name)


@pytest.fixture
def lmdb(world: World, tmp_path: Path) -> Prepared:
    return Prepared(world, partial(copied, world, tmp_path))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis of our own; skips where there is none to start."""
    need_redis()
    port = free_port()
    with redis_server(tmp_path_factory.mktemp("redis"), port, "--save", ""):
        yield port


@pytest.fixture
def in_redis(running: int, world: World) -> Iterator[Prepared]:
    url = f"redis://127.0.0.1:{running}/0#"
    with (
        closing(redis.Redis(port=running)) as client,
        closing(RedisOnlineStore(f"{url}first")) as first,
    ):
        client.flushdb()

        @contextmanager
        def copied(name: str) -> Generator[World]:
            for key in cast("list[bytes]", client.keys("first:*")):
                client.copy(key.decode(), name + key.decode().removeprefix("first"))
            with closing(RedisOnlineStore(f"{url}{name}")) as online:
                yield World(world.tables, online, world.locks)

        yield Prepared(World(world.tables, first, world.locks), copied)


@pytest.fixture(
    params=[
        pytest.param("lmdb", id="lmdb"),
        pytest.param("in_redis", id="redis", marks=pytest.mark.slow),
    ]
)
def prepared(request: pytest.FixtureRequest) -> Prepared:
    """The ports, with either online store."""
    return cast("Prepared", request.getfixturevalue(request.param))


def kill(world: World, case: Case, killer: Killer) -> None:
    """Refresh until the killer comes."""
    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(world.online, name, killer.wrap(getattr(world.online, name)))
        bring(world, case, again=case.again)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_refresh_killed_at_any_write_is_finished_by_the_next(
    prepared: Prepared, case: Case
) -> None:
    prepare(prepared.world, case)
    counting = Killer(at=0)
    with prepared.copied("whole") as whole:
        kill(whole, case, counting)
        expected = state(whole.online, case)
        assert_same_as_offline(whole, [case.view])
        held = {key for space in whole.online.spaces() for key, _ in whole.online.items(space)}
        assert b"m" not in held
    assert counting.seen >= 2
    for place in range(2 * counting.seen):
        killer = Killer(at=place // 2 + 1, after=bool(place % 2))
        with prepared.copied(f"killed {place}") as killed:
            with pytest.raises(KilledError):
                kill(killed, case, killer)
            # Whoever reads meanwhile reads what some batches give; never a part of one.
            is_built = built_to(killed.online, space_of(case.view)) is not None
            if is_built:
                assert_same_as_offline(killed, [case.view])
            assert is_built or case.again or not case.was, killer
            # What was dropped is built by any refresh; what stands, by who asks for it again.
            bring(killed, case, again=case.again and is_built)
            assert state(killed.online, case) == expected, killer
