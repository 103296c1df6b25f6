"""Stored features are what point_in_time gives, whatever comes late and wherever it is killed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.features.conftest import open_world

from penstock.errors import ConflictError, InputError, NotReadyError
from penstock.features import (
    BackfillResult,
    Wanted,
    backfill,
    known_span,
    point_in_time,
    stored_features,
    stored_state,
)
from penstock.spec import Aggregate, FeatureView
from penstock.testing.backfill_child import backfill_until
from penstock.testing.children import child
from penstock.testing.oracle import naive_tolerance
from penstock.testing.strategies import feature_views, histories, source, times

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.unit.features.conftest import World

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
EVER = Wanted(from_us=-400 * DAY_US, until_us=400 * DAY_US)
VIEW = FeatureView(
    name="v",
    source=source(),
    features=(
        Aggregate(op="count", over="6h", hop="1h", name="n"),
        Aggregate(op="sum", column="x", over="2h", hop="1h", name="total"),
    ),
)
WHOLE = FeatureView(name="w", source=source(), features=(Aggregate(op="count", name="n"),))
LAX = settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Records = list[dict[str, object]]


def fill(
    world: World, view: FeatureView, wanted: Wanted = EVER, *, chunk_rows: int = 1000
) -> BackfillResult:
    return backfill(world.tables, world.locks, view, wanted, chunk_rows=chunk_rows)


def events(key: str, *hours: float) -> Records:
    return [{"key": key, "ts": int(hour * HOUR_US), "x": 1.0} for hour in hours]


def instants(times_us: Sequence[int]) -> pl.Series:
    return pl.Series("at", times_us, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))


def stored(world: World, view: FeatureView) -> pl.DataFrame:
    """The stored rows as they count now: read with nothing but the rule that the docs state."""
    (name,) = world.tables.names("features/")
    rows = world.tables.scan(name).collect()
    newest = rows.group_by("key", "at").agg(pl.all().sort_by("_computed_batch").last())
    assert not rows.select("key", "at", "_computed_batch").is_duplicated().any()
    return newest.sort("at", "key").select("key", "at", *view.names, "_computed_batch")


def is_right(world: World, view: FeatureView, records: Records) -> None:
    """Every stored value is the one computed now, up to the rounding of sums."""
    rows = stored(world, view)
    fresh = point_in_time(world.tables, [view], rows.select("key", "at"))
    at_us = rows["at"].dt.epoch("us").to_list()
    pairs = zip(rows.iter_rows(named=True), fresh.iter_rows(named=True), strict=True)
    for at, (left, right) in zip(at_us, pairs, strict=True):
        own = [record for record in records if record["key"] == left["key"]]
        for feature in view.features:
            room = naive_tolerance(view, feature, own, at)
            for name in (f"{view.name}.{each}" for each in feature.names):
                if left[name] is None or right[name] is None:
                    assert left[name] is right[name], (name, left, right)
                else:
                    assert abs(left[name] - right[name]) <= room, (name, left, right)


def finite(records: Records) -> Records:
    """Raw tables hold no infinity and no NaN."""
    odd = {"nan", "inf", "-inf"}
    return [
        {name: None if str(value) in odd else value for name, value in record.items()}
        for record in records
    ]


@LAX
@given(
    feature_views(),
    st.lists(histories(15), min_size=1, max_size=3),
    st.sampled_from([0, HOUR_US, 7 * HOUR_US]),
    st.sampled_from([20, 1000]),
)
def test_after_any_batches_stored_values_are_those_computed_now(
    new_world: Callable[[], World],
    view: FeatureView,
    batches: list[Records],
    every_us: int,
    chunk_rows: int,
) -> None:
    world, seen = new_world(), list[dict[str, object]]()
    for records in map(finite, batches):
        world.ingest(view.source, records)
        seen += records
        if not seen:
            continue
        first_us, last_us = known_span(world.tables, view)
        wanted = Wanted(from_us=first_us, until_us=last_us + DAY_US, every_us=every_us)
        if every_us and (last_us - first_us) // every_us > 400:
            wanted = msgspec.structs.replace(wanted, from_us=last_us - 200 * every_us)
        fill(world, view, wanted, chunk_rows=chunk_rows)
        again = fill(world, view, wanted, chunk_rows=chunk_rows)
        assert (again.computed, again.recomputed) == (0, 0)
        if not world.tables.names("features/"):
            continue
        is_right(world, view, seen)
        rows = stored(world, view)
        assert again.kept == len(rows)
        known = point_times(view, seen)
        if not every_us:
            assert set(rows.select("key", "at").rows()) == set(known.rows())


def point_times(view: FeatureView, records: Records) -> pl.DataFrame:
    later = view.source.known_after_us
    at = instants([int(str(record["ts"])) + later for record in records])
    return pl.DataFrame({"key": [record["key"] for record in records], "at": at})


def test_a_grid_begins_with_each_entity_s_first_record(world: World) -> None:
    world.ingest(VIEW.source, [*events("a", 0.5), *events("b", 3)])
    result = fill(world, VIEW, Wanted(from_us=0, until_us=5 * HOUR_US, every_us=HOUR_US))
    rows = stored(world, VIEW)
    assert rows.filter(key="a")["at"].equals(instants([h * HOUR_US for h in (1, 2, 3, 4)]))
    assert rows.filter(key="b")["at"].equals(instants([h * HOUR_US for h in (3, 4)]))
    assert rows.filter(key="a")["v.n"].to_list() == [1, 1, 1, 1]
    assert rows.filter(key="a")["v.total"].to_list() == [1.0, 1.0, 0.0, 0.0]
    assert rows.schema["v.n"] == pl.Int64
    assert (result.computed, result.recomputed, result.kept, result.last_batch) == (6, 0, 0, 1)


def test_only_rows_that_a_late_record_reaches_are_computed_again(world: World) -> None:
    hours = range(40)
    world.ingest(VIEW.source, [*events("a", *hours), *events("b", *hours)])
    assert fill(world, VIEW).computed == 80
    world.ingest(VIEW.source, events("a", 10.5))
    result = fill(world, VIEW)
    # Known at 10:30, so in the window of 6 hours of the rows at 11:00 to 16:00; 16:30 has none.
    assert (result.computed, result.recomputed, result.kept) == (1, 6, 74)
    rows = stored(world, VIEW)
    again = rows.filter(pl.col("_computed_batch") == 2)
    at = [10.5, 11, 12, 13, 14, 15, 16]
    assert again.select("key", "at").rows() == list(
        zip(["a"] * 7, instants([int(h * HOUR_US) for h in at]), strict=True)
    )
    assert again["v.n"].to_list() == [7] * 7


def test_the_far_end_of_a_window_reaches_back_to_its_hop(world: World) -> None:
    world.ingest(VIEW.source, events("a", 0, 16.5, 17))
    fill(world, VIEW)
    world.ingest(VIEW.source, events("a", 10.25))
    # At 16:30 the window of 6 hours begins at 10:00, at 17:00 it begins at 11:00.
    assert fill(world, VIEW).recomputed == 1
    assert stored(world, VIEW)["v.n"].to_list() == [1, 1, 2, 2]


def test_the_whole_past_of_an_entity_reaches_all_its_later_rows(world: World) -> None:
    hours = range(0, 90, 10)
    world.ingest(WHOLE.source, [*events("a", *hours), *events("b", *hours)])
    fill(world, WHOLE)
    world.ingest(WHOLE.source, events("a", 35))
    result = fill(world, WHOLE)
    assert (result.computed, result.recomputed, result.kept) == (1, 5, 13)
    assert stored(world, WHOLE).filter(key="a")["w.n"].to_list() == list(range(1, 11))


def test_rows_outside_the_wanted_times_are_brought_up_to_date_too(world: World) -> None:
    world.ingest(VIEW.source, events("a", 0, 1, 100))
    fill(world, VIEW)
    world.ingest(VIEW.source, events("a", 0.5))
    late = Wanted(from_us=100 * HOUR_US, until_us=200 * HOUR_US)
    result = fill(world, VIEW, late)
    assert (result.computed, result.recomputed, result.kept) == (0, 1, 2)
    assert stored(world, VIEW)["v.n"].to_list() == [1, 3, 1]
    # The late record's own row was not wanted then; it comes when it is.
    assert fill(world, VIEW).computed == 1


def test_a_changed_view_has_a_table_of_its_own(world: World) -> None:
    world.ingest(VIEW.source, events("a", 0))
    changed = msgspec.structs.replace(VIEW, features=VIEW.features[:1])
    assert fill(world, VIEW).table != fill(world, changed).table
    assert len(world.tables.names("features/v-")) == 2


def test_what_cannot_be_filled_is_refused(world: World) -> None:
    with pytest.raises(NotReadyError, match="penstock ingest readings"):
        fill(world, VIEW)
    with pytest.raises(NotReadyError, match="penstock ingest readings"):
        known_span(world.tables, VIEW)
    with pytest.raises(InputError, match="after its beginning"):
        fill(world, VIEW, Wanted(from_us=5, until_us=5))
    world.ingest(VIEW.source, events("a", 0))
    with pytest.raises(NotReadyError, match="penstock features backfill v"):
        stored_features(world.tables, VIEW, spine_of(("a", 0)))


def test_a_writer_that_comes_between_is_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ingest(VIEW.source, events("a", 0, 50))
    table = fill(world, VIEW).table
    world.ingest(VIEW.source, events("a", 1))
    applied = world.tables.applied

    def behind(name: str, app: str) -> int:
        return applied(name, app) - (name == app == table)

    monkeypatch.setattr(world.tables, "applied", behind)
    with pytest.raises(ConflictError, match="Run the backfill again"):
        fill(world, VIEW)


@pytest.mark.parametrize("first_build", [True, False], ids=["first", "late data"])
@pytest.mark.parametrize("pause_at", [1, 3])
def test_killed_in_the_middle_and_run_again_is_as_if_nothing_had_been(
    tmp_path: Path, new_world: Callable[[], World], pause_at: int, *, first_build: bool
) -> None:
    whole, broken = new_world(), open_world(tmp_path)
    for world in (whole, broken):
        world.ingest(VIEW.source, [*events("a", *range(240)), *events("b", *range(240))])
        if not first_build:
            fill(world, VIEW, chunk_rows=48)
            late = [*events("a", *(h + 0.5 for h in range(0, 240, 5))), *events("b", 7.5)]
            world.ingest(VIEW.source, late)
    done = fill(whole, VIEW, chunk_rows=48)
    with child(backfill_until, tmp_path, VIEW, EVER, 48, pause_at) as worker:
        worker.listen(pause_at)
        said = worker.kill()
    assert "done" not in said
    half = broken.tables.scan(done.table).collect()
    fewer = len(half.filter(_computed_batch=done.last_batch))
    assert 0 < fewer < done.computed + done.recomputed
    # While it lies there half done, more comes in: the rest is computed from that as well.
    again = fill(broken, VIEW, chunk_rows=48)
    assert again.computed + again.recomputed == done.computed + done.recomputed - fewer
    assert stored(broken, VIEW).equals(stored(whole, VIEW))
    assert fill(broken, VIEW) == fill(whole, VIEW)


def test_what_comes_while_a_killed_backfill_lies_there_is_not_missed(
    tmp_path: Path,
) -> None:
    broken, records = open_world(tmp_path), events("a", *range(240))
    broken.ingest(VIEW.source, records)
    with child(backfill_until, tmp_path, VIEW, EVER, 48, 4) as worker:
        worker.listen(4)
        worker.kill()
    late = events("a", 3.5, 200.5)
    broken.ingest(VIEW.source, late)
    result = fill(broken, VIEW, chunk_rows=48)
    assert result.recomputed == 6, "the rows that were there and hold the record of 3:30"
    is_right(broken, VIEW, records + late)
    assert len(stored(broken, VIEW)) == 242


def spine_of(*rows: tuple[str | None, int]) -> pl.DataFrame:
    keys = pl.Series("key", [key for key, _ in rows], dtype=pl.String)
    return pl.DataFrame([pl.Series("row", range(len(rows))), keys, instants([r[1] for r in rows])])


@LAX
@given(
    histories(),
    st.lists(st.tuples(st.sampled_from(["a", "b", "z", None]), times()), max_size=12),
    st.sampled_from([None, 0, HOUR_US, 30 * HOUR_US]),
)
def test_a_join_keeps_the_spine_and_takes_the_newest_row_not_after_it(
    new_world: Callable[[], World],
    records: Records,
    points: list[tuple[str | None, int]],
    max_age_us: int | None,
) -> None:
    if not records:
        return
    world = new_world()
    world.ingest(VIEW.source, finite(records))
    fill(world, VIEW)
    rows = stored(world, VIEW)
    exact = rows.select("key", pl.col("at").dt.epoch("us")).rows()
    spine = spine_of(*points, *points[:2], *exact)
    version = stored_state(world.tables, VIEW).version
    joined = stored_features(world.tables, VIEW, spine, version=version, max_age_us=max_age_us)
    assert joined.select(spine.columns).equals(spine)
    for row in joined.iter_rows(named=True):
        own = rows.filter(
            (pl.col("key").eq_missing(pl.lit(row["key"]))) & (pl.col("at") <= row["at"])
        )
        if max_age_us is not None:
            own = own.filter(pl.col("at") >= row["at"] - timedelta(microseconds=max_age_us))
        expected = own.sort("at").tail(1).select(VIEW.names).rows()
        assert tuple(row[name] for name in VIEW.names) == (expected or [(None, None)])[0]


def test_a_join_at_stored_times_is_point_in_time(world: World) -> None:
    world.ingest(VIEW.source, [*events("a", *range(30)), *events("b", 1, 5)])
    fill(world, VIEW)
    world.ingest(VIEW.source, events("a", 2.5))
    fill(world, VIEW)
    spine = stored(world, VIEW).select("key", "at").sample(fraction=1, shuffle=True, seed=1)
    spine = spine.with_columns(pl.col("at").dt.convert_time_zone("Europe/Berlin"))
    joined = stored_features(world.tables, VIEW, spine)
    assert joined.equals(point_in_time(world.tables, [VIEW], spine))
    assert joined.schema["at"] == pl.Datetime("us", "Europe/Berlin")
    with pytest.raises(InputError, match="no column 'key'"):
        stored_features(world.tables, VIEW, spine.drop("key"))
    with pytest.raises(InputError, match="already"):
        stored_features(world.tables, VIEW, joined)
