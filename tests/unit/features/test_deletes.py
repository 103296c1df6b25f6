"""Law 3 with deletions, over real stores: batch = stream = naive over what is left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from penstock.algebra import compile_view, may_leave
from penstock.errors import StateError
from penstock.features import (
    OnlineReader,
    Wanted,
    backfill,
    check_online,
    known_span,
    point_in_time,
    refresh,
    space_of,
)
from penstock.features.stored import newest_rows
from penstock.spec import Aggregate, FeatureView, col
from penstock.testing.oracle import naive_feature, naive_remaining, naive_tolerance
from penstock.testing.strategies import (
    deleted_histories,
    feature_views,
    is_deletion,
    leaving_views,
    source,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.unit.features.conftest import World

Record = dict[str, object]

HOUR_US = 3_600_000_000
KEYS = ["a", "b", "c"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VIEW = FeatureView(
    name="v",
    source=source("1h"),
    derive={"ratio": col("x") / col("y")},
    features=(
        Aggregate(op="count", over="6h", name="n"),
        Aggregate(op="last", column="x", name="x"),
        Aggregate(op="mean", column="ratio", over="6h", name="mean"),
        Aggregate(op="max", column="x", over="1h", name="top"),
    ),
)
USUAL = settings().max_examples
thorough = settings(
    max_examples=20 if USUAL == 100 else USUAL,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def batches_of(history: list[Record], size: int) -> list[list[Record]]:
    """The steps of a history as batches: deletions alone, records together up to so many."""
    found: list[list[Record]] = []
    for step in history:
        own = found[-1] if found and not is_deletion(found[-1][0]) else []
        if is_deletion(step) or not own or len(own) == size:
            found.append([step])
        else:
            own.append(step)
    return found


def feed(world: World, view: FeatureView, batch: list[Record], arrived: datetime = EPOCH) -> None:
    (step, *_) = batch
    if not is_deletion(step):
        world.ingest(view.source, batch, arrived)
    elif world.tables.version(f"raw/{view.source.name}") is not None:
        at = step["ts"]
        world.delete(view.source, str(step["key"]), None if at is None else int(str(at)), arrived)


def naive_row(
    view: FeatureView, left: list[Record], at_us: int
) -> list[tuple[float | None, float]]:
    """What each column should be, and how far it may be from it."""
    return [
        (value, naive_tolerance(view, feature, left, at_us))
        for feature in view.features
        for value in naive_feature(view, feature, left, at_us)
    ]


def assert_row(row: list[float | None], expected: list[tuple[float | None, float]]) -> None:
    assert len(row) == len(expected)
    for seen, (value, room) in zip(row, expected, strict=True):
        if value is None or seen is None or np.isnan(seen):
            assert value is None
            assert seen is None or np.isnan(seen)
        else:
            assert abs(seen - value) <= room


@thorough
@given(
    view=st.one_of(feature_views(), leaving_views()),
    history=deleted_histories(25),
    size=st.integers(1, 8),
    refreshed=st.lists(st.booleans(), min_size=25, max_size=25),
    chunk_rows=st.sampled_from([1, 4, 1_000]),
    partitions=st.sampled_from([1, 1, 3]),
    now_us=st.sampled_from([None, 4 * HOUR_US, 1_000 * HOUR_US]),
)
def test_online_and_offline_are_naive_over_what_deletions_leave(  # noqa: PLR0917 - what a stream depends on
    next_world: Callable[[], World],
    view: FeatureView,
    history: list[Record],
    size: int,
    refreshed: list[bool],
    chunk_rows: int,
    partitions: int,
    now_us: int | None,
) -> None:
    world = next_world()

    def fold() -> None:
        refresh(
            world.tables, world.online, world.locks, view,
            chunk_rows=chunk_rows, partitions=partitions, now_us=now_us,
        )  # fmt: skip

    # A source that has no records has no raw table yet, and nothing to delete.
    history = [{"key": "a", "ts": 0}, *history]
    for now, batch in zip([*refreshed, *refreshed], batches_of(history, size), strict=False):
        feed(world, view, batch)
        if now:
            fold()
    fold()

    left = naive_remaining(view, history, is_deletion)
    full = [{**dict.fromkeys(view.source.schema), **record} for record in left]
    reader = OnlineReader(world.online, [view])
    asked = KEYS * 4
    values, as_of_us = reader.read(asked, np.arange(len(asked)) * HOUR_US)
    spine = pl.DataFrame({"key": asked, "at": pl.Series(as_of_us).cast(pl.Datetime("us", "UTC"))})
    frames = [
        point_in_time(world.tables, [view], spine, batches=batches)
        for batches in (None, reader.progress())
    ]
    for place, (key, at_us) in enumerate(zip(asked, as_of_us.tolist(), strict=True)):
        own = [record for record in full if record["key"] == key]
        expected = naive_row(view, own, at_us)
        assert_row(values[place].tolist(), expected)
        for frame in frames:
            assert_row(list(frame.row(place)[2:]), expected)
    known = {str(record["key"]) for record in left}
    has_left = now_us is not None and may_leave(compile_view(view))
    for key, there in zip(KEYS, reader.knows(KEYS), strict=True):
        assert there == (key in known) or (has_left and not there)
    if known:
        checks = check_online(world.tables, world.online, view, at_us=50 * HOUR_US)
        assert [check.mismatches for check in checks] == [0] * len(checks)


@thorough
@given(history=deleted_histories(25), size=st.integers(1, 8))
def test_as_known_is_naive_over_what_was_left_then(
    next_world: Callable[[], World], history: list[Record], size: int
) -> None:
    world = next_world()
    history = [{"key": "a", "ts": 0}, *history]
    batches = batches_of(history, size)
    for number, batch in enumerate(batches):
        feed(world, VIEW, batch, EPOCH + timedelta(hours=number))
    times = [EPOCH + timedelta(hours=number) for number in range(len(batches))]
    spine = pl.DataFrame({"key": [key for key in KEYS for _ in times], "at": times * 3})
    frame = point_in_time(world.tables, [VIEW], spine, as_known=True)
    last = np.tile(np.arange(1, len(times) + 1), 3)
    until = point_in_time(world.tables, [VIEW], spine, batches={"v": last})
    for place, (key, at) in enumerate(spine.iter_rows()):
        hour = (at - EPOCH) // timedelta(hours=1)
        seen = [step for batch in batches[: hour + 1] for step in batch]
        left = naive_remaining(VIEW, seen, is_deletion)
        own = [{**dict.fromkeys(VIEW.source.schema), **one} for one in left if one["key"] == key]
        expected = naive_row(VIEW, own, hour * HOUR_US)
        assert_row(list(frame.row(place)[2:]), expected)
        assert_row(list(until.row(place)[2:]), expected)


@thorough
@given(
    history=deleted_histories(25),
    size=st.integers(1, 8),
    filled=st.lists(st.booleans(), min_size=30, max_size=30),
    every_us=st.sampled_from([0, 6 * HOUR_US]),
)
def test_stored_features_are_right_after_deletions(
    next_world: Callable[[], World],
    history: list[Record],
    size: int,
    filled: list[bool],
    every_us: int,
) -> None:
    world = next_world()
    history = [{"key": "a", "ts": 0, "x": 1.0}, *history]
    wanted = Wanted(from_us=-48 * HOUR_US, until_us=48 * HOUR_US, every_us=every_us)
    for now, batch in zip(filled, batches_of(history, size), strict=False):
        feed(world, VIEW, batch)
        if now:
            backfill(world.tables, world.locks, VIEW, wanted, chunk_rows=5)
    result = backfill(world.tables, world.locks, VIEW, wanted, chunk_rows=5)
    assert result.last_batch == world.batches
    if world.tables.version(result.table) is None:
        return
    stored = newest_rows(world.tables, VIEW, pl.lit(value=True), columns=VIEW.names)
    rows = stored.drop("_computed_batch").sort("at", "key").collect()
    again = point_in_time(world.tables, [VIEW], rows.select("key", "at"))
    assert_frame_equal(again, rows, check_column_order=False)


def only(world: World, key: str, at_us: int = 0) -> Mapping[str, object]:
    return OnlineReader(world.online, [VIEW]).read_one(key, at_us)


def test_only_rows_that_a_deletion_can_change_are_computed_again(world: World) -> None:
    records = [
        {"key": key, "ts": hour * HOUR_US, "x": float(hour)} for key in "ab" for hour in range(48)
    ]
    world.ingest(VIEW.source, records)
    view = FeatureView(name="w", source=source(), features=(Aggregate(op="count", over="6h"),))
    first_us, last_us = known_span(world.tables, view)
    wanted = Wanted(from_us=first_us, until_us=last_us + 1)
    assert backfill(world.tables, world.locks, view, wanted).computed == 96
    world.delete(VIEW.source, "a", 10 * HOUR_US)
    done = backfill(world.tables, world.locks, view, wanted)
    # The count at 10:00 and those of the next six hours and the hop the window is rounded to.
    assert (done.computed, done.recomputed) == (0, 6)
    assert backfill(world.tables, world.locks, view, wanted).recomputed == 0


def test_an_entity_without_records_is_unknown_again(world: World) -> None:
    world.ingest(VIEW.source, [{"key": key, "ts": 0, "x": 1.0, "y": 1.0} for key in "ab"])
    world.refresh(VIEW)
    world.delete(VIEW.source, "a")
    result = world.refresh(VIEW)
    assert (result.first_batch, result.last_batch, result.records) == (2, 2, 0)
    assert dict(world.online.items(space_of(VIEW))).keys() == {b"b"}
    assert only(world, "a") == {"v.n": 0, "v.x": None, "v.mean": None, "v.top": None}
    unknown: list[object] = []
    spine = pl.DataFrame({"key": ["a"], "at": [EPOCH]})
    point_in_time(world.tables, [VIEW], spine, notice=unknown.append)
    assert len(unknown) == 1


def test_a_record_that_is_sent_again_counts(world: World) -> None:
    record = {"key": "a", "ts": 0, "x": 1.0, "y": 1.0}
    world.ingest(VIEW.source, [record])
    world.delete(VIEW.source, "a")
    world.ingest(VIEW.source, [record | {"x": 2.0}])
    world.refresh(VIEW)
    assert only(world, "a")["v.x"] == 2.0
    assert only(world, "a", HOUR_US)["v.n"] == 1


def test_the_newest_event_deleted_leaves_the_one_before(world: World) -> None:
    world.ingest(VIEW.source, [{"key": "a", "ts": n * HOUR_US, "x": float(n)} for n in range(3)])
    world.refresh(VIEW)
    assert only(world, "a")["v.x"] == 2.0
    world.delete(VIEW.source, "a", 2 * HOUR_US)
    world.refresh(VIEW)
    values, as_of_us = OnlineReader(world.online, [VIEW]).read(["a"], 0)
    assert as_of_us.tolist() == [2 * HOUR_US]  # known an hour after its timestamp
    assert values[0].tolist()[:2] == [2.0, 1.0]


def test_versions_and_batches_of_then_see_no_later_deletion(world: World) -> None:
    world.ingest(VIEW.source, [{"key": "a", "ts": 0, "x": 1.0}])
    version = world.tables.version("raw/readings")
    assert version is not None
    world.delete(VIEW.source, "a")
    spine = pl.DataFrame({"key": ["a"], "at": [EPOCH + timedelta(hours=1)]})

    def count(**given: object) -> object:
        frame = point_in_time(world.tables, [VIEW], spine, **given)  # type: ignore[arg-type]
        return frame["v.n"].item()

    assert count() == 0
    assert count(versions={"raw/readings": version}) == 1
    assert count(batches={"v": 1}) == 1
    assert count(batches={"v": 2}) == 0
    assert count(batches={"v": np.array([1])}) == 1


def test_a_tombstone_that_the_raw_table_has_not_reached_counts_for_nobody(world: World) -> None:
    world.ingest(VIEW.source, [{"key": "a", "ts": 0, "x": 1.0}])
    stone = pl.DataFrame({"key": ["a"], "ts": [EPOCH], "_batch": [2], "_arrived_at": [EPOCH]})
    world.tables.append("tombstones/readings", stone, app="tombstones/readings", number=2)
    world.refresh(VIEW)
    assert only(world, "a")["v.x"] == 1.0
    spine = pl.DataFrame({"key": ["a"], "at": [EPOCH + timedelta(hours=1)]})
    for as_known in (False, True):
        late = spine.with_columns(at=pl.lit(datetime(2026, 2, 1, tzinfo=UTC)))
        frame = point_in_time(world.tables, [VIEW], late, as_known=as_known)
        assert frame["v.x"].item() == 1.0


def test_a_refresh_that_fails_in_a_deletion_leaves_all_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ingest(VIEW.source, [{"key": key, "ts": 0, "x": 1.0} for key in "abc"])
    world.refresh(VIEW)
    world.ingest(VIEW.source, [{"key": key, "ts": HOUR_US, "x": 2.0} for key in "abc"])
    world.delete(VIEW.source, "a")
    world.delete(VIEW.source, "b", 0)
    before = dict(world.online.items(space_of(VIEW)))
    with monkeypatch.context() as patch:

        def full(*_: object, **__: object) -> None:
            raise StateError("the store is full")

        patch.setattr(world.online, "write", full)
        with pytest.raises(StateError):
            world.refresh(VIEW)
    assert dict(world.online.items(space_of(VIEW))) == before
    world.refresh(VIEW)
    assert [only(world, key)["v.x"] for key in "abc"] == [None, 2.0, 2.0]
    assert [only(world, key, 2 * HOUR_US)["v.n"] for key in "abc"] == [0, 1, 2]
