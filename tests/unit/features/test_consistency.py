from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import penstock as ps
from penstock.errors import NotReadyError
from penstock.features import check_online, refresh, space_of
from penstock.testing.strategies import source

if TYPE_CHECKING:
    from tests.unit.features.conftest import World

HOUR_US = 3_600_000_000
VIEW = ps.FeatureView(
    "v",
    source=source("1h"),
    features=[
        ps.count(over="6h"), ps.last("x"), ps.mean("x", over="1d"), ps.last_k("x", 2),
        ps.approx_distinct("key", over="1d"), ps.decayed_mean("x", "1h"),
    ],
)  # fmt: skip
NOW_US = 60 * HOUR_US


def fill(world: World, keys: int = 30) -> None:
    """Three batches, out of order, some records twice."""
    rng = np.random.default_rng(3)
    for _ in range(3):
        records = [
            {
                "key": f"k{rng.integers(0, keys)}",
                "ts": int(rng.integers(0, 50)) * HOUR_US,
                "x": float(rng.normal(1e4, 1)),
            }
            for _ in range(200)
        ]
        world.ingest(VIEW.source, [*records, *records[:20]])


def test_what_is_folded_is_what_the_tables_say(world: World) -> None:
    fill(world)
    world.refresh(VIEW)
    fill(world)  # not folded yet, and not to be compared
    found = check_online(world.tables, world.online, VIEW, at_us=NOW_US)
    assert [check.feature for check in found] == list(VIEW.names)
    assert {check.compared for check in found} == {30}
    assert sum(check.mismatches for check in found) == 0
    assert {check.key for check in found} == {None}
    few = check_online(world.tables, world.online, VIEW, at_us=NOW_US, sample=7)
    assert {check.compared for check in few} == {7}


def test_a_value_that_is_wrong_is_named(world: World) -> None:
    fill(world)
    world.refresh(VIEW)
    space = space_of(VIEW)
    key, value = next(iter(world.online.items(space)))
    words = np.frombuffer(value, np.float64).copy()
    # The value of a last state: the only words near the mean of ten thousand that are not sums.
    place = int(np.flatnonzero(np.abs(words - 1e4) < 10)[0])
    words[place] += 0.5
    world.online.write(space, {key: words.tobytes()}, progress=4)
    world.ingest(VIEW.source, [])
    found = check_online(world.tables, world.online, VIEW, at_us=NOW_US)
    wrong = [check for check in found if check.mismatches]
    assert wrong
    assert {(check.mismatches, check.key) for check in wrong} == {(1, key.decode())}
    assert all(check.rate == pytest.approx(1 / 30) and (check.worst or 0) > 0 for check in wrong)
    assert len(wrong) < len(found)
    refresh(world.tables, world.online, world.locks, VIEW, again=True)
    again = check_online(world.tables, world.online, VIEW, at_us=NOW_US)
    assert not any(check.mismatches for check in again)


def test_nothing_to_compare_says_what_to_run(world: World) -> None:
    with pytest.raises(NotReadyError, match="penstock ingest readings"):
        check_online(world.tables, world.online, VIEW, at_us=NOW_US)
    world.ingest(VIEW.source, [])
    with pytest.raises(NotReadyError, match="has no records yet"):
        check_online(world.tables, world.online, VIEW, at_us=NOW_US)
    fill(world)
    with pytest.raises(NotReadyError, match="penstock features build v"):
        check_online(world.tables, world.online, VIEW, at_us=NOW_US)
