from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.ingest.parsed import Parsed
from penstock.ingest.sifting import sift
from penstock.runtime import open_services

if TYPE_CHECKING:
    from penstock.spec import Source

Row: TypeAlias = tuple[str, int, float | None]
ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.sampled_from([None, 1.0, 2.0])),
    max_size=8,
)
START = datetime(2026, 1, 1, tzinfo=UTC)


def declared(identity: list[str]) -> Source:
    return ps.Source(
        "s",
        entity=ps.Entity("key"),
        timestamp="ts",
        schema={"key": ps.String, "ts": ps.Timestamp, "x": ps.Float64},
        nullable=["x"],
        expect=[ps.unique(*identity)] if identity else [],
    )


@dataclass
class Oracle:
    """One record after the other, against everything before it."""

    identity: list[str]
    stored: list[Row] = field(default_factory=list)
    duplicates: int = 0
    conflicts: int = 0

    def take(self, row: Row) -> None:
        places = [["key", "ts", "x"].index(name) for name in self.identity] or [0, 1, 2]
        same = [old for old in self.stored if all(old[p] == row[p] for p in places)]
        if not same:
            self.stored.append(row)
        elif row in same:
            self.duplicates += 1
        else:
            self.conflicts += 1


def parsed(rows: list[Row]) -> Parsed:
    frame = pl.DataFrame(
        {
            "key": [key for key, _, _ in rows],
            "ts": [START + timedelta(hours=hour) for _, hour, _ in rows],
            "x": [x for _, _, x in rows],
            "_row": list(range(len(rows))),
            "_arrived_at": [START] * len(rows),
        },
        schema={
            "key": pl.String,
            "ts": pl.Datetime("us", "UTC"),
            "x": pl.Float64,
            "_row": pl.Int64,
            "_arrived_at": pl.Datetime("us", "UTC"),
        },
    )
    return Parsed(frame, {}, lambda places: ["?" for _ in places])


@settings(max_examples=25, deadline=None)
@given(st.lists(ROWS, max_size=3), st.sampled_from([["key", "ts"], ["key"], []]))
def test_batches_agree_with_one_record_after_the_other(
    batches: list[list[Row]], identity: list[str]
) -> None:
    source, oracle = declared(identity), Oracle(identity)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / ".penstock").mkdir()
        with open_services(Path(folder)) as services:
            for number, rows in enumerate(batches, 1):
                before = (len(oracle.stored), oracle.duplicates, oracle.conflicts)
                for row in rows:
                    oracle.take(row)
                result = sift(services.tables, source, parsed(rows), number=number)
                after = (len(oracle.stored), oracle.duplicates, oracle.conflicts)
                counts = (result.stored.height, result.duplicates, result.quarantined.height)
                assert counts == tuple(b - a for a, b in zip(before, after, strict=True))
                assert result.read == sum(counts)
                table = result.stored.with_columns(pl.lit(number, dtype=pl.Int64).alias("_batch"))
                services.tables.append("raw/s", table, app="raw/s", number=number)
                repeated = sift(services.tables, source, parsed(rows), number=number)
                assert repeated.stored.equals(result.stored)
                assert repeated.duplicates == result.duplicates
