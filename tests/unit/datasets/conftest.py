"""A project folder, a source of hourly prices, and records put straight into its raw table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

import penstock as ps
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.runtime import LocalServices
    from penstock.spec import Dataset, Source

Row = tuple[str, int, float | None]
Ingest = Callable[[Sequence[Row]], None]
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[LocalServices]:
    home = tmp_path / "home"
    (home / ".penstock").mkdir(parents=True)
    with open_services(home, actor="tester") as opened:
        yield opened


@pytest.fixture
def prices() -> Source:
    return ps.Source(
        "prices",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
        nullable=["close"],
        known_after="1h",
    )


@pytest.fixture
def direction(prices: Source) -> Dataset:
    view = ps.FeatureView(
        "recent", source=prices, features=[ps.last("close"), ps.count(over="3h", hop="1h")]
    )
    return ps.Dataset(
        "direction",
        spine=prices,
        features=[view],
        label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")),
        split=ps.TimeSplit(train=0.5, validation=0.25, test=0.25, embargo="1h"),
    )


@pytest.fixture
def ingest(services: LocalServices, prices: Source) -> Ingest:
    """Append rows of (symbol, hour, close) as one batch."""

    def append(rows: Sequence[Row]) -> None:
        name = f"raw/{prices.name}"
        number = services.tables.applied(name, name) + 1
        symbols, hours, closes = zip(*rows, strict=True)
        frame = pl.DataFrame(
            {
                "symbol": symbols,
                "ts": [START + timedelta(hours=hour) for hour in hours],
                "close": pl.Series(closes, dtype=pl.Float64),
                "_batch": pl.Series([number] * len(rows), dtype=pl.Int64),
                "_row": pl.Series(range(len(rows)), dtype=pl.Int64),
                "_batch_id": f"prices-{number}",
                "_arrived_at": START,
            },
            schema_overrides={
                "ts": pl.Datetime("us", "UTC"),
                "_arrived_at": pl.Datetime("us", "UTC"),
            },
        )
        services.tables.append(name, frame, app=name, number=number)

    return append
