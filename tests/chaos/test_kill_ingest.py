"""kill -9 of an ingesting process at random moments, again and again, until it gets through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.ingest import accept_events
from penstock.records import Batch
from penstock.runtime import open_services
from penstock.testing.zygotes import kill_until_through

if TYPE_CHECKING:
    from penstock.runtime import LocalServices
    from penstock.spec import Source

ZYGOTE = Path(__file__).with_name("ingest_zygote.py")
HOURS = 40
BATCHES = 8
KILLS = 8
LONGEST_LIFE_S = 0.25


def source() -> Source:
    return ps.Source(
        "candles",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
        expect=[ps.positive("close"), ps.unique("symbol", "ts")],
        batch=ps.Files("data/*.csv"),
    )


def records(batch: int) -> list[tuple[str, str, float]]:
    """Forty candles: every tenth is bad, and one is the batch's first again."""
    rows = [
        ("BTC", f"20{batch + 10}-01-{1 + hour // 24:02}T{hour % 24:02}:00:00Z", float(hour % 10))
        for hour in range(HOURS - 1)
    ]
    return [*rows, rows[1]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".penstock").mkdir()
    (tmp_path / "data").mkdir()
    return tmp_path


def check(services: LocalServices) -> None:
    """Every record is where it belongs, once, and the books say so."""
    raw = services.tables.scan("raw/candles").collect()
    bad = services.tables.scan("quarantine/candles").collect()
    wanted = {row for batch in range(BATCHES) for row in records(batch) if row[2] > 0}
    stamps = raw["ts"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    found = list(zip(raw["symbol"], stamps, raw["close"], strict=True))
    assert len(found) == len(wanted)
    assert set(found) == wanted
    assert bad.height == BATCHES * 4
    assert bad.select("_batch", "_row").is_duplicated().sum() == 0
    batches = services.metadata.find(Batch)
    assert [batch.number for batch in batches] == list(range(1, len(batches) + 1))
    assert {batch.state for batch in batches} == {"stored"}
    assert sum(batch.read for batch in batches) == BATCHES * HOURS
    assert sum(batch.stored for batch in batches) == raw.height
    assert sum(batch.quarantined for batch in batches) == bad.height
    assert sum(batch.duplicates for batch in batches) == BATCHES
    events = services.log.read("events", after=0, limit=1000)
    ids = [json.loads(entry.payload)["event_id"] for entry in events]
    assert sorted(ids) == sorted(f"raw.ingested:{batch.batch_id}" for batch in batches)
    assert services.metadata.verify_audit() == len(batches)


@pytest.mark.slow
def test_files_are_in_once_however_often_the_process_is_killed(home: Path) -> None:
    for batch in range(BATCHES):
        lines = [f"{symbol},{ts},{close}" for symbol, ts, close in records(batch)]
        body = "symbol,ts,close\n" + "\n".join(lines)
        (home / f"data/{batch:02}.csv").write_text(body)
    killed = kill_until_through(
        [str(ZYGOTE), "files", str(home)], kills=KILLS, longest_s=LONGEST_LIFE_S
    )
    with open_services(home) as services:
        check(services)
    assert killed > 0


@pytest.mark.slow
def test_messages_are_in_once_however_often_the_stream_is_killed(home: Path) -> None:
    with open_services(home) as services:
        for batch in range(BATCHES):
            body = "\n".join(
                json.dumps({"symbol": symbol, "ts": ts, "close": close})
                for symbol, ts, close in records(batch)
            )
            accept_events(services, source(), body.encode(), "application/x-ndjson")
    killed = kill_until_through(
        [str(ZYGOTE), "log", str(home)], kills=KILLS, longest_s=LONGEST_LIFE_S
    )
    with open_services(home) as services:
        check(services)
        assert services.log.committed("candles", "raw") == BATCHES * HOURS
    assert killed > 0
