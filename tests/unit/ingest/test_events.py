from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from penstock.errors import InputError
from penstock.ingest import accept_events, ingest_log
from penstock.records import Batch, Identity

if TYPE_CHECKING:
    from penstock.runtime import LocalServices
    from penstock.spec import Source

JSON, LINES = "application/json", "application/x-ndjson; charset=utf-8"


def candle(hour: int, **other: object) -> dict[str, object]:
    row = {"symbol": "BTC", "ts": f"2026-01-01T{hour:02}:00:00Z", "low": 1, "high": 3, "close": 2}
    return row | other


def body(*rows: dict[str, object]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def test_an_object_an_array_and_lines_are_accepted(
    services: LocalServices, candles: Source
) -> None:
    one = accept_events(services, candles, json.dumps(candle(0), indent=1).encode(), JSON)
    two = accept_events(services, candles, json.dumps([candle(1), candle(2)]).encode(), JSON)
    three = accept_events(services, candles, b"\r\n" + body(candle(3), {"x": 1}) + b"\r\n", LINES)
    assert [(a.count, a.last_offset) for a in (one, two, three)] == [(1, 1), (2, 3), (2, 5)]
    payloads = [e.payload for e in services.log.read(candles.topic, after=0, limit=9)]
    assert [json.loads(p) for p in payloads] == [*(candle(hour) for hour in range(4)), {"x": 1}]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"", JSON, "not JSON"),
        (b"[]", JSON, "no records"),
        (b"\n \n", LINES, "no records"),
        (b'{"a": 1', JSON, "not JSON: .*truncated"),
        (b'[{"a": 1}, {"b" 2}]', JSON, r"not JSON: .*byte 16"),
        (b'{"a": 1}\n\n{"a": NaN}\n', LINES, "Line 3 of the body is not JSON"),
        (b'{"a": "\xff"}', JSON, "byte 7"),
        (b"a,b\n1,2\n", "text/csv", "text/csv"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused_whole(
    services: LocalServices, candles: Source, content: bytes, kind: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        accept_events(services, candles, content, kind)
    assert services.log.end(candles.topic) == 0


def test_messages_become_batches_of_at_most_the_limit(
    services: LocalServices, candles: Source
) -> None:
    assert ingest_log(services, candles) is None
    rows = [candle(hour) for hour in range(5)]
    accept_events(services, candles, body(*rows, candle(1), {"symbol": 3}), LINES)
    first = ingest_log(services, candles, limit=4)
    second = ingest_log(services, candles, limit=4)
    assert ingest_log(services, candles) is None
    assert first is not None
    assert second is not None
    assert (first.origin, first.read, first.stored) == ("log:candles:1-4", 4, 4)
    assert second.origin == "log:candles:5-7"
    assert (second.read, second.stored, second.quarantined, second.duplicates) == (3, 1, 1, 1)
    assert second.reasons == {
        "dtype(symbol)": 1,
        "required(ts)": 1,
        "required(low)": 1,
        "required(high)": 1,
        "required(close)": 1,
    }
    assert services.log.committed(candles.topic, "raw") == 7
    assert services.metadata.find(Batch) == [first, second]


def test_a_batch_says_who_sent_its_records(services: LocalServices, candles: Source) -> None:
    now = services.clock.now()
    for name, hours in (("ana", (0, 1)), ("bob", (2,)), ("ana", (3,))):
        identity = Identity(name=name, role="writer", token_sha256="", created_at=now)
        rows = body(*map(candle, hours))
        accept_events(services.acting(identity), candles, rows, LINES)
    services.log.publish(candles.topic, [body(candle(4))])  # as a program of one's own does

    batch = ingest_log(services, candles)

    assert batch is not None
    assert (batch.read, batch.senders) == (5, {"ana": 3, "bob": 1})
    entry = services.metadata.audit()[-1]
    assert (entry.action, entry.difference["senders"]) == ("ingest", {"ana": 3, "bob": 1})


def test_a_record_arrived_when_the_log_took_it(services: LocalServices, candles: Source) -> None:
    accept_events(services, candles, body(candle(0)), LINES)
    accept_events(services, candles, body(candle(1)), LINES)
    ingest_log(services, candles)
    raw = services.tables.scan("raw/candles").collect().sort("_row")
    entries = services.log.read(candles.topic, after=0, limit=9)
    assert raw["_arrived_at"].to_physical().to_list() == [entry.at_us for entry in entries]


def test_a_batch_that_stores_nothing_is_not_announced(
    services: LocalServices, candles: Source
) -> None:
    accept_events(services, candles, body(candle(0), {"x": 1}), LINES)
    ingest_log(services, candles)
    accept_events(services, candles, body(candle(0)), LINES)
    again = ingest_log(services, candles)
    assert again is not None
    assert (again.stored, again.duplicates) == (0, 1)
    assert services.log.end("events") == 1


def test_small_files_are_merged_now_and_then_and_nothing_else_changes(
    services: LocalServices, candles: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.ports.compaction.EVERY", 3)
    rows = [candle(hour) for hour in range(6)]
    accept_events(services, candles, body(*rows), LINES)
    batches = [ingest_log(services, candles, limit=1) for _ in rows]

    raw = services.tables.scan("raw/candles").sort("_batch").collect()
    assert [batch.number for batch in batches if batch] == raw["_batch"].to_list() == [*range(1, 7)]
    assert services.tables.version("raw/candles") == len(rows) + 2  # two mergers
    assert ingest_log(services, candles) is None
