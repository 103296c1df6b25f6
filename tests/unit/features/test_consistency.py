from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import NotReadyError
from penstock.features import (
    ServiceReader,
    check_online,
    compare_columns,
    expected_features,
    refresh,
    space_of,
)
from penstock.testing.strategies import feature_views, histories, source

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_entities_that_are_not_online_yet_are_unknown_ones(world: World) -> None:
    view = ps.FeatureView("v", source=source(), features=[ps.count(over="6h")])
    world.ingest(view.source, [{"key": "a", "ts": HOUR_US}, {"key": "b", "ts": 0}])
    world.refresh(view)
    world.ingest(view.source, [{"key": key, "ts": 0} for key in "acde"])  # not folded yet
    (check,) = check_online(world.tables, world.online, view, at_us=2 * HOUR_US)
    assert (check.compared, check.mismatches) == (5, 0)


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


def corrupted(world: World, view: ps.FeatureView, key: str, by: float) -> None:
    """The only value of the last state of an entity is moved."""
    space = space_of(view)
    stored = key.encode()
    words = np.frombuffer(dict(world.online.items(space))[stored], np.float64).copy()
    (place, *_) = np.flatnonzero(words == 3.0)
    words[place] += by
    world.ingest(view.source, [])
    world.online.write(space, {stored: words.tobytes()}, progress=world.batches)


def test_a_small_value_among_large_ones_is_held_to_its_own_size(world: World) -> None:
    view = ps.FeatureView("v", source=source(), features=[ps.sum("x")])
    rows = [{"key": f"k{n}", "ts": n, "x": 1e12 + n} for n in range(20)]
    world.ingest(view.source, [*rows, {"key": "small", "ts": 1, "x": 3.0}])
    world.refresh(view)
    assert [
        check.mismatches for check in check_online(world.tables, world.online, view, at_us=NOW_US)
    ] == [0]
    corrupted(world, view, "small", 1e-6)
    (check,) = check_online(world.tables, world.online, view, at_us=NOW_US)
    assert (check.mismatches, check.key) == (1, "small")
    assert check.worst == pytest.approx(1e-6 / 3)


def test_what_cancels_out_may_be_as_far_off_as_its_terms_make_it(world: World) -> None:
    rng = np.random.default_rng(5)
    large = [float(x) for x in rng.normal(0, 1e9, 200)]
    terms = [*large, *(-x for x in large), 0.1]
    rng.shuffle(terms)
    view = ps.FeatureView(
        "v", source=source(), features=[ps.sum("x"), ps.mean("x"), ps.std("x", over="2d")]
    )
    for part in (terms[:150], terms[150:]):
        rows = [{"key": "k", "ts": int(n), "x": x} for n, x in enumerate(part)]
        world.ingest(view.source, rows)
        world.refresh(view)
    found = check_online(world.tables, world.online, view, at_us=NOW_US)
    assert [check.mismatches for check in found] == [0, 0, 0]
    # What is computed from it is further off still: as far as it may have been moved.
    edge = ps.OnDemandView("edge", views=[view], features={"inverse": 1 / ps.col("v.sum_x")})
    service = ps.FeatureService("s", features=[edge])
    read = ServiceReader(world.online, service).read({"key": ["k"]}, NOW_US, {})
    spine = pl.DataFrame({"key": ["k"], "at": pl.Series([NOW_US]).cast(pl.Datetime("us", "UTC"))})
    expected = expected_features(world.tables, [edge], spine, batches={"v": world.batches})
    wanted = float(expected.values["edge.inverse"][0])
    assert abs(float(read.values[0, 0]) - wanted) > 1e-9 * abs(wanted)
    (check,) = compare_columns(service.names, read.values, expected, ["k"])
    assert check.mismatches == 0
    (check,) = compare_columns(service.names, read.values * 3, expected, ["k"])
    assert check.mismatches == 1


def test_sums_of_whole_numbers_have_to_be_equal(world: World) -> None:
    view = ps.FeatureView(
        "v", source=source(), derive={"up": ps.col("x") > 0}, features=[ps.sum("up", name="ups")]
    )
    world.ingest(view.source, [{"key": "k", "ts": n, "x": 1.0} for n in range(50)])
    spine = pl.DataFrame({"key": ["k"], "at": pl.Series([99]).cast(pl.Datetime("us", "UTC"))})
    found = expected_features(world.tables, [view], spine, batches={})
    assert (found.values["v.ups"].tolist(), found.room["v.ups"].tolist()) == ([50.0], [0.0])


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(feature_views(), histories(40), st.integers(0, 60))
def test_no_value_of_a_right_store_differs_on_demand_or_not(
    new_world: Callable[[], World],
    view: ps.FeatureView,
    records: list[dict[str, object]],
    hours: int,
) -> None:
    world, odd = new_world(), {"nan", "inf", "-inf"}
    finite = [
        {name: None if str(value) in odd else value for name, value in record.items()}
        for record in records
    ]
    if not finite:
        return
    for part in (finite[::2], finite[1::2]):
        world.ingest(view.source, part)
        world.refresh(view)
    first, last = view.names[0], view.names[-1]
    edge = ps.OnDemandView(
        "edge",
        views=[view],
        request={"bid": ps.Float64},
        features={
            "share": ps.col(first) / ps.col(last),
            "gap": ps.col(first) - ps.col(last) * ps.col("bid"),
            "over": ps.col("gap") > 0,
            "log": abs(ps.col("share")).log() - abs(ps.col(first)).log(),
        },
    )
    keys = sorted({str(record["key"]) for record in finite} | {"nobody"})
    service = ps.FeatureService("s", features=[view, edge])
    bids = [1.0 + 0.1 * place for place in range(len(keys))]
    found = ServiceReader(world.online, service).read({"key": keys}, hours * HOUR_US, {"bid": bids})
    spine = pl.DataFrame(
        {
            "key": keys,
            "at": pl.Series(found.as_of_us).cast(pl.Datetime("us", "UTC")),
            "bid": bids,
        }
    )
    expected = expected_features(
        world.tables, [view, edge], spine, batches={view.name: world.batches}
    )
    checks = compare_columns(service.names, found.values, expected, keys)
    assert {check.feature: check.key for check in checks if check.mismatches} == {}


def test_nothing_to_compare_says_what_to_run(world: World) -> None:
    with pytest.raises(NotReadyError, match="penstock ingest readings"):
        check_online(world.tables, world.online, VIEW, at_us=NOW_US)
    world.ingest(VIEW.source, [])
    with pytest.raises(NotReadyError, match="has no records yet"):
        check_online(world.tables, world.online, VIEW, at_us=NOW_US)
    fill(world)
    with pytest.raises(NotReadyError, match="penstock features build v"):
        check_online(world.tables, world.online, VIEW, at_us=NOW_US)
