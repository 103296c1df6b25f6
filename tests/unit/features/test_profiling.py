"""Profiles against the naive oracle; from nothing or day by day, late data, kills: all the same."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.features.conftest import open_world

from penstock.errors import ConflictError, InputError, NotReadyError
from penstock.features import (
    ColumnProfile,
    ProfileResult,
    profile,
    profiled,
    profiled_to,
    profiles_of,
    unprofiled,
)
from penstock.spec import Aggregate, DType, FeatureView, OnDemandView, View, base_views, col
from penstock.testing.backfill_child import profile_until
from penstock.testing.children import child
from penstock.testing.oracle import naive_feature, naive_tolerance
from penstock.testing.strategies import (
    deleted_histories,
    feature_views,
    histories,
    is_deletion,
    source,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.features.conftest import World

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VIEW = FeatureView(
    name="v",
    source=source(),
    features=(
        Aggregate(op="count", over="6h", hop="1h", name="n"),
        Aggregate(op="max", column="x", over="1d", name="most"),
    ),
)
WHOLE = FeatureView(name="w", source=source(), features=(Aggregate(op="count", name="n"),))
EDGE = OnDemandView(
    name="edge",
    views=[VIEW, WHOLE],
    request={"bid": DType.FLOAT64},
    features={
        "share": col("v.n") / col("w.n"),
        "far": col("bid") - col("v.most"),  # has no profile, nor has what is computed from it
        "farther": col("far") * 2,
        "high": col("v.most") > col("share"),
    },
)
LAX = settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Records = list[dict[str, object]]


def run(world: World, view: View = VIEW, **given: int) -> ProfileResult:
    return profile(world.tables, world.locks, view, **given)  # type: ignore[arg-type]


def did(result: ProfileResult) -> tuple[int, int, int]:
    return result.computed, result.recomputed, result.kept


def events(key: str, *hours: float, x: float = 1.0) -> Records:
    return [{"key": key, "ts": int(hour * HOUR_US), "x": x} for hour in hours]


def stored(world: World, view: View = VIEW) -> dict[tuple[str, date], ColumnProfile]:
    return {(one.feature, one.day): one for one in profiles_of(world.tables, view)}


def said(world: World, view: View = VIEW) -> list[object]:
    """The profiles without the batch they were computed from."""
    return [(one.feature, one.day, one.points, one.spread) for one in stored(world, view).values()]


def finite(records: Records) -> Records:
    """Raw tables hold no infinity and no NaN."""
    odd = {"nan", "inf", "-inf"}
    return [
        {name: None if str(value) in odd else value for name, value in record.items()}
        for record in records
    ]


def day_of(at_us: int) -> date:
    return (EPOCH + timedelta(microseconds=at_us)).date()


@LAX
@given(feature_views(), histories(25))
def test_a_profile_is_that_of_the_values_at_the_records_of_the_day(
    new_world: Callable[[], World], view: FeatureView, records: Records
) -> None:
    world, records = new_world(), finite(records)
    if not records:
        return
    world.ingest(view.source, records)
    run(world, view, days=1000)
    late_us = view.source.known_after_us
    points = {(str(record["key"]), int(str(record["ts"])) + late_us) for record in records}
    found = stored(world, view)
    assert {day for _, day in found} == {day_of(at_us) for _, at_us in points}
    for feature in view.features:
        for place, name in enumerate(feature.names):
            for day in {day_of(at_us) for _, at_us in points}:
                one = found[f"{view.name}.{name}", day]
                own = [(key, at) for key, at in points if day_of(at) == day]
                naive, room = [], 0.0
                for key, at_us in own:
                    seen = [record for record in records if record["key"] == key]
                    naive.append(naive_feature(view, feature, seen, at_us)[place])
                    room = max(room, naive_tolerance(view, feature, seen, at_us))
                agrees(one, naive, room)


def agrees(one: ColumnProfile, naive: list[float | None], room: float) -> None:
    known = sorted(value for value in naive if value is not None)
    assert (one.points, one.spread.rows) == (len(naive), len(naive))
    assert one.spread.nulls == len(naive) - len(known)
    assert one.null_rate == one.spread.nulls / len(naive)
    if not known:
        assert one.spread.mean is None
        return
    size = room + 1e-9 * max(map(abs, known))
    assert one.spread.least == pytest.approx(known[0], abs=size)
    assert one.spread.greatest == pytest.approx(known[-1], abs=size)
    assert one.spread.mean == pytest.approx(math.fsum(known) / len(known), abs=size)
    assert one.spread.quantiles[3] == pytest.approx(known[(len(known) - 1) // 2], abs=size)
    assert sum(one.spread.counts) == len(known)


@LAX
@given(histories(25))
def test_a_feature_on_demand_lies_as_its_values_at_the_records_do(
    new_world: Callable[[], World], records: Records
) -> None:
    world, records = new_world(), finite(records)
    if not records:
        return
    world.ingest(VIEW.source, records)
    run(world, EDGE, days=1000)
    points = {(str(record["key"]), int(str(record["ts"]))) for record in records}
    found = stored(world, EDGE)
    assert set(found) == {
        (name, day_of(at)) for name in ("edge.share", "edge.high") for _, at in points
    }
    for day in {day_of(at_us) for _, at_us in points}:
        shares: list[float | None] = []
        high: list[float | None] = []
        for key, at_us in points:
            if day_of(at_us) != day:
                continue
            seen = [record for record in records if record["key"] == key]
            (count,) = naive_feature(VIEW, VIEW.features[0], seen, at_us)
            (most,) = naive_feature(VIEW, VIEW.features[1], seen, at_us)
            (whole,) = naive_feature(WHOLE, WHOLE.features[0], seen, at_us)
            assert count is not None
            assert whole
            shares.append(count / whole)
            high.append(None if most is None else float(most > count / whole))
        agrees(found["edge.share", day], shares, 0.0)
        agrees(found["edge.high", day], high, 0.0)


def test_what_of_a_view_has_a_profile_and_why_the_rest_has_none(world: World) -> None:
    asked = "it is computed from fields of the request, which no table has"
    assert unprofiled(VIEW) == {}
    assert unprofiled(EDGE) == {"edge.far": asked, "edge.farther": asked}
    outer = OnDemandView(
        name="outer", views=[EDGE], features={"a": col("edge.high") * 2, "b": col("edge.far") + 1}
    )
    assert unprofiled(outer) == {"outer.b": asked}
    alone = OnDemandView(name="alone", request={"x": DType.FLOAT64}, features={"f": col("x") * 2})
    assert (profiled(alone), profiles_of(world.tables, alone)) == (None, [])
    with pytest.raises(InputError, match="No feature of 'alone' has a profile: it is computed"):
        run(world, alone)
    other = msgspec.structs.replace(VIEW.source, name="other")
    second = msgspec.structs.replace(WHOLE, name="second", source=other)
    both = OnDemandView(
        name="both",
        views=[VIEW, second, EDGE],
        features={"f": col("v.n") / col("second.n"), "g": col("edge.far") * 2},
    )
    why = unprofiled(both)
    assert "of several sources (readings, other)" in why["both.f"]
    assert why["both.g"] == asked
    with pytest.raises(InputError, match="Profile what it is computed from: v, second, w"):
        run(world, both)


def test_a_change_of_what_has_no_profile_changes_no_profile(world: World) -> None:
    world.ingest(VIEW.source, events("a", *range(30)))
    assert did(run(world, EDGE)) == (2, 0, 0)
    features = {name: each for name, each in EDGE.features.items() if name != "farther"}
    lean = msgspec.structs.replace(EDGE, features={**features, "far": col("bid") * 3})
    assert did(run(world, lean)) == (0, 0, 2)
    other = msgspec.structs.replace(EDGE, features={**EDGE.features, "high": col("v.most") > 1})
    assert profiles_of(world.tables, other) == []
    assert did(run(world, other)) == (2, 0, 0)


def feed(world: World, view: FeatureView, batch: Records) -> None:
    (step, *_) = batch
    if not is_deletion(step):
        world.ingest(view.source, batch)
    elif world.tables.version(f"raw/{view.source.name}") is not None:
        at = step["ts"]
        world.delete(view.source, str(step["key"]), None if at is None else int(str(at)))


@LAX
@given(
    st.sampled_from([VIEW, WHOLE, EDGE]),
    deleted_histories(50),
    st.integers(1, 4),
    st.integers(2, 30),
)
def test_batch_after_batch_is_as_from_nothing(
    new_world: Callable[[], World],
    view: View,
    history: Records,
    stretch: int,
    sample: int,
) -> None:
    # Over several days, so that some are of old records and some windows reach into others.
    spread_out = [
        {**step, "ts": None if step["ts"] is None else int(str(step["ts"])) * 6 * stretch}
        for step in finite(history)
    ]
    step_by_step, at_once = new_world(), new_world()
    (base, *_) = base_views([view])
    for batch in batches_of(spread_out):
        feed(step_by_step, base, batch)
        feed(at_once, base, batch)
        if step_by_step.tables.version(f"raw/{base.source.name}") is not None:
            with suppress(NotReadyError):  # all records are deleted, before any was profiled
                run(step_by_step, view, days=1000, sample=sample, chunk_rows=2 * sample)
                assert did(run(step_by_step, view, days=1000, sample=sample))[:2] == (0, 0)
    if at_once.tables.version(f"raw/{base.source.name}") is not None:
        with suppress(NotReadyError):
            run(at_once, view, days=1000, sample=sample)
        assert said(step_by_step, view) == said(at_once, view)


def batches_of(history: Records) -> list[Records]:
    """The steps of a history as batches: deletions alone, records together up to twelve."""
    found: list[Records] = []
    for step in history:
        own = found[-1] if found and not is_deletion(found[-1][0]) else []
        if is_deletion(step) or not own or len(own) == 12:
            found.append([step])
        else:
            own.append(step)
    return found


def test_days_whose_records_are_deleted_have_no_profile_any_more(world: World) -> None:
    world.ingest(VIEW.source, [*events("a", *range(48)), *events("b", 50, x=9.0)])
    assert did(run(world)) == (3, 0, 0)
    world.delete(VIEW.source, "b")
    assert did(run(world)) == (0, 1, 2)
    assert sorted({day.day for _, day in stored(world)}) == [1, 2]
    assert [one.day.day for one in profiles_of(world.tables, VIEW, days=1)] == [2, 2]
    world.delete(VIEW.source, "a", 30 * HOUR_US)
    assert did(run(world)) == (0, 1, 2)
    assert stored(world)["v.n", date(1970, 1, 2)].points == 23
    world.delete(VIEW.source, "a")
    assert did(run(world)) == (0, 2, 1)
    assert stored(world) == {}
    assert did(run(world)) == (0, 0, 3)
    world.ingest(VIEW.source, events("a", 49))
    assert did(run(world)) == (0, 1, 2)
    assert {day.day for _, day in stored(world)} == {3}


def test_only_new_days_and_those_that_late_data_changed_are_computed(world: World) -> None:
    world.ingest(VIEW.source, [*events("a", *range(0, 96, 2)), *events("b", *range(0, 96, 2))])
    assert did(run(world)) == (4, 0, 0)
    assert profiled_to(world.tables, VIEW) == 1
    world.ingest(VIEW.source, events("a", 96, 98))
    assert did(run(world)) == (1, 0, 4)
    assert did(run(world)) == (0, 0, 5)
    # Until 24 h later it is in a window of the next day's points; it is of its own day anyway.
    world.ingest(VIEW.source, events("a", 25, x=9.0))
    assert did(run(world)) == (0, 2, 3)
    found = stored(world)
    assert found["v.most", date(1970, 1, 2)].spread.greatest == 9.0
    assert found["v.most", date(1970, 1, 3)].spread.greatest == 9.0
    assert found["v.most", date(1970, 1, 4)].spread.greatest == 1.0
    assert found["v.most", date(1970, 1, 1)].batch == 1
    assert found["v.most", date(1970, 1, 2)].batch == 3


def test_late_data_reaches_all_later_days_of_a_feature_without_a_window(world: World) -> None:
    world.ingest(WHOLE.source, [*events("a", *range(0, 96, 2)), *events("b", 1)])
    run(world, WHOLE)
    world.ingest(WHOLE.source, events("b", 2))
    assert did(run(world, WHOLE)) == (0, 1, 3), "no later point is of the entity"
    world.ingest(WHOLE.source, events("a", 2.5))
    assert did(run(world, WHOLE)) == (0, 4, 0)


def test_only_the_newest_days_are_wanted_and_others_kept_up(world: World) -> None:
    world.ingest(VIEW.source, events("a", *range(0, 240, 3)))
    assert did(run(world, days=3)) == (3, 0, 0)
    assert sorted({day for _, day in stored(world)}) == [date(1970, 1, day) for day in (8, 9, 10)]
    assert did(run(world, days=5)) == (2, 0, 3)
    world.ingest(VIEW.source, events("a", 140.5))
    assert did(run(world, days=1)) == (0, 2, 3), "of day 6, and in windows of day 7"
    assert [one.day.day for one in profiles_of(world.tables, VIEW, days=2)] == [9, 9, 10, 10]


def test_a_sample_is_the_same_whoever_takes_it(new_world: Callable[[], World]) -> None:
    hours = [place / 50 for place in range(1200)]
    one, other = new_world(), new_world()
    one.ingest(VIEW.source, events("a", *hours))
    for start in (600, 0):
        other.ingest(VIEW.source, events("a", *hours[start : start + 600]))
    for world in (one, other):
        run(world, sample=100)
    assert said(one) == said(other)
    found = stored(one)["v.n", date(1970, 1, 1)]
    assert (found.points, found.spread.rows) == (1200, 100)
    run(one)
    assert stored(one)["v.n", date(1970, 1, 1)].spread.rows == 1200
    run(one, sample=100)
    assert said(one) == said(other)


@pytest.mark.parametrize("first", [True, False], ids=["first", "late data"])
@pytest.mark.parametrize("pause_at", [1, 3])
def test_killed_in_the_middle_and_run_again_equals_once(
    tmp_path: Path, new_world: Callable[[], World], pause_at: int, *, first: bool
) -> None:
    whole, broken = new_world(), open_world(tmp_path)
    for world in (whole, broken):
        world.ingest(VIEW.source, [*events("a", *range(240)), *events("b", *range(240))])
        if not first:
            run(world, sample=48, chunk_rows=48)
            world.ingest(VIEW.source, events("a", *(hour + 0.5 for hour in range(0, 240, 5))))
    done = run(whole, sample=48, chunk_rows=48)
    with child(profile_until, tmp_path, VIEW, 48, pause_at) as worker:
        worker.listen(pause_at)
        words = worker.kill()
    assert "done" not in words
    again = run(broken, sample=48, chunk_rows=48)
    assert 0 < sum(did(again)[:2]) == 10 - pause_at
    assert sum(did(done)[:2]) == 10
    assert said(broken) == said(whole)
    rows = broken.tables.scan(again.table).collect()
    assert not rows.select("day", "feature", "_computed_batch").is_duplicated().any()
    assert did(run(broken, sample=48)) == did(run(whole, sample=48)) == (0, 0, 10)


def test_what_cannot_be_profiled_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotReadyError, match="no records yet"):
        run(world)
    assert (profiled_to(world.tables, VIEW), profiles_of(world.tables, VIEW)) == (0, [])
    world.ingest(VIEW.source, events("a", 1))
    with pytest.raises(InputError, match="at least one day"):
        run(world, days=0)
    table = run(world).table
    world.ingest(VIEW.source, events("a", 2))
    applied = world.tables.applied

    def behind(name: str, app: str) -> int:
        return applied(name, app) - (name == app == table)

    monkeypatch.setattr(world.tables, "applied", behind)
    with pytest.raises(ConflictError, match="Profile the view again"):
        run(world)
