"""Laws 3 and 4: batch = stream = naive, for every history, batching and time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.algebra import (
    FOR_EVER,
    Events,
    NewestValues,
    Tombstones,
    ValueReader,
    as_of,
    asks_newest,
    compile_view,
    compute_points,
    compute_points_as_known,
    extract,
    fold,
)
from penstock.spec import Aggregate, AggregateOp, DType, FeatureView, default_hop_us
from penstock.testing.oracle import naive_feature, naive_remaining, naive_tolerance
from penstock.testing.strategies import (
    SCHEMA,
    deleted_histories,
    feature_views,
    histories,
    is_deletion,
    source,
    times,
)

if TYPE_CHECKING:
    from penstock.algebra import Program
    from penstock.algebra.arrays import FloatArray, IntArray

Record = dict[str, object]

KEYS = ["a", "b", "c"]
OPS: tuple[AggregateOp, ...] = ("count", "sum", "mean", "min", "max", "std", "last")
EMPTY: Record = {**dict.fromkeys(SCHEMA)}
POLARS: dict[DType, type[pl.DataType] | pl.DataType] = {
    DType.STRING: pl.String,
    DType.FLOAT64: pl.Float64,
    DType.INT64: pl.Int64,
    DType.BOOLEAN: pl.Boolean,
    DType.TIMESTAMP: pl.Datetime("us", "UTC"),
}


def frame_of(records: list[Record]) -> pl.DataFrame:
    return pl.DataFrame(
        {name: [record[name] for record in records] for name in SCHEMA},
        schema={name: POLARS[dtype] for name, dtype in SCHEMA.items()},
        strict=False,
    )


def events_of(program: Program, records: list[Record]) -> Events:
    codes = np.array([KEYS.index(str(record["key"])) for record in records], dtype=np.int64)
    return extract(program, frame_of(records), codes)


def assert_naive(
    view: FeatureView, records: list[Record], points: list[tuple[str, int]], values: FloatArray
) -> None:
    assert values.shape == (len(points), len(view.names))
    for (key, at_us), row in zip(points, values.tolist(), strict=True):
        own = [record for record in records if record["key"] == key]
        place = 0
        for feature in view.features:
            about = f"{feature} for {key} at {at_us}"
            room = naive_tolerance(view, feature, own, at_us)
            for naive in naive_feature(view, feature, own, at_us):
                value = row[place]
                place += 1
                if naive is None:
                    assert math.isnan(value), about
                else:
                    assert abs(value - naive) <= room, f"{about}: {value} is not {naive}"


def batch(program: Program, records: list[Record], points: list[tuple[str, int]]) -> FloatArray:
    codes = np.array([KEYS.index(key) for key, _ in points], dtype=np.int64)
    at_us = np.array([at for _, at in points], dtype=np.int64)
    values = compute_points(program, events_of(program, records), codes, at_us)
    if asks_newest(program):
        np.testing.assert_array_equal(newest(program, records, codes, at_us), values)
    return values


def newest(program: Program, records: list[Record], codes: IntArray, at_us: IntArray) -> FloatArray:
    """As the batch engine says, but with values that are looked up in columns of another order."""
    events = events_of(program, records)
    places = np.arange(len(records) - 1, -1, -1)
    keys = Events(codes=events.codes, times=events.times, values=())
    values = np.empty((len(codes), program.width))
    found = NewestValues(program, keys, places, codes, at_us)
    for name in found.columns:
        found.fill(values, frame_of(records[::-1])[name])
    return values


spines = st.lists(st.tuples(st.sampled_from(KEYS), times()), max_size=12)
# Around 1970, and around the hours in which Europe's clocks go forward and back.
eras = st.sampled_from([0, 1_711_846_800_000_000, 1_729_990_800_000_000])
USUAL = settings().max_examples
# HYPOTHESIS_PROFILE=long goes through ten thousand histories and more.
thorough = settings(
    max_examples=60 if USUAL == 100 else USUAL,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def moved(records: list[Record], era_us: int) -> list[Record]:
    """The records in another era."""
    return [record | {"ts": int(str(record["ts"])) + era_us} for record in records]


@thorough
@given(feature_views(), histories(), spines, eras)
def test_batch_is_naive(
    view: FeatureView, records: list[Record], points: list[tuple[str, int]], era_us: int
) -> None:
    records, points = moved(records, era_us), [(key, at + era_us) for key, at in points]
    assert_naive(view, records, points, batch(compile_view(view), records, points))


@thorough
@given(feature_views(), histories(), st.lists(times(), min_size=40, max_size=40), spines)
def test_batch_as_known_is_naive_over_what_had_arrived(
    view: FeatureView, records: list[Record], arrived: list[int], points: list[tuple[str, int]]
) -> None:
    program = compile_view(view)
    arrived_us = np.array(sorted(arrived[: len(records)]), dtype=np.int64)
    codes = np.array([KEYS.index(key) for key, _ in points], dtype=np.int64)
    at_us = np.array([at for _, at in points], dtype=np.int64)
    events = events_of(program, records)
    values = compute_points_as_known(program, events, arrived_us, codes, at_us)
    for point, row in zip(points, values, strict=True):
        seen = [r for r, us in zip(records, arrived_us.tolist(), strict=True) if us <= point[1]]
        assert_naive(view, seen, [point], row[None, :])


@thorough
@given(feature_views(), histories(), spines, st.lists(st.integers(0, 12), min_size=12, max_size=12))
def test_batch_until_a_batch_of_each_point_is_naive_over_those_batches(
    view: FeatureView, records: list[Record], points: list[tuple[str, int]], until: list[int]
) -> None:
    program = compile_view(view)
    batches = np.arange(len(records), dtype=np.int64) // 3 + 1
    codes = np.array([KEYS.index(key) for key, _ in points], dtype=np.int64)
    at_us = np.array([at for _, at in points], dtype=np.int64)
    known = np.array(until[: len(points)], dtype=np.int64)
    values = compute_points_as_known(
        program, events_of(program, records), batches, codes, at_us, known
    )
    for point, last, row in zip(points, known.tolist(), values, strict=True):
        assert_naive(view, records[: last * 3], [point], row[None, :])


History = list[Record]


def parted(history: History) -> tuple[History, Tombstones, list[int]]:
    """Records, tombstones and the records' numbers; each step is a batch of its own."""
    records = [step for step in history if not is_deletion(step)]
    numbers = [number for number, step in enumerate(history, 1) if not is_deletion(step)]
    stones = [(n, step) for n, step in enumerate(history, 1) if is_deletion(step)]
    frame = pl.DataFrame(
        {
            "key": [str(step["key"]) for _, step in stones],
            "ts": [step["ts"] for _, step in stones],
            "_batch": [number for number, _ in stones],
            "_arrived_at": [number * 10 for number, _ in stones],
        },
        schema={
            "key": pl.String,
            "ts": pl.Datetime("us", "UTC"),
            "_batch": pl.Int64,
            "_arrived_at": pl.Datetime("us", "UTC"),
        },
    )
    return records, Tombstones(frame, "key", "ts"), numbers


def numbered(records: History, numbers: list[int]) -> pl.DataFrame:
    """What a tombstone looks at of records, and their place."""
    return pl.DataFrame(
        {
            "key": [str(record["key"]) for record in records],
            "ts": [record["ts"] for record in records],
            "_batch": numbers,
            "place": range(len(records)),
        },
        schema={
            "key": pl.String, "ts": pl.Datetime("us", "UTC"), "_batch": pl.Int64, "place": pl.Int64,
        },
    )  # fmt: skip


@thorough
@given(feature_views(), deleted_histories(), spines)
def test_batch_is_naive_over_what_deletions_leave(
    view: FeatureView, history: History, points: list[tuple[str, int]]
) -> None:
    records, tombstones, numbers = parted(history)
    frame = numbered(records, numbers)
    left = sorted(tombstones.kept(frame.lazy()).collect()["place"])
    kept = [records[place] for place in left]
    assert kept == naive_remaining(view, history, is_deletion)
    taken = tombstones.hits(frame.lazy()).collect()
    assert sorted([*left, *taken["place"]]) == list(range(len(records)))
    ends = tombstones.ends(frame, "batch")
    assert dict(zip(taken["place"], taken["_ends"], strict=True)) == {
        place: end for place, end in enumerate(ends.tolist()) if end != FOR_EVER
    }
    assert_naive(view, kept, points, batch(compile_view(view), kept, points))


@thorough
@given(
    feature_views(), deleted_histories(), spines,
    st.lists(st.integers(0, 45), min_size=12, max_size=12), st.sampled_from(["batch", "arrival"]),
)  # fmt: skip
def test_batch_until_a_step_of_each_point_is_naive_over_what_was_left_then(
    view: FeatureView,
    history: History,
    points: list[tuple[str, int]],
    until: list[int],
    by: Literal["batch", "arrival"],
) -> None:
    program = compile_view(view)
    records, tombstones, numbers = parted(history)
    ends = tombstones.ends(numbered(records, numbers), by)
    unit = 10 if by == "arrival" else 1
    codes = np.array([KEYS.index(key) for key, _ in points], dtype=np.int64)
    at_us = np.array([at for _, at in points], dtype=np.int64)
    known = np.array(until[: len(points)], dtype=np.int64)
    arrived = np.array(numbers, dtype=np.int64) * unit
    events = events_of(program, records)
    values = compute_points_as_known(
        program, events, arrived, codes, at_us, known * unit, ends=ends
    )
    for point, last, row in zip(points, known.tolist(), values, strict=True):
        seen = naive_remaining(view, history[:last], is_deletion)
        assert_naive(view, [dict(record) for record in seen], [point], row[None, :])


def test_what_was_deleted_by_then_is_not_seen_while_something_comes_later() -> None:
    view = FeatureView(name="v", source=source(), features=(ps.count(), ps.last("x")))
    record = EMPTY | {"key": "a", "ts": 0}
    records = [record | {"x": 1.0}, record | {"x": 2.0}]
    ends = np.array([2, FOR_EVER])
    values = compute_points_as_known(
        compile_view(view),
        events_of(compile_view(view), records),
        np.array([1, 3]),
        np.zeros(4, np.int64),
        np.zeros(4, np.int64),
        np.arange(4),
        ends=ends,
    )
    null = math.nan
    np.testing.assert_array_equal(values, [[0.0, null], [1.0, 1.0], [0.0, null], [1.0, 2.0]])


def test_only_newest_values_of_stored_columns_are_looked_up() -> None:
    derive = {"up": ps.col("x") > 0}
    for feature, alone in (
        (ps.last("x"), True),
        (ps.last("flag", over="1h"), True),
        (ps.last("up"), False),
        (ps.last("x", where=ps.col("y") > 0), False),
        (ps.first("x"), False),
        (ps.last_k("x", 1), False),
        (ps.count("x"), False),
    ):
        features = (ps.last("y"), feature)
        view = FeatureView(name="v", source=source(), derive=derive, features=features)
        assert asks_newest(compile_view(view)) is alone


@pytest.mark.parametrize("copies", [1, 20, 20_000])
def test_a_hop_of_zero_is_exact_to_the_microsecond(copies: int) -> None:
    exact, rounded = ps.count(over="1h", hop="0s"), ps.count(over="1h", name="rounded")
    view = FeatureView(name="v", source=source(), features=(exact, rounded))
    program, hour_us = compile_view(view), 3_600_000_000
    records: list[Record] = [EMPTY | {"key": "a", "ts": at} for at in (-1, 0, 0, 7)]
    asked = [("a", at) for at in (7, hour_us - 1, hour_us, hour_us + 7)]
    expected = [[4.0, 4.0], [3.0, 4.0], [1.0, 1.0], [0.0, 1.0]]
    np.testing.assert_array_equal(batch(program, records, asked), expected)
    at_us = np.array([at for _, at in asked])
    value = folded(program, records, [1])["a"]
    got = ValueReader(program).read([value] * 4 * copies, np.tile(at_us, copies))
    np.testing.assert_array_equal(got, expected * copies)


@pytest.mark.parametrize("copies", [1, 20])
def test_what_is_known_is_true_until_its_time_is_over(copies: int) -> None:
    features = (ps.count(), ps.last("x"), ps.sum("x", over="5m"))
    view = FeatureView(name="v", source=source(), features=features, ttl="1h")
    program, hour_us = compile_view(view), 3_600_000_000
    records: list[Record] = [EMPTY | {"key": "a", "ts": 0, "x": 2.0}]
    asked = [("a", hour_us - 1), ("a", hour_us), ("b", 0)]
    null = [math.nan] * 3
    expected = [[1.0, 2.0, 0.0], null, null]
    np.testing.assert_array_equal(batch(program, records, asked), expected)
    values = [folded(program, records, [])["a"]] * 2 + [None]
    at_us = np.array([at for _, at in asked])
    got = ValueReader(program).read(values * copies, np.tile(at_us, copies))
    np.testing.assert_array_equal(got, expected * copies)
    assert_naive(view, records, asked, np.array(expected))


def folded(
    program: Program, records: list[Record], cuts: list[int], *, piece: int = 1_000
) -> dict[str, bytes]:
    """Fold records in batches of the sizes given, the last one with the rest."""
    values: dict[str, bytes] = {}
    start = 0
    for size in [*cuts, len(records)]:
        part = records[start : start + size]
        start += size
        keys = sorted({str(record["key"]) for record in part})
        events = events_of(program, part)
        places = np.array([keys.index(KEYS[code]) for code in events.codes], dtype=np.int64)
        events = Events(codes=places, times=events.times, values=events.values)
        new = fold(program, [values.get(key) for key in keys], events, piece=piece)
        values |= dict(zip(keys, new, strict=True))
    return values


@thorough
@given(
    feature_views(),
    histories(),
    st.lists(st.integers(0, 15), max_size=6),
    st.lists(st.tuples(st.sampled_from(KEYS), times()), min_size=3, max_size=3),
    st.sampled_from((1, 7, 1_000)),
    eras,
)
def test_stream_is_naive_for_every_batching(  # noqa: PLR0917 - what a stream depends on
    view: FeatureView,
    records: list[Record],
    cuts: list[int],
    points: list[tuple[str, int]],
    piece: int,
    era_us: int,
) -> None:
    program = compile_view(view)
    records, points = moved(records, era_us), [(key, at + era_us) for key, at in points]
    stored = folded(program, records, cuts, piece=piece)
    values = [stored.get(key) for key, _ in points]
    exact = as_of(values, np.array([at for _, at in points], dtype=np.int64))
    asked = [(key, at) for (key, _), at in zip(points, exact.tolist(), strict=True)]
    few = ValueReader(program).read(values, exact)
    assert_naive(view, records, asked, few)
    # The other way to read, for many at once, says the same.
    many = ValueReader(program).read(values * 6, np.tile(exact, 6))
    assert_naive(view, records, asked * 6, many)
    whole = batch(program, records, asked)
    assert_naive(view, records, asked, whole)
    # What need not be rounded is the same to the last bit, approximate or not.
    for place, exact_one in enumerate(columns_that_are_exact(view)):
        if exact_one:
            np.testing.assert_array_equal(few[:, place], whole[:, place])
            np.testing.assert_array_equal(few[:, place], many[: len(asked), place])


def columns_that_are_exact(view: FeatureView) -> list[bool]:
    return [feature.is_exact for feature in view.features for _ in feature.names]


def test_reads_are_exact_at_the_newest_event_or_later() -> None:
    view = FeatureView(name="v", source=source("1h"), features=(Aggregate(op="count", over="1h"),))
    program = compile_view(view)
    record: Record = EMPTY | {"key": "a", "ts": 0}
    stored = folded(program, [record], [])
    hour_us = 3_600_000_000
    asked = np.array([0, hour_us, 2 * hour_us, 2 * hour_us + 299_999_999, 3 * hour_us])
    exact = as_of([stored["a"]] * 5, asked)
    assert exact.tolist() == [hour_us, hour_us, *asked[2:].tolist()]
    # Known at 01:00, so in the hour that began before it, and gone with the whole hop at 02:00.
    assert ValueReader(program).read([stored["a"]] * 5, exact)[:, 0].tolist() == [1, 1, 0, 0, 0]
    assert as_of([None], np.array([5])).tolist() == [5]


def test_tiles_nobody_can_reach_are_dropped_and_late_events_for_them_change_nothing() -> None:
    view = FeatureView(
        name="v",
        source=source(),
        features=(
            Aggregate(op="sum", column="x", over="1h"),
            Aggregate(op="count"),
            Aggregate(op="sum", column="x"),
        ),
    )
    program = compile_view(view)
    hour_us = 3_600_000_000
    records = [EMPTY | {"key": "a", "ts": hour * hour_us, "x": 1.0} for hour in range(1000)]
    short = folded(program, records[-1:], [])["a"]
    long = folded(program, records, [1] * 100)["a"]
    assert len(long) <= len(short) + 2 * 16
    late = folded(program, [*records, records[3]], [1000])["a"]
    at = np.array([999 * hour_us])
    assert ValueReader(program).read([long], at).tolist() == [[1.0, 1000.0, 1000.0]]
    assert ValueReader(program).read([late], at).tolist() == [[1.0, 1001.0, 1001.0]]


@pytest.mark.parametrize("over", ["", "6h", "300d"])
@pytest.mark.parametrize("span", [10_000_000_000, 2**61])
def test_long_windows_take_the_way_over_blocks(over: str, span: int) -> None:
    view = FeatureView(
        name="v",
        source=source(),
        features=(
            *(Aggregate(op=op, column="x", over=over) for op in OPS),
            Aggregate(op="sum", column="x", over="301d"),
        ),
    )
    rng = np.random.default_rng(7)
    size = 20_000
    when = np.sort(rng.integers(0, 10_000_000_000, size))
    when[0], when[-1] = min(0, 10_000_000_000 - span), 10_000_000_000
    x = rng.lognormal(3, 2, size)
    x[rng.integers(0, size, 50)] = np.nan
    x[77] = 1e15
    codes = rng.integers(0, 2, size)
    order = np.lexsort((when, codes))
    codes = codes[order]
    events = Events(codes=codes, times=when[order], values=(x,))
    mixed = rng.permutation(size)
    arrived = Events(codes=codes[mixed], times=events.times[mixed], values=(x[mixed],))
    at = np.sort(rng.integers(1_000_000_000, 10_000_000_000, 20))
    got = compute_points(compile_view(view), arrived, np.tile([0, 1], 10), at)
    for row, code, time in zip(got, np.tile([0, 1], 10), at, strict=True):
        keep = (codes == code) & (events.times <= time) & ~np.isnan(x)
        if over:
            feature = view.features[0]
            hop = default_hop_us(feature.over_us)
            keep &= events.times > (time - feature.over_us) // hop * hop
        own = x[keep]
        deviation = float(np.std(own.astype(np.longdouble), ddof=1))
        rms = math.sqrt(float((own * own).mean()))
        assert row[0] == len(own)
        assert abs(row[1] - math.fsum(own)) <= 1e-9 * math.fsum(own)
        assert abs(row[2] - math.fsum(own) / len(own)) <= 1e-9 * math.fsum(own)
        assert row[3:5].tolist() == [own.min(), own.max()]
        assert abs(row[5] - deviation) <= 1e-9 * rms
        assert row[6] == own[-1]


def test_an_outlier_leaves_the_windows_after_it_alone() -> None:
    view = FeatureView(
        name="v",
        source=source(),
        features=(
            Aggregate(op="sum", column="x", over="5m"), Aggregate(op="std", column="x", over="5m"),
        ),
    )  # fmt: skip
    values = np.full(1000, 0.1)
    values[3] = 1e15
    step = 60_000_000
    when = np.arange(1000) * step
    events = Events(codes=np.zeros(1000, np.int64), times=when, values=(values,))
    got = compute_points(compile_view(view), events, np.zeros(900, np.int64), when[100:])
    assert (np.abs(got[:, 0] - 0.1 * np.round(got[:, 0] * 10)) < 1e-12).all()
    assert (got[:, 1] < 1e-12).all()


def test_unknown_entities_and_empty_sets_have_empty_windows() -> None:
    view = FeatureView(
        name="v",
        source=source(),
        features=(Aggregate(op="count"), Aggregate(op="sum", column="x", over="1h"),
                  Aggregate(op="last", column="x")),
    )  # fmt: skip
    program = compile_view(view)
    record: Record = EMPTY | {"key": "a", "ts": 0, "x": 1.0}
    for records in ([], [record]):
        events = events_of(program, records)
        got = compute_points(program, events, np.array([-1]), np.array([5]))
        assert got[0, :2].tolist() == [0, 0]
        assert math.isnan(got[0, 2])
        none = compute_points(program, events, np.empty(0, np.int64), np.empty(0, np.int64))
        assert none.shape == (0, 3)
    assert fold(program, [], events_of(program, [])) == []
    assert ValueReader(program).read([], np.empty(0, np.int64)).shape == (0, 3)
    many = ValueReader(program).read([None] * 20, np.zeros(20, np.int64))
    assert many[:, :2].tolist() == [[0, 0]] * 20
    assert np.isnan(many[:, 2]).all()


@pytest.mark.parametrize("copies", [1, 20])
@pytest.mark.parametrize("over", ["", "1h"])
def test_records_without_values_give_what_nothing_gives(over: str, copies: int) -> None:
    view = FeatureView(
        name="v",
        source=source(),
        features=tuple(Aggregate(op=op, column="x", over=over) for op in OPS),
    )
    program = compile_view(view)
    nothing = [0.0, 0.0, *[math.nan] * 5]
    for values, expected in (
        ([None, None], nothing),
        ([None, 2.0], [1.0, 2.0, 2.0, 2.0, 2.0, math.nan, 2.0]),
        ([2.0, None], [1.0, 2.0, 2.0, 2.0, 2.0, math.nan, 2.0]),
        ([1.0, 3.0], [2.0, 4.0, 2.0, 1.0, 3.0, math.sqrt(2), 3.0]),
        ([3.0, 1e308, 1e308], [3.0, math.nan, math.nan, 3.0, 1e308, math.nan, 1e308]),
    ):
        records = [EMPTY | {"key": "a", "ts": 0, "x": value} for value in values]
        stored = folded(program, records, [])["a"]
        at_us = np.zeros(copies, np.int64)
        got = ValueReader(program).read([stored] * copies, at_us)
        np.testing.assert_array_equal(got, [expected] * copies)
        np.testing.assert_array_equal(batch(program, records, [("a", 0)]), [expected])
