"""What is found as of a time, in one part or in many, against an oracle."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra import Keyed, compile_view, find_features, find_newest
from penstock.spec import DType, Entity, FeatureView, Lookup, Source, count, first, last, last_k
from penstock.testing.oracle import naive_lookup

AFTER_US = 3
SOURCE = Source(
    "rates",
    entity=Entity("key"),
    timestamp="ts",
    schema={"key": DType.STRING, "ts": DType.TIMESTAMP, "x": DType.INT64},
    known_after="3us",
)
FAR = 2**61
times = st.sampled_from([0, 0, 1, 1, 2, 5, -1, -FAR, FAR])
keys = st.sampled_from(["a", "a", "a", "ä", ""])
asked_at = st.sampled_from([2, 3, 4, 5, 6, 8, 9, -FAR, FAR, FAR + AFTER_US])
asked = st.lists(
    st.tuples(st.sampled_from(["a", "a", "ä", "", "c", None]), asked_at), min_size=4, max_size=8
)


def keyed(records: list[tuple[str, int, int]], first: int) -> Keyed:
    key, ts, x = (list(column) for column in zip(*records, strict=True)) if records else ([],) * 3
    frame = pl.DataFrame(
        {
            "key": pl.Series(key, dtype=pl.String),
            "ts": pl.Series(ts, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "x": pl.Series(x, dtype=pl.Int64),
            "_batch": pl.int_range(first, first + len(records), eager=True, dtype=pl.Int64),
            "_row": pl.zeros(len(records), dtype=pl.Int64, eager=True),
        }
    )
    # In any order: it says by itself in which they arrived.
    return Keyed(frame.sample(fraction=1.0, shuffle=True, seed=1), "key", "ts", AFTER_US)


def parts_of(records: list[tuple[str, int, int]], cuts: list[int]) -> list[Keyed]:
    bounds = sorted({0, *(min(cut, len(records)) for cut in cuts), len(records)})
    pairs = list(pairwise(bounds)) or [(0, 0)]
    return [keyed(records[low:high], low) for low, high in pairs]


histories = st.lists(st.tuples(keys, times, st.integers(0, 9)), max_size=9)
cuttings = st.lists(st.integers(0, 9), max_size=3)


@given(histories, cuttings, asked, st.sampled_from([0, 1, 4]))
def test_the_newest_is_found_in_whatever_part_it_is(
    records: list[tuple[str, int, int]],
    cuts: list[int],
    wanted: list[tuple[str | None, int]],
    within_us: int,
) -> None:
    parts = parts_of(records, cuts)
    names = pl.Series([key for key, _ in wanted], dtype=pl.String)
    at_us = np.array([at for _, at in wanted], dtype=np.int64)

    found = find_newest(parts, names, at_us, within_us).column("x").to_list()

    within = f"{within_us}us" if within_us else ""
    lookup = Lookup(SOURCE, on="on", columns={"x": "x"}, within=within)
    rows = [{"key": key, "ts": ts, "x": x} for key, ts, x in records]
    assert found == [naive_lookup(lookup, rows, key, at)["x"] for key, at in wanted]


@given(histories, cuttings, asked, st.booleans(), st.sampled_from(["", "2us"]))
def test_features_are_the_oracle_s_in_whatever_part_their_records_are(
    records: list[tuple[str, int, int]],
    cuts: list[int],
    wanted: list[tuple[str | None, int]],
    lifelong: bool,  # noqa: FBT001 - drawn
    ttl: str,
) -> None:
    windowed = [
        last_k("x", 2, over="4us", hop="0s", name="newest"),
        count(over="1us", hop="0s", name="count"),
        first("x", over="3us", hop="0s", name="first"),
    ]
    view = FeatureView(
        name="v",
        source=SOURCE,
        features=[*windowed, *([last("x", name="last")] if lifelong else [])],
        ttl=ttl,
    )
    names = pl.Series([key for key, _ in wanted], dtype=pl.String)
    at_us = np.array([at for _, at in wanted], dtype=np.int64)

    found = find_features(compile_view(view), parts_of(records, cuts), names, at_us)

    columns = {name.partition(".")[2]: name.partition(".")[2] for name in view.names}
    lookup = Lookup(view, on="on", columns=columns)
    rows = [{"key": key, "ts": ts, "x": x} for key, ts, x in records]
    for values, (key, at) in zip(found.values.tolist(), wanted, strict=True):
        expected = naive_lookup(lookup, rows, key, at)
        assert [None if math.isnan(one) else one for one in values] == list(expected.values())
    since_us = -(2**63) if lifelong else -4  # as far back as the longest window looks
    reached = [
        any(one == key and at + since_us <= ts + AFTER_US <= at for one, ts, _ in records)
        for key, at in wanted
    ]
    assert found.any.tolist() == reached
