"""What is found as of a time, in one part or in many, against an oracle."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra import Keyed, find_newest
from penstock.spec import DType, Entity, Lookup, Source
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


@given(
    st.lists(st.tuples(keys, times, st.integers(0, 9)), max_size=9),
    st.lists(st.integers(0, 9), max_size=3),
    asked,
    st.sampled_from([0, 1, 4]),
)
def test_the_newest_is_found_in_whatever_part_it_is(
    records: list[tuple[str, int, int]],
    cuts: list[int],
    wanted: list[tuple[str | None, int]],
    within_us: int,
) -> None:
    bounds = sorted({0, *(min(cut, len(records)) for cut in cuts), len(records)})
    pairs = list(pairwise(bounds)) or [(0, 0)]
    parts = [keyed(records[low:high], low) for low, high in pairs]
    names = pl.Series([key for key, _ in wanted], dtype=pl.String)
    at_us = np.array([at for _, at in wanted], dtype=np.int64)

    found = find_newest(parts, names, at_us, within_us).column("x").to_list()

    within = f"{within_us}us" if within_us else ""
    lookup = Lookup(SOURCE, on="on", columns={"x": "x"}, within=within)
    rows = [{"key": key, "ts": ts, "x": x} for key, ts, x in records]
    assert found == [naive_lookup(lookup, rows, key, at)["x"] for key, at in wanted]
