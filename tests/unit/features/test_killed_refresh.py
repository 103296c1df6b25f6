"""A refresh that is killed loses and doubles nothing: killed here before and after each write."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from penstock.algebra import compile_view, is_past, newest_of
from penstock.features import built_to, refresh, space_of
from penstock.features.sweeping import SWEPT, Swept
from penstock.testing.killing import KilledError, Killer

from .test_online import HOUR_US, VIEW, make_records
from .test_partitions import assert_same_as_offline
from .test_sweeping import FAR_US
from .test_sweeping import VIEW as LEAVING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import OnlineStore
    from penstock.spec import FeatureView

    from .conftest import Prepared, World

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
