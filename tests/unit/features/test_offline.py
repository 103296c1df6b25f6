from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from penstock.errors import InputError, NotFoundError, NotReadyError
from penstock.features import UnknownEntities, point_in_time
from penstock.spec import Aggregate, DType, Entity, FeatureView
from penstock.testing.oracle import naive_feature, naive_tolerance
from penstock.testing.strategies import feature_views, histories, source, times

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.unit.features.conftest import World

HOUR_US = 3_600_000_000
VIEW = FeatureView(
    name="v",
    source=source("1h"),
    features=(
        Aggregate(op="count", over="1h", name="n"),
        Aggregate(op="last", column="x", name="x"),
        Aggregate(op="sum", column="x", over="6h", name="total"),
    ),
)


def spine_of(*rows: tuple[str | None, int]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "row": range(len(rows)),
            "key": [key for key, _ in rows],
            "at": pl.Series([at for _, at in rows], dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
        },
        schema_overrides={"key": pl.String},
    )


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    feature_views(),
    histories(),
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(["a", "b", "z"]), times()), max_size=8),
    st.sampled_from([100, 2_000, 5_000]),
)
def test_frames_hold_what_the_oracle_says(  # noqa: PLR0917 - what a history is made of
    new_world: Callable[[], World],
    view: FeatureView,
    records: list[dict[str, object]],
    parts: int,
    points: list[tuple[str, int]],
    memory_bytes: int,
) -> None:
    world = new_world()
    for record in records:  # raw tables hold no infinity
        record |= {name: None for name in ("x", "y") if str(record[name]) in {"nan", "inf", "-inf"}}
    size = len(records) // parts + 1
    for start in range(0, size * parts, size):
        world.ingest(view.source, records[start : start + size])
    frame = point_in_time(world.tables, [view], spine_of(*points))
    assert frame["row"].to_list() == list(range(len(points)))
    # Part by part of the entities, the same rows in the same order with the same values.
    apart = point_in_time(world.tables, [view], spine_of(*points), memory_bytes=memory_bytes)
    assert_frame_equal(apart, frame, rel_tol=1e-9)
    for (key, at_us), row in zip(points, frame.iter_rows(named=True), strict=True):
        own = [record for record in records if record["key"] == key]
        for feature in view.features:
            room = naive_tolerance(view, feature, own, at_us)
            naives = naive_feature(view, feature, own, at_us)
            for name, naive in zip(feature.names, naives, strict=True):
                value = row[f"{view.name}.{name}"]
                assert (value is None) if naive is None else abs(value - naive) <= room


def test_rows_stay_as_they_are_and_events_count_when_they_are_known(world: World) -> None:
    world.ingest(VIEW.source, [{"key": "a", "ts": 0, "x": 1.5}, {"key": "a", "ts": HOUR_US}])
    spine = spine_of(
        ("a", HOUR_US), ("b", HOUR_US), ("a", HOUR_US - 1), ("a", HOUR_US), (None, 0),
        ("a", 2 * HOUR_US), ("a", 9 * HOUR_US),
    )  # fmt: skip
    frame = point_in_time(world.tables, [VIEW], spine)
    assert frame.drop("v.n", "v.x", "v.total").equals(spine)
    assert frame.schema["v.n"] == pl.Int64
    assert frame.schema["v.x"] == frame.schema["v.total"] == pl.Float64
    assert frame["v.n"].to_list() == [1, 0, 0, 1, 0, 1, 0]
    assert frame["v.x"].to_list() == [1.5, None, None, 1.5, None, 1.5, 1.5]
    assert frame["v.total"].to_list() == [1.5, 0, 0, 1.5, 0, 1.5, 0]
    assert point_in_time(world.tables, [VIEW], spine[:0]).columns == frame.columns


@pytest.mark.parametrize("more", [(), (Aggregate(op="count", name="n"),)])
def test_of_records_of_one_time_the_last_to_arrive_counts_wherever_it_lies(
    new_world: Callable[[], World], more: tuple[Aggregate, ...]
) -> None:
    names = ("x", "y")
    features = (*(Aggregate(op="last", column=name, name=name) for name in names), *more)
    view = FeatureView(name="v", source=source(), features=features)
    arrived, stored = new_world(), new_world()
    same = {"key": "a", "ts": 0}
    for x, y in ((1.0, 1.0), (2.0, 2.0), (3.0, None)):
        arrived.ingest(view.source, [same | {"x": 0.0}, same | {"x": x, "y": y}])
    arrived.delete(view.source, "b")
    for name in ("raw/readings", "tombstones/readings"):
        backwards = arrived.tables.scan(name).collect().reverse()
        stored.tables.append(name, backwards, app=name, number=1)
    frame = point_in_time(stored.tables, [view], spine_of(("a", 0)))
    assert frame.select("v.x", "v.y").rows() == [(3.0, 2.0)]


@pytest.mark.parametrize("known_after", ["", "1h"])
def test_every_record_in_reach_is_read(world: World, known_after: str) -> None:
    feature = Aggregate(op="count", over="6h", hop="1h", name="n")
    view = FeatureView(name="v", source=source(known_after), features=(feature,))
    world.ingest(view.source, [{"key": "a", "ts": ts} for ts in (0, 1, 6 * HOUR_US)])
    later = view.source.known_after_us
    for at_us, expected in (
        (6 * HOUR_US - 1, 2),
        (6 * HOUR_US, 2),
        (7 * HOUR_US - 1, 2),
        (7 * HOUR_US, 1),
    ):
        frame = point_in_time(world.tables, [view], spine_of(("a", at_us + later)))
        assert frame["v.n"].to_list() == [expected]


def test_a_pinned_version_and_a_last_batch_leave_later_records_out(world: World) -> None:
    world.ingest(VIEW.source, [{"key": "a", "ts": 0, "x": 1.0}])
    pinned = world.tables.version("raw/readings")
    assert pinned is not None
    world.ingest(VIEW.source, [{"key": "a", "ts": 0, "x": 2.0}])
    spine = spine_of(("a", HOUR_US))

    def last(
        versions: Mapping[str, int] | None = None, batches: Mapping[str, int] | None = None
    ) -> list[float | None]:
        found = point_in_time(world.tables, [VIEW], spine, versions=versions, batches=batches)
        return found["v.x"].to_list()

    assert last() == last(versions={"raw/other": 0}) == last(batches={"w": 0}) == [2.0]
    assert last(versions={"raw/readings": pinned}) == [1.0]
    assert last(batches={"v": 1}) == [1.0]
    assert last(batches={"v": 0}) == [None]
    with pytest.raises(NotFoundError):
        last(versions={"raw/readings": 99})


def test_several_views_and_whole_number_keys(world: World) -> None:
    numbered = msgspec.structs.replace(
        source(),
        name="numbered",
        entity=Entity(name="key", dtype=DType.INT64),
        schema={**source().schema, "key": DType.INT64},
    )
    views = [
        FeatureView(name="p", source=numbered, features=(Aggregate(op="count", name="n"),)),
        FeatureView(
            name="q", source=numbered, features=(Aggregate(op="max", column="x", name="m"),)
        ),
    ]
    world.ingest(numbered, [{"key": 7, "ts": 0, "x": 4.0}, {"key": 8, "ts": 0}])
    spine = spine_of(("a", 0), ("a", 0)).with_columns(key=pl.Series([7, 9]))
    frame = point_in_time(world.tables, views, spine)
    assert frame.select("p.n", "q.m").rows() == [(1, 4.0), (0, None)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("at").alias("when"), "no column 'at'"),
        (pl.col("at").dt.replace_time_zone(None), "have no zone.*replace_time_zone"),
        (pl.col("at").cast(pl.Int64), "Make it Datetime"),
        (pl.lit(None, dtype=pl.Datetime("us", "UTC")).alias("at"), "null in 1 rows"),
        (pl.col("key").alias("keys"), "no column 'key'.*Did you mean 'keys'"),
        (pl.lit(3).alias("key"), "is Int32.*Cast it"),
        (pl.lit(1).alias("v.n"), r"\['v.n'\] already"),
    ],
)
def test_a_spine_that_does_not_fit_is_refused(world: World, change: pl.Expr, message: str) -> None:
    spine = spine_of(("a", 0)).with_columns(change)
    if "no column" in message:
        spine = spine.drop("key" if "'key'" in message else "at")
    with pytest.raises(InputError, match=message):
        point_in_time(world.tables, [VIEW], spine)


def test_other_units_and_zones_of_the_spine_are_taken(world: World) -> None:
    world.ingest(VIEW.source, [{"key": "a", "ts": 0, "x": 1.0}])
    at = datetime(1970, 1, 1, 1, tzinfo=UTC)
    spine = pl.DataFrame({"key": ["a"], "at": [at]}).with_columns(
        pl.col("at").dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit("ms")
    )
    assert point_in_time(world.tables, [VIEW], spine)["v.n"].to_list() == [1]


def test_a_source_without_records_says_what_to_run(world: World) -> None:
    with pytest.raises(NotReadyError, match="penstock ingest readings"):
        point_in_time(world.tables, [VIEW], spine_of(("a", 0)))


def test_as_known_sees_only_what_had_arrived(world: World) -> None:
    """An older record that comes at three was known at eleven, but had not arrived."""
    view = msgspec.structs.replace(VIEW, features=(Aggregate(op="count", name="n"),))
    noon = datetime(1970, 1, 1, 12, tzinfo=UTC)
    record = {"key": "a", "ts": 12 * HOUR_US - HOUR_US, "x": 1.0}
    world.ingest(view.source, [record], arrived=noon)
    late = record | {"ts": 10 * HOUR_US}
    world.ingest(view.source, [late], arrived=noon + timedelta(hours=3))
    spine = spine_of(*(("a", hour * HOUR_US) for hour in (11, 12, 14, 15)))
    counts = {
        as_known: point_in_time(world.tables, [view], spine, as_known=as_known)["v.n"].to_list()
        for as_known in (False, True)
    }
    assert counts == {False: [1, 2, 2, 2], True: [0, 1, 1, 2]}


def test_each_row_may_have_a_last_batch_of_its_own(world: World) -> None:
    for value in (1.0, 2.0, 4.0):
        world.ingest(VIEW.source, [{"key": "a", "ts": 0, "x": value}])
    spine = spine_of(*[("a", HOUR_US)] * 4)
    each = point_in_time(world.tables, [VIEW], spine, batches={"v": np.array([2, 0, 3, 1])})
    assert each["v.total"].to_list() == [3.0, 0.0, 7.0, 1.0]
    for row, last in enumerate([2, 0, 3, 1]):
        alone = point_in_time(world.tables, [VIEW], spine[row : row + 1], batches={"v": last})
        assert_frame_equal(alone, each[row : row + 1])
    # The entities' parts take the batches of their own rows along.
    two = spine_of(("b", HOUR_US), ("a", HOUR_US))
    apart = point_in_time(
        world.tables, [VIEW], two, batches={"v": np.array([3, 1])}, memory_bytes=500
    )
    assert apart["v.total"].to_list() == [0.0, 1.0]
    with pytest.raises(InputError, match="not for both"):
        point_in_time(world.tables, [VIEW], two, batches={"v": np.array([3, 1])}, as_known=True)


def test_newest_values_are_read_a_few_columns_at_once_before_entities_are_split(
    world: World,
) -> None:
    columns = ("x", "y", "z")
    wide = msgspec.structs.replace(
        VIEW.source, schema=dict(VIEW.source.schema) | dict.fromkeys(columns, DType.FLOAT64)
    )
    features = tuple(Aggregate(op="last", column=name, name=name) for name in columns)
    view = FeatureView(name="v", source=wide, features=features)
    rows = [
        {"key": "abcd"[place % 4], "ts": place * HOUR_US} | dict.fromkeys(columns, float(place))
        for place in range(20)
    ]
    world.ingest(wide, [*rows, {"key": "a", "ts": 20 * HOUR_US, "x": 20.0}])
    spine = spine_of(*[(key, 30 * HOUR_US) for key in "abcd"])
    frames: list[pl.DataFrame] = []
    parts: list[int] = []
    told: list[str] = []
    for memory_bytes in (1 << 20, 2_100, 2_099):
        frames.append(
            point_in_time(
                world.tables,
                [view],
                spine,
                memory_bytes=memory_bytes,
                progress=lambda text, _: told.append(text),
            )
        )
        parts.append(len([text for text in told if "part" in text]))
    assert parts == [0, 0, 2]
    assert frames[0]["v.x"].to_list() == [20.0, 17.0, 18.0, 19.0]
    assert frames[0]["v.z"].to_list() == [16.0, 17.0, 18.0, 19.0]
    for frame in frames[1:]:
        assert_frame_equal(frame, frames[0], check_exact=True)


@pytest.mark.parametrize("memory_bytes", [1 << 30, 200])
def test_entities_without_records_are_told_once_for_each_view(
    world: World, memory_bytes: int
) -> None:
    world.ingest(VIEW.source, [{"key": key, "ts": 0, "x": 1.0} for key in "abc"])
    other = msgspec.structs.replace(VIEW, name="w", source=source("2h"))
    keys: list[str | None] = ["a", "z", "b", "y", "z", None, "x", "w"]
    spine = spine_of(*[(key, HOUR_US) for key in keys])
    told: list[UnknownEntities] = []
    frame = point_in_time(
        world.tables, [VIEW, other], spine, notice=told.append, memory_bytes=memory_bytes
    )
    assert frame.height == len(keys)
    assert [one.view for one in told] == ["v", "w"]
    assert (told[0].rows, told[0].of_rows, told[0].entities) == (6, 8, 4)
    assert told[0].examples == ("w", "x", "y")
    assert told[0].sentence == (
        "6 of 8 rows are of entities that 'readings' has no records of by then ('w', 'x', "
        "'y' and 1 more): their features of view 'v' are those of an unknown entity"
    )
    told.clear()
    known = spine.filter(pl.col("key").is_in(["a", "b"]))
    point_in_time(world.tables, [VIEW], known, notice=told.append, memory_bytes=memory_bytes)
    assert told == []
    point_in_time(
        world.tables, [VIEW], spine_of((None, HOUR_US), ("a", HOUR_US)), notice=told.append
    )
    assert [one.sentence for one in told] == [
        "1 of 2 rows have no key: their features of view 'v' are of nothing"
    ]
    told.clear()
    point_in_time(world.tables, [VIEW], spine_of(), notice=told.append)
    assert told == []


def test_an_entity_without_records_in_any_window_is_unknown(world: World) -> None:
    windowed = msgspec.structs.replace(VIEW, features=(Aggregate(op="count", over="1h", name="n"),))
    world.ingest(VIEW.source, [{"key": key, "ts": 0, "x": 1.0} for key in "ab"])
    told: list[UnknownEntities] = []
    for hours in (1, 90):
        spine = spine_of(("a", hours * HOUR_US), ("z", hours * HOUR_US))
        point_in_time(world.tables, [windowed], spine, notice=told.append)
    assert [one.entities for one in told] == [1, 2]
