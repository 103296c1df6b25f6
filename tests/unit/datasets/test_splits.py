"""Splits part the rows, keep their shares, and leave nothing to look ahead by."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from penstock.datasets.splits import PARTS, assign_parts
from penstock.spec import RandomSplit, ShuffledSplit, Split, StratifiedSplit, TimeSplit

TICK_US = 1_000_000
KEPT_PARTS = "020000020000"
ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-50, 200)), min_size=1, max_size=120)
SHARES = st.sampled_from(
    [(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.1, 0.1, 0.8), (0.98, 0.01, 0.01)]
)

UNHURRIED = settings(deadline=None)


def frame_of(rows: list[tuple[str, int]]) -> pl.DataFrame:
    keys, ticks = zip(*rows, strict=True)
    at = (pl.Series(ticks) * TICK_US).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame({"key": keys, "at": at})


def split_of(frame: pl.DataFrame, split: Split, label: pl.Series | None = None) -> pl.Series:
    return assign_parts(frame["key"], frame["at"], label, split)


def shuffled_spec(shares: tuple[float, float, float], seed: int = 0) -> ShuffledSplit:
    train, validation, test = shares
    return ShuffledSplit(train=train, validation=validation, test=test, seed=seed)


@UNHURRIED
@given(ROWS, SHARES, st.integers(0, 20))
def test_a_split_by_time_never_lets_one_part_see_the_next(
    rows: list[tuple[str, int]], shares: tuple[float, float, float], embargo: int
) -> None:
    frame = frame_of(rows)
    train, validation, test = shares
    split = TimeSplit(train=train, validation=validation, test=test, embargo=f"{embargo}s")
    ticks = frame.with_columns(part=split_of(frame, split), tick=pl.col("at").cast(pl.Int64))
    spans = {
        part: ticks.filter(pl.col("part") == part)["tick"].to_list() for part in (*PARTS, "embargo")
    }
    assert sum(len(span) for span in spans.values()) == len(rows)
    for before, after in (("train", "validation"), ("validation", "test"), ("train", "test")):
        if spans[before] and spans[after]:
            assert max(spans[before]) + embargo * TICK_US <= min(spans[after])
            assert max(spans[before]) < min(spans[after])


@UNHURRIED
@given(ROWS, st.integers(0, 20))
def test_the_embargo_takes_only_what_is_too_near(rows: list[tuple[str, int]], embargo: int) -> None:
    frame = frame_of(rows)
    split = TimeSplit(embargo=f"{embargo}s")
    free, held = split_of(frame, TimeSplit()), split_of(frame, split)
    ticks = frame.select(pl.col("at").cast(pl.Int64) // TICK_US, free=free, held=held)
    for tick, before, after in ticks.iter_rows():
        if before == after:
            continue
        assert after == "embargo"
        later = PARTS[PARTS.index(before) + 1 :]
        starts = [other for other, part, _ in ticks.iter_rows() if part in later]
        assert tick + embargo > min(starts)


@UNHURRIED
@given(ROWS)
def test_rows_of_one_instant_stay_together(rows: list[tuple[str, int]]) -> None:
    frame = frame_of(rows)
    parts = frame.with_columns(part=split_of(frame, TimeSplit()))
    assert parts.group_by("at").agg(pl.col("part").n_unique())["part"].max() == 1


def test_a_split_by_time_keeps_its_shares() -> None:
    frame = frame_of([("a", tick) for tick in range(200)])
    parts = split_of(frame, TimeSplit(embargo="3s")).to_list()
    assert [parts.count(part) for part in (*PARTS, "embargo")] == [138, 28, 30, 4]


@UNHURRIED
@given(ROWS, SHARES, st.integers(0, 5))
def test_a_shuffled_split_cuts_at_the_exact_shares(
    rows: list[tuple[str, int]], shares: tuple[float, float, float], seed: int
) -> None:
    parts = split_of(frame_of(rows), shuffled_spec(shares, seed)).to_list()
    ends = [round(shares[0] * len(rows)), round((shares[0] + shares[1]) * len(rows))]
    expected = [ends[0], ends[1] - ends[0], len(rows) - ends[1]]
    assert [parts.count(part) for part in PARTS] == expected


@UNHURRIED
@given(ROWS, ROWS, st.integers(0, 5))
def test_a_random_split_keeps_a_row_in_its_part_when_others_come(
    rows: list[tuple[str, int]], others: list[tuple[str, int]], seed: int
) -> None:
    split = RandomSplit(seed=seed)
    alone = split_of(frame_of(rows), split)
    together = split_of(frame_of(rows + others), split)
    assert together.head(len(rows)).to_list() == alone.to_list()


@pytest.mark.parametrize("keys", [["x", "y"], [1, 2]])
def test_a_random_split_comes_near_its_shares(keys: list[object]) -> None:
    ticks = pl.select(pl.int_range(4000).cast(pl.Datetime("us", "UTC"))).to_series()
    key = pl.Series(keys * 2000)
    parts = assign_parts(key, ticks, None, RandomSplit(seed=1)).to_list()
    shares = [parts.count(part) / 4000 for part in PARTS]
    assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.025)
    assert parts != assign_parts(key, ticks, None, RandomSplit(seed=2)).to_list()


def test_a_random_split_never_changes_between_releases() -> None:
    parts = split_of(frame_of([("a", tick) for tick in range(12)]), RandomSplit(seed=7))
    assert "".join(str(PARTS.index(part)) for part in parts) == KEPT_PARTS


@UNHURRIED
@given(ROWS, st.data())
def test_a_stratified_split_keeps_the_proportions(
    rows: list[tuple[str, int]], data: st.DataObject
) -> None:
    values = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    assume(len(set(values)) == 2)
    label = pl.Series("up", values)
    parts = split_of(frame_of(rows), StratifiedSplit(), label)
    for value in (True, False):
        of_value = parts.filter(label == value).to_list()
        assert abs(of_value.count("train") - 0.7 * len(of_value)) <= 0.5
        assert abs(of_value.count("test") - 0.15 * len(of_value)) <= 0.5


def test_a_numeric_label_is_stratified_by_tenths() -> None:
    frame = frame_of([("a", tick) for tick in range(200)])
    label = pl.Series("value", [float(tick) for tick in range(200)])
    parts = split_of(frame, StratifiedSplit(), label)
    tenths = pl.DataFrame({"tenth": [tick // 20 for tick in range(200)], "part": parts})
    trained = tenths.filter(pl.col("part") == "train").group_by("tenth").len()
    assert trained["len"].to_list() == [14] * 10


def test_no_rows_have_no_parts() -> None:
    empty = frame_of([("a", 1)]).clear()
    for split in (TimeSplit(), RandomSplit(), ShuffledSplit()):
        assert split_of(empty, split).to_list() == []
