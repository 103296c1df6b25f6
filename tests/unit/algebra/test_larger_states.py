"""The aggregates whose states are more than a few words, over many events."""

from __future__ import annotations

import hashlib
import math
import struct

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.algebra import ValueReader, compile_view, compute_points, extract, fold
from penstock.algebra.quantiles import Buckets, quantile_of
from penstock.algebra.registers import Registers, distinct_of, mark_of_hashes, marks_of
from penstock.testing.strategies import source

SIZE = 20_000
HOUR_US = 3_600_000_000


def view_over(over: str) -> ps.FeatureView:
    return ps.FeatureView(
        "v",
        source=source(),
        features=[
            ps.var("x", over=over),
            ps.first("x", over=over),
            ps.first_k("x", 3, over=over),
            ps.last_k("x", 3, over=over),
            ps.top_k("x", 3, over=over),
            ps.decayed_mean("x", "1h", over=over),
            ps.approx_quantile("x", 0.9, over=over),
            ps.approx_distinct("word", over=over),
        ],
    )


def records() -> pl.DataFrame:
    """Events of one entity over three hours, by time, some without a value."""
    rng = np.random.default_rng(7)
    x = rng.lognormal(3, 1, SIZE).round(2)
    x[rng.integers(0, SIZE, 500)] = np.nan
    words = [f"w{number}" for number in rng.zipf(1.5, SIZE) % 3_000]
    when = np.sort(rng.integers(0, 3 * HOUR_US, SIZE))
    frame = {"key": ["a"] * SIZE, "ts": when, "x": x, "word": words}
    return pl.DataFrame(frame).with_columns(
        pl.col("ts").cast(pl.Datetime("us", "UTC")), pl.col("x").fill_nan(None)
    )


@pytest.mark.parametrize("over", ["", "1h"])
def test_long_windows_agree_with_the_definition(over: str) -> None:
    view, frame = view_over(over), records()
    program = compile_view(view)
    events = extract(program, frame, np.zeros(SIZE, np.int64))
    at = np.array([HOUR_US // 2, 2 * HOUR_US, 3 * HOUR_US])
    got = compute_points(program, events, np.zeros(3, np.int64), at)
    times, x = events.times, frame["x"].fill_null(np.nan).to_numpy()
    words = frame["word"].to_numpy()
    for row, time in zip(got, at.tolist(), strict=True):
        after = (time - HOUR_US) // 300_000_000 * 300_000_000 if over else -1
        inside = (times <= time) & (times > after)
        held = inside & ~np.isnan(x)
        own = x[held]
        weights = 0.5 ** ((time - times[held]) / HOUR_US)
        assert row[0] == pytest.approx(own.var(ddof=1), rel=1e-9)
        assert row[1] == own[0]
        assert row[2:5].tolist() == own[:3].tolist()
        assert row[5:8].tolist() == own[::-1][:3].tolist()
        assert row[8:11].tolist() == np.sort(own)[::-1][:3].tolist()
        assert row[11] == pytest.approx((weights * own).sum() / weights.sum(), rel=1e-9)
        assert row[12] == pytest.approx(np.quantile(own, 0.9), rel=0.05)
        assert row[13] == pytest.approx(len(set(words[inside])), rel=4 * 0.033)


@pytest.mark.parametrize("over", ["", "1h"])
def test_the_stream_gives_the_same_in_any_batches(over: str) -> None:
    program, frame = compile_view(view_over(over)), records()
    order = np.random.default_rng(1).permutation(SIZE)
    value: bytes | None = None
    for part in np.split(order, [10, 11, 500, 7_000]):
        # What is late arrives in the order of time, as ties could not be told apart otherwise.
        arrived = frame[np.sort(part).tolist()]
        (value,) = fold(program, [value], extract(program, arrived, np.zeros(len(part), np.int64)))
    at = np.array([3 * HOUR_US])
    events = extract(program, frame, np.zeros(SIZE, np.int64))
    whole = compute_points(program, events, np.zeros(1, np.int64), at)[0]
    one = np.array(ValueReader(program).read_one(value, int(at[0])))
    many = ValueReader(program).read([value] * 20, np.repeat(at, 20))
    np.testing.assert_allclose(one, whole, rtol=1e-12)
    np.testing.assert_array_equal(one[1:11], whole[1:11])
    np.testing.assert_array_equal(one[12:], whole[12:])
    np.testing.assert_allclose(many, np.tile(whole, (20, 1)), rtol=1e-12)


@pytest.mark.parametrize("distinct", [0, 1, 10, 1_000, 100_000])
def test_distinct_values_are_counted_within_four_standard_errors(distinct: int) -> None:
    values = pl.Series([f"user-{n}" for n in range(distinct)] * 2, dtype=pl.String)
    state = Registers().events(marks_of(values), np.zeros(len(values), np.int64))
    merged = state(np.array([0]), np.array([len(values)]))
    assert abs(distinct_of(merged)[0] - distinct) <= 4 * 0.033 * distinct


def naive_mark(pattern: int | str) -> float:
    """The mark of 64 bits, or of text, by the letter of the definition."""
    if isinstance(pattern, str):
        mixed = int.from_bytes(hashlib.blake2b(pattern.encode(), digest_size=8).digest(), "big")
    else:
        mixed = (pattern + 0x9E3779B97F4A7C15) % 2**64
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
        mixed ^= mixed >> 31
    bits = f"{mixed:064b}"
    return int(bits[:10], 2) * 64.0 + len(bits[10:]) - len(bits[10:].lstrip("0")) + 1


def bits_of(value: float) -> int:
    return int.from_bytes(struct.pack(">d", value), "big")


@given(st.lists(st.one_of(st.floats(allow_nan=False), st.none())))
def test_marks_of_floats_are_by_the_letter(values: list[float | None]) -> None:
    expected = [math.nan if v is None else naive_mark(bits_of(v + 0.0)) for v in values]
    got = marks_of(pl.Series(values, dtype=pl.Float64))
    np.testing.assert_array_equal(got, np.array(expected, dtype=np.float64))


@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.none())))
def test_marks_of_whole_numbers_are_by_the_letter(values: list[int | None]) -> None:
    expected = [math.nan if v is None else naive_mark(v % 2**64) for v in values]
    got = marks_of(pl.Series(values, dtype=pl.Int64))
    np.testing.assert_array_equal(got, np.array(expected, dtype=np.float64))


@given(st.lists(st.one_of(st.text(st.characters(codec="utf-8")), st.none())))
def test_marks_of_text_are_by_the_letter(values: list[str | None]) -> None:
    expected = [math.nan if v is None else naive_mark(v) for v in values]
    got = marks_of(pl.Series(values, dtype=pl.String))
    np.testing.assert_array_equal(got, np.array(expected, dtype=np.float64))


def test_marks_of_the_fewest_bits() -> None:
    """Hashes whose rest is 0, 1 or 2, which nobody meets by chance."""
    for rest, rank in ((0, 55), (1, 54), (2, 53), (2**54 - 1, 1), (2**53, 1), (2**53 - 1, 2)):
        assert mark_of_hashes(np.array([5 << 54 | rest], np.uint64)).tolist() == [5 * 64 + rank]


@pytest.mark.parametrize(
    ("values", "level"),
    [
        (np.linspace(1, 2, 3_000)[:-1], 0),
        (np.linspace(1, 4, 3_000)[:-1], 1),
        (np.geomspace(1, 16, 3_000)[:-1], 2),
        (np.random.default_rng(3).normal(size=5_000), 5),
        (np.random.default_rng(3).normal(size=5_000) * 1e300, 5),
        (np.array([5e-324, -1.7e308, 1.7e308, 0.0, -0.0]), 0),
    ],
    ids=["octave", "two", "four", "signs", "huge", "edges"],
)
def test_quantiles_are_as_near_as_their_level_says(values: np.ndarray, level: int) -> None:
    state = Buckets().events(values, np.zeros(len(values), np.int64))
    merged = state(np.array([0]), np.array([len(values)]))
    assert merged[0][0] == level
    for q in (0.001, 0.1, 0.5, 0.9, 0.999):
        exact = np.sort(values)[max(int(np.ceil(q * len(values))) - 1, 0)]
        assert abs(quantile_of(merged, q)[0] - exact) <= 2.0 ** (level - 7) * abs(exact) + 1e-300


def test_buckets_depend_on_the_values_alone() -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(size=900), rng.lognormal(0, 4, 900)])
    zeros = np.zeros(len(values), np.int64)
    whole = Buckets().events(values, zeros)(np.array([0]), np.array([len(values)]))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        mixed = rng.permutation(values)
        cuts = np.sort(rng.integers(0, len(values), 6))
        low, high = np.concatenate([[0], cuts]), np.concatenate([cuts, [len(values)]])
        parts = Buckets().events(mixed, zeros)(low, high)
        merged = tuple(word[:1] for word in parts)
        for place in range(1, len(low)):
            merged = Buckets().pairs(merged, tuple(word[place : place + 1] for word in parts))
        np.testing.assert_array_equal(np.stack(merged), np.stack(whole))
        together = Buckets().reducer(parts)(np.array([0]), np.array([len(low)]))
        np.testing.assert_array_equal(np.stack(together), np.stack(whole))
