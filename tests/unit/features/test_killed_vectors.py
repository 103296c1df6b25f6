"""A run that writes vectors and is killed misleads nobody: killed around each of its writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.features import (
    drop_vectors,
    groups_of,
    layout_of,
    part_of,
    refresh,
    refresh_vectors,
    space_of,
    vector_writing,
)
from penstock.testing.killing import KilledError, Killer

from .test_vectors import BASE, CLICKS, MINUTE_US, ORDERS, RECENT, SALES, START_US, assert_same, put

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.spec import FeatureView

    from .conftest import Prepared, World

MINUTE = 55


def arrive(world: World, number: int, *rows: tuple[str, int, int, int]) -> None:
    """A batch of that number for each source."""
    for source in (CLICKS, ORDERS, SALES):
        world.batches = number
        put(world, source, rows)


def fold(world: World, views: Sequence[FeatureView] = BASE, count: int | None = None) -> None:
    for view in views:
        refresh(world.tables, world.online, world.locks, view, partitions=count)


def first(_: World) -> None:
    """There are no vectors yet."""


def newer(world: World) -> None:
    write(world, 40)
    arrive(world, 1, ("a", 1, 41, 100), ("c", 2, 54, 1), ("b", 2, 3, 8))
    fold(world)


def some_views(world: World) -> None:
    write(world, 40)
    arrive(world, 1, ("a", 1, 41, 100), ("b", 2, 54, 7))
    fold(world, [RECENT])


def deleted(world: World) -> None:
    write(world, 40)
    world.batches = 1
    world.delete(CLICKS, "a")
    world.batches = 1
    world.delete(ORDERS, "a")
    fold(world)


def later(world: World) -> None:
    """The clock alone has gone on: windows have moved, and a value is out of its time."""
    write(world, 40)


def built_again(world: World) -> None:
    write(world, 40)
    drop_vectors(world.online, world.locks, BASE)
    refresh(world.tables, world.online, world.locks, RECENT, again=True)


def other_partitions(world: World) -> None:
    write(world, 40)
    count = layout_of(world.online, space_of(RECENT)).partitions
    fold(world, count=3 - count)


CASES = {
    f"{prepare.__name__}-{count}": (prepare, count)
    for count, cases in {
        1: (first, newer, some_views, deleted, later, built_again, other_partitions),
        2: (newer, later, other_partitions),
    }.items()
    for prepare in cases
}


def write(world: World, minute: int = MINUTE) -> None:
    now_us = START_US + minute * MINUTE_US
    refresh_vectors(world.tables, world.online, world.locks, BASE, now_us)


def kept(world: World) -> dict[str, dict[bytes, bytes]]:
    """All vectors, and their marks."""
    spaces = {group.space for group in groups_of(BASE)}
    names = [name for name in world.online.spaces() if part_of(name).space in spaces]
    return {name: dict(world.online.items(name)) for name in names}


def kill(world: World, killer: Killer) -> None:
    """Write until the killer comes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_writing, "AT_ONCE", 1)
        for name in ("claim", "write"):
            patch.setattr(world.online, name, killer.wrap(getattr(world.online, name)))
        write(world)


def begin(world: World, count: int) -> None:
    """Records of all sources, folded into so many partitions."""
    arrive(world, 0, ("a", 1, 10, 4), ("b", 2, 20, 5), ("a", 1, 39, 6))
    fold(world, count=count)


@pytest.mark.parametrize(("prepare", "count"), CASES.values(), ids=CASES.keys())
def test_vectors_of_a_run_that_was_killed_are_not_taken_and_written_by_the_next(
    prepared: Prepared, prepare: Callable[[World], None], count: int
) -> None:
    begin(prepared.world, count)
    prepare(prepared.world)
    counting = Killer(at=0)
    with prepared.copied("whole") as whole:
        kill(whole, counting)
        assert_same(whole, MINUTE)
        expected = kept(whole)
    assert counting.seen > 2
    for place in range(2 * counting.seen):
        killer = Killer(at=place // 2 + 1, after=bool(place % 2))
        with prepared.copied(f"killed {place}") as killed:
            with pytest.raises(KilledError):
                kill(killed, killer)
            assert_same(killed, MINUTE)
            write(killed)
            assert kept(killed) == expected, killer
            assert_same(killed, MINUTE)


@pytest.mark.parametrize("count", [1, 2])
def test_what_comes_before_the_next_run_is_in_its_vectors(prepared: Prepared, count: int) -> None:
    world = prepared.world
    begin(world, count)
    newer(world)
    counting = Killer(at=0)
    with prepared.copied("whole") as whole:
        kill(whole, counting)
    arrive(world, 2, ("a", 2, 56, 3), ("d", 1, 50, 2))
    for place in range(2 * counting.seen):
        with prepared.copied(f"killed {place}") as killed:
            with pytest.raises(KilledError):
                kill(killed, Killer(at=place // 2 + 1, after=bool(place % 2)))
            fold(killed)
            assert_same(killed, 57)
            write(killed, 57)
            assert_same(killed, 57)
