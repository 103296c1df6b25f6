"""What a record captures of a view is what the batch engine says of it, as of what it saw."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

import penstock as ps
from penstock.features import point_in_time
from penstock.ingest import Lookups, accept_events, delete_records, ingest_log, raw_records
from penstock.records import Batch, Deletion
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.runtime import LocalServices
    from penstock.spec import Source

START = datetime(2026, 1, 1, tzinfo=UTC)

SALES = ps.Source(
    "sales",
    entity=ps.Entity("merchant"),
    timestamp="ts",
    schema={"merchant": ps.String, "ts": ps.Timestamp, "amount": ps.Float64, "till": ps.String,
            },
    nullable=["amount"],
    known_after="10m",
)  # fmt: skip
FEATURES = [
    ps.mean("net", over="7d"),
    ps.std("amount", over="2d"),
    ps.count(over="12h", where=ps.col("amount") > 40, name="large"),
    ps.approx_distinct("till", over="3d"),
    ps.approx_quantile("amount", 0.9, over="7d"),
    ps.decayed_mean("net", half_life="1d"),
    ps.top_k("net", 3),
    ps.min("amount", over="1d", hop="0s"),
]
DERIVE = {"net": ps.col("amount") * 0.81}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[LocalServices]:
    (tmp_path / ".penstock").mkdir()
    with open_services(tmp_path, actor="tester") as opened:
        yield opened


def send(
    services: LocalServices, source: Source, rows: list[dict[str, object]], lookups: Lookups
) -> None:
    accept_events(services, source, json.dumps(rows).encode(), "application/json")
    ingest_log(services, source, lookups=lookups)


def history(services: LocalServices, source: Source, rng: np.random.Generator, rounds: int) -> None:
    lookups = Lookups(services.tables)

    def sale() -> dict[str, object]:
        ts = START + timedelta(minutes=int(rng.integers(0, 60 * 24 * 10)))
        amount = None if rng.random() < 0.1 else float(rng.normal(50, 30))
        return {"merchant": f"m{rng.integers(0, 6)}", "ts": ts.isoformat(), "amount": amount,
                "till": f"t{rng.integers(0, 9)}"}  # fmt: skip

    def payment() -> dict[str, object]:
        ts = START + timedelta(minutes=int(rng.integers(0, 60 * 24 * 11)))
        key = None if rng.random() < 0.1 else f"m{rng.integers(0, 8)}"
        return {"user": f"u{rng.integers(0, 5)}", "ts": ts.isoformat(), "merchant": key}

    for number in range(rounds):
        send(services, SALES, [sale() for _ in range(int(rng.integers(1, 60)))], lookups)
        if number % 4 == 3:
            gone = Deletion(delete_id=f"d{number}", keys=(f"m{number % 6}",))
            delete_records(services, SALES, gone)
        send(services, source, [payment() for _ in range(int(rng.integers(1, 25)))], lookups)


@pytest.mark.parametrize("bounded", [True, False])
def test_what_is_captured_is_the_batch_engine_s_as_of_its_batch(
    services: LocalServices, *, bounded: bool
) -> None:
    windowed = [one for one in FEATURES if one.over]
    view = ps.FeatureView(
        "takings",
        source=SALES,
        derive=DERIVE,
        features=windowed if bounded else FEATURES,
        ttl="5d" if bounded else "",
    )
    named = {name.partition(".")[2]: name for name in view.names}
    source = ps.Source(
        "payments",
        entity=ps.Entity("user"),
        timestamp="ts",
        schema={"user": ps.String, "ts": ps.Timestamp, "merchant": ps.String},
        nullable=["merchant"],
        known_after="1h",
        lookups=[ps.Lookup(view, on="merchant", columns={f"their_{one}": one for one in named})],
    )
    history(services, source, np.random.default_rng(3), 14)

    rows = raw_records(services.tables, source).sort("_batch", "_row").collect()
    batches = services.metadata.find(Batch, where={"source": "payments"})
    reached = {one.number: one.lookups[0].last_batch for one in batches}
    assert len(reached) == 14
    for (number,), own in rows.group_by("_batch"):
        at = own["ts"].dt.cast_time_unit("us") + timedelta(hours=1)
        spine = pl.DataFrame({"merchant": own["merchant"], "at": at})
        last = {"takings": reached[int(str(number))]}
        said = point_in_time(services.tables, [view], spine, batches=last)
        for name, full in named.items():
            for mine, theirs in zip(own[f"their_{name}"], said[full], strict=True):
                assert mine == (None if theirs is None else pytest.approx(theirs, rel=1e-9))
