from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

import penstock as ps
from penstock.errors import DeclarationError
from penstock.ingest.contract import judge
from penstock.ingest.parsed import Parsed

if TYPE_CHECKING:
    from penstock.spec import Expectation, Source

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def source(*rules: Expectation) -> Source:
    return ps.Source(
        "odd",
        entity=ps.Entity("filter"),  # a name that a dataframely schema has itself
        timestamp="ts",
        schema={"filter": ps.String, "ts": ps.Timestamp, "x": ps.Float64, "y": ps.Int64},
        nullable=["x", "y"],
        expect=rules,
    )


def broken(rule: Expectation, x: list[float | None], y: int | None = 5) -> list[int]:
    frame = pl.DataFrame(
        {
            "filter": [f"k{n}" for n in range(len(x))],
            "ts": [NOW] * len(x),
            "x": x,
            "y": [y] * len(x),
            "_row": range(len(x)),
            "_arrived_at": [NOW] * len(x),
        },
        schema_overrides={"ts": pl.Datetime("us", "UTC"), "x": pl.Float64, "y": pl.Int64},
    )
    verdict = judge(source(rule), Parsed(frame, {}, lambda _: []))
    places = verdict.faults.get(rule.name, pl.Series([False])).arg_true().to_list()
    assert verdict.good.height == len(x) - len(places)
    return places


def test_positive() -> None:
    assert broken(ps.positive("x"), [1.0, 0.0, -1.0, None]) == [1, 2]


def test_between_numbers_and_columns() -> None:
    assert broken(ps.between("x", 1, 3), [0.9, 1.0, 3.0, 3.1, None]) == [0, 3]
    assert broken(ps.between("x", None, 3), [-9.0, 3.1]) == [1]
    assert broken(ps.between("x", 0, "y"), [5.0, 5.1]) == [1]
    assert broken(ps.between("x", 0, "y"), [5.0, 5.1], y=None) == []


def test_texts() -> None:
    assert broken(ps.one_of("filter", "k0", "k2"), [1.0, 1.0, 1.0]) == [1]
    assert broken(ps.matches("filter", "^k[01]$"), [1.0, 1.0, 1.0]) == [2]


def test_a_rule_over_a_column_of_another_type_is_no_rule() -> None:
    with pytest.raises(DeclarationError, match="'filter' is string") as caught:
        source(ps.positive("filter"), ps.one_of("x", "a"))
    assert len(caught.value.faults) == 2
