"""Labels join what came exactly later, of the same entity, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.datasets.labels import label_columns, label_values

if TYPE_CHECKING:
    from penstock.spec import Expression, Source

Record = tuple[str, int, float | None]
CLOSE = st.one_of(st.none(), st.sampled_from([1.0, 2.0, float("nan")]))
RECORDS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6), CLOSE), max_size=20)
PRICES = ps.Source(
    "prices",
    entity=ps.Entity("symbol"),
    timestamp="ts",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
    nullable=["close"],
)

UNHURRIED = settings(deadline=None)


def frame_of(records: list[Record]) -> pl.DataFrame:
    schema = {"symbol": pl.String, "hour": pl.Int64, "close": pl.Float64}
    hours = pl.DataFrame(records, schema=schema, orient="row").with_row_index("_row")
    stamp = (pl.col("hour") * 3_600_000_000).cast(pl.Datetime("us", "UTC"))
    return hours.with_columns(
        stamp.alias("ts"), _batch=pl.lit(1), _row=pl.col("_row").cast(pl.Int64)
    )


def known(value: float | None) -> bool:
    return value is not None and value == value  # noqa: PLR0124 - NaN is not itself


def naive(records: list[Record], by: int) -> list[bool | None]:
    """The law in plain words: the last record of the entity stamped exactly ``by`` later."""
    labels: list[bool | None] = []
    for symbol, hour, close in records:
        later = [c for s, h, c in records if s == symbol and h == hour + by]
        ahead = later[-1] if later else None
        both = known(close) and known(ahead)
        labels.append(ahead > close if both and ahead is not None and close is not None else None)
    return labels


@UNHURRIED
@given(RECORDS, st.integers(1, 3))
def test_a_label_agrees_with_the_naive_one(records: list[Record], by: int) -> None:
    label = ps.Label("up", ps.lead("close", f"{by}h") > ps.col("close"))
    assert label_values(frame_of(records), PRICES, label).to_list() == naive(records, by)


@UNHURRIED
@given(RECORDS)
def test_the_order_of_the_rows_changes_no_label(records: list[Record]) -> None:
    label = ps.Label("up", ps.lead("close", "1h") > ps.col("close"))
    frame = frame_of(records)
    mixed = frame.sample(fraction=1, shuffle=True, seed=len(records))
    found = mixed.with_columns(label_values(mixed, PRICES, label)).sort("_row")["up"]
    assert found.to_list() == label_values(frame, PRICES, label).to_list()


def test_a_label_that_is_no_condition_is_a_number() -> None:
    label = ps.Label("growth", ps.lead("close", "1h") / ps.col("close") - 1)
    found = label_values(frame_of([("a", 0, 2.0), ("a", 1, 3.0), ("a", 2, 0.0)]), PRICES, label)
    assert found.dtype == pl.Float64
    assert found.to_list() == [0.5, -1.0, None]


@pytest.mark.parametrize(
    "expression",
    [ps.col("odd"), ps.lead("odd", "1h"), ps.col("odd").coalesce(False)],
)
def test_a_column_of_booleans_is_told_apart_and_not_measured(expression: Expression) -> None:
    source = ps.Source(
        "orders",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={"symbol": ps.String, "ts": ps.Timestamp, "odd": ps.Boolean},
    )
    label = ps.Label("is_odd", expression)
    view = ps.FeatureView("v", source=source, features=[ps.count(over="1d")])
    dataset = ps.Dataset(
        "d", spine=source, features=[view], label=label, split=ps.TimeSplit(embargo="1h")
    )
    assert dataset.task == "classification"
    records = frame_of([("a", 0, 1.0), ("a", 1, 2.0)]).with_columns(odd=pl.Series([True, False]))
    assert label_values(records, source, label).dtype == pl.Boolean


def test_two_leads_stand_side_by_side() -> None:
    label = ps.Label("twice", ps.lead("close", "1h") + ps.lead("close", "2h"))
    found = label_values(frame_of([("a", 0, 1.0), ("a", 1, 2.0), ("a", 2, 4.0)]), PRICES, label)
    assert found.to_list() == [6.0, None, None]


@pytest.mark.parametrize("source", [PRICES])
def test_a_label_says_which_columns_it_needs(source: Source) -> None:
    label = ps.Label("up", ps.lead("close", "1h") > 1.0)
    assert label_columns(label) == ("close",)
    assert source.schema.keys() >= set(label_columns(label))
