from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest

import penstock as ps
from penstock.errors import InputError
from penstock.ingest import ingest_files
from penstock.records import Batch, Event

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.runtime import LocalServices
    from penstock.spec import Source

HEADER = "symbol,ts,low,high,close,trades\n"
GOOD = "BTC,2026-01-01T00:00:00Z,1,3,2,7\nBTC,2026-01-01T01:00:00Z,1,3,2,\n"


def write(services: LocalServices, name: str, body: str | bytes) -> Path:
    path = services.home / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body.encode() if isinstance(body, str) else body)
    return path


def rows(services: LocalServices, table: str) -> pl.DataFrame:
    return services.tables.scan(table).collect().sort("_batch", "_row")


def test_good_records_are_stored_and_bad_ones_kept_with_their_reasons(
    services: LocalServices, candles: Source
) -> None:
    bad = [
        "BTC,2026-01-01T02:00:00Z,1,3,-2,",  # not positive
        "BTC,2026-01-01T03:00:00Z,4,3,2,",  # low above high
        "BTC,2026-01-01T04:00:00Z,1,inf,nan,",  # not finite, twice
        ",2026-01-01T05:00:00Z,1,3,x,1.5",  # no symbol, two cells of another type
        "BTC,2026-01-01 06:00:00,1,3,2,",  # no zone
        "BTC,2026-01-01T00:00:00Z,1,3,2.5,7",  # same identity, another value
        "BTC,2026-01-01T00:00:00Z,1,3,2,7",  # the same again
        "",  # no record at all
    ]
    write(services, "data/a.csv", HEADER + GOOD + "\n".join(bad) + "\n")
    (batch,) = ingest_files(services, candles)
    counts = (batch.read, batch.stored, batch.quarantined, batch.duplicates)
    assert counts == (9, 2, 6, 1)
    assert batch.reasons == {
        "positive(close)": 1,
        "between(low, 0, high)": 1,
        "finite(close)": 1,
        "finite(high)": 1,
        "required(symbol)": 1,
        "dtype(close)": 1,
        "dtype(trades)": 1,
        "timestamp_zone(ts)": 1,
        "unique(symbol, ts)": 1,
    }
    raw = rows(services, "raw/candles")
    assert raw.columns == [*candles.schema, "_batch", "_row", "_batch_id", "_arrived_at"]
    assert raw["trades"].to_list() == [7, None]
    assert raw["_row"].to_list() == [0, 1]
    assert set(raw["_batch_id"]) == {batch.batch_id}
    assert raw.schema["_arrived_at"] == pl.Datetime("us", "UTC")
    quarantine = rows(services, "quarantine/candles")
    assert quarantine["_reasons"].to_list()[3] == [
        "dtype(close)",
        "dtype(trades)",
        "required(symbol)",
    ]
    assert json.loads(quarantine["_record"][0])["close"] == "-2"
    assert quarantine["_row"].to_list() == [2, 3, 4, 5, 6, 7]


def test_a_batch_knows_its_origin_times_and_is_announced_and_audited(
    services: LocalServices, candles: Source
) -> None:
    write(services, "data/a.csv", HEADER + GOOD)
    (batch,) = ingest_files(services, candles)
    assert services.metadata.find(Batch) == [batch]
    assert batch.state == "stored"
    assert batch.origin == "file:data/a.csv"
    assert batch.batch_id == f"candles-1-{batch.sha256[:8]}"
    first = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert (batch.min_at_us, batch.max_at_us) == (first + 3600 * 10**6, first + 7200 * 10**6)
    events = [
        msgspec.json.decode(entry.payload, type=Event)
        for entry in services.log.read("events", after=0, limit=10)
    ]
    assert [(e.event_id, e.subject) for e in events] == [
        (f"raw.ingested:{batch.batch_id}", "candles")
    ]
    (entry,) = services.metadata.audit()
    assert (entry.actor, entry.action, entry.subject) == ("tester", "ingest", "candles")
    assert entry.difference["stored"] == 2


def recorded(services: LocalServices) -> tuple[object, ...]:
    """What an ingestion leaves behind."""
    metadata = services.metadata
    return metadata.find(Batch), metadata.audit(), services.tables.version("raw/candles")


def test_the_same_file_again_changes_nothing(services: LocalServices, candles: Source) -> None:
    path = write(services, "data/a.csv", HEADER + GOOD + "BTC,x,1,3,2,\n")
    (first,) = ingest_files(services, candles)
    before = recorded(services)
    other = write(services, "b.csv", path.read_bytes())
    again, copied = ingest_files(services, candles, paths=[path, other])
    assert (again.batch_id, again.read, again.stored) == (first.batch_id, 3, 0)
    assert (again.quarantined, again.duplicates) == (0, 3)
    assert copied.origin == "file:b.csv"
    assert recorded(services) == before
    assert services.log.end("events") == 1


def test_records_that_overlap_with_stored_ones(services: LocalServices, candles: Source) -> None:
    write(services, "data/a.csv", HEADER + GOOD)
    ingest_files(services, candles)
    later = (
        "BTC,2026-01-01T01:00:00Z,1,3,2,\n"  # stored already
        "BTC,2026-01-01T00:00:00Z,1,3,2.5,7\n"  # stored with another close
        "BTC,2026-01-01T00:00:00Z,1,3,2,7\n"  # stored already
        "ETH,2026-01-01T00:00:00Z,1,3,2,7\n"
    )
    (batch,) = ingest_files(services, candles, paths=[write(services, "b.csv", HEADER + later)])
    assert (batch.number, batch.stored, batch.quarantined, batch.duplicates) == (2, 1, 1, 2)
    assert batch.reasons == {"unique(symbol, ts)": 1}
    assert rows(services, "raw/candles")["symbol"].to_list() == ["BTC", "BTC", "ETH"]


def test_the_same_bytes_are_judged_again_under_changed_rules(
    services: LocalServices, candles: Source
) -> None:
    write(services, "data/a.csv", HEADER + GOOD + "BTC,2026-01-01T02:00:00Z,1,3,-2,\n")
    (strict,) = ingest_files(services, candles)
    lenient = msgspec.structs.replace(candles, expect=candles.expect[1:])
    (again,) = ingest_files(services, lenient)
    assert (strict.stored, strict.quarantined) == (2, 1)
    assert (again.number, again.stored, again.quarantined, again.duplicates) == (2, 1, 0, 2)


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet", "jsonl", "ndjson.gz"])
def test_every_format_gives_the_same_rows(services: LocalServices, ending: str) -> None:
    source = ps.Source(
        "ticks",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={"symbol": ps.String, "ts": ps.Timestamp, "up": ps.Boolean, "n": ps.Int64},
        nullable=["n"],
        batch=ps.Files("in/*", columns={"ts": "Date"}, name_as="symbol"),
    )
    times = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in range(3)]
    frame = pl.DataFrame({"Date": times, "up": [True, False, True], "n": [1, None, 3], "x": "?"})
    texts = frame.with_columns(pl.col("Date").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    bodies = {
        "csv": texts.write_csv().encode(),
        "jsonl": "".join(json.dumps(row) + "\n" for row in texts.to_dicts()).encode(),
    }
    bodies["csv.gz"] = gzip.compress(b"\xef\xbb\xbf" + bodies["csv"])
    bodies["ndjson.gz"] = gzip.compress(bodies["jsonl"])
    path = write(services, f"in/BTCUSDT.{ending}", bodies.get(ending, b""))
    if ending == "parquet":
        frame.write_parquet(path)
    (batch,) = ingest_files(services, source)
    assert (batch.read, batch.stored) == (3, 3)
    raw = rows(services, "raw/ticks")
    assert raw.select("symbol", "ts", "up", "n").rows() == [
        ("BTCUSDT", times[0], True, 1),
        ("BTCUSDT", times[1], False, None),
        ("BTCUSDT", times[2], True, 3),
    ]


def test_irregular_lines_cost_only_themselves(services: LocalServices, candles: Source) -> None:
    body = HEADER.encode() + GOOD.encode() + (
        b"BTC,2026-01-01T02:00:00Z,1,3,2,7,8,9\n"
        b"B\xffC,2026-01-01T03:00:00Z,1,3,2,7\n"
        b"\n"
        b'BTC,2026-01-01T04:00:00Z,1,3,2,"7\n'
        b'"ETH",2026-01-01T05:00:00Z,1,3,2,7\n'
    )  # fmt: skip
    write(services, "data/a.csv", body)
    (batch,) = ingest_files(services, candles)
    assert (batch.read, batch.stored, batch.quarantined) == (6, 3, 3)
    assert batch.reasons == {"fields": 1, "encoding": 1, "quotes": 1}
    records = rows(services, "quarantine/candles")["_record"].to_list()
    assert json.loads(records[0])["_more"] == ["8", "9"]
    assert "xff" in records[1]


def test_bad_json_lines_cost_only_themselves(services: LocalServices, candles: Source) -> None:
    good = {"symbol": "BTC", "ts": "2026-01-01T00:00:00Z", "low": 1, "high": 3, "close": 2}
    lines = [
        json.dumps(good),
        "{broken",
        "[1, 2]",
        json.dumps(good | {"ts": "2026-01-01T01:00:00Z", "close": "2"}),
        json.dumps(good | {"ts": "2026-01-01T02:00:00Z", "close": True, "trades": 1.5}),
        json.dumps(good | {"ts": 1767225600, "trades": True}),
        json.dumps(good | {"ts": "2026-01-01T03:00:00Z", "high": 10**400, "trades": 2**63}),
    ]
    path = write(services, "a.jsonl", "\n".join(lines))
    (batch,) = ingest_files(services, candles, paths=[path])
    assert (batch.read, batch.stored, batch.quarantined) == (7, 1, 6)
    assert batch.reasons == {
        "json": 1,
        "object": 1,
        "dtype(close)": 2,
        "dtype(trades)": 3,
        "dtype(ts)": 1,
        "finite(high)": 1,
    }
    assert rows(services, "quarantine/candles")["_record"].to_list() == lines[1:]


FAULTS: list[tuple[str, str | bytes, str]] = [
    ("a.csv", b"", "is empty"),
    ("a.csv", HEADER, "has no records"),
    ("a.csv", "\n", "has no records"),
    ("a.csv", "symbol,Ts,low,high,closes,trades\nBTC,2026-01-01T00:00:00Z,1,2,1,1\n", "'closes'?"),
    ("a.csv", HEADER + "BTC,2026-01-01 00:00:00,1,3,2,7\n", "has a zone"),
    (
        "a.csv.gz",
        gzip.compress(HEADER.encode() + GOOD.encode(), mtime=0)[:40],
        "cannot be decompressed",
    ),
    ("a.csv.gz", b"\x1f\x8bnonsense", "cannot be decompressed"),
    ("a.parquet", b"nonsense", "cannot be read as Parquet"),
    ("a.xlsx", b"nonsense", "by its ending"),
    ("a.jsonl", '{"symbol": "BTC"}\n', "lacks 'ts', 'low', 'high', 'close'"),
]


@pytest.mark.parametrize(("name", "body", "message"), FAULTS)
def test_a_file_that_cannot_be_taken_in_leaves_nothing_behind(
    services: LocalServices, candles: Source, name: str, body: str | bytes, message: str
) -> None:
    path = write(services, name, body)
    with pytest.raises(InputError, match=message) as caught:
        ingest_files(services, candles, paths=[path])
    assert name in caught.value.message
    assert services.metadata.find(Batch) == []
    assert services.tables.names() == []


def test_parquet_columns_of_another_type_are_refused(
    services: LocalServices, candles: Source
) -> None:
    frame = pl.DataFrame(
        {
            "symbol": ["BTC"],
            "ts": [datetime(2026, 1, 1, tzinfo=UTC)],
            "low": [1.0],
            "high": [3.0],
            "close": [2.0],
            "trades": [1],
        }
    )
    path = services.home / "a.parquet"
    frame.with_columns(pl.lit(7).alias("symbol")).write_parquet(path)
    with pytest.raises(InputError, match=r"'symbol' of 'a\.parquet' holds Int32"):
        ingest_files(services, candles, paths=[path])
    frame.with_columns(pl.col("ts").dt.replace_time_zone(None)).write_parquet(path)
    with pytest.raises(InputError, match="No time in column 'ts'"):
        ingest_files(services, candles, paths=[path])


def test_a_missing_file_is_named_with_its_nearest(services: LocalServices, candles: Source) -> None:
    write(services, "data/candles.csv", HEADER + GOOD)
    with pytest.raises(InputError, match=r"Did you mean 'candles\.csv'"):
        ingest_files(services, candles, paths=["data/candels.csv"])
    with pytest.raises(InputError, match=r"No file matches 'none/\*\.csv'"):
        ingest_files(services, msgspec.structs.replace(candles, batch=ps.Files("none/*.csv")))
    with pytest.raises(InputError, match="'data' cannot be read: Is a directory"):
        ingest_files(services, candles, paths=["data"])
    with pytest.raises(InputError, match="declares no files"):
        ingest_files(services, msgspec.structs.replace(candles, batch=None))


def test_other_files_go_on_and_the_error_says_what_was_done(
    services: LocalServices, candles: Source
) -> None:
    write(services, "data/a.csv", "")
    write(services, "data/b.csv", HEADER + GOOD)
    seen: list[tuple[str, float]] = []
    with pytest.raises(InputError, match="1 of 2 files could not be taken in") as caught:
        ingest_files(services, candles, progress=lambda what, share: seen.append((what, share)))
    (batch,) = services.metadata.find(Batch)
    assert caught.value.facts["batches"] == [batch.batch_id]
    assert seen == [("ingest a.csv", 0.0), ("ingest b.csv", 0.5), ("ingested", 1.0)]


def test_a_source_with_other_columns_than_its_raw_data_is_refused(
    services: LocalServices, candles: Source
) -> None:
    write(services, "data/a.csv", HEADER + GOOD)
    ingest_files(services, candles)
    schema = {**candles.schema, "close": ps.Int64}
    changed = msgspec.structs.replace(candles, schema=schema)
    with pytest.raises(InputError, match="they never change"):
        ingest_files(services, changed)
    assert len(services.metadata.find(Batch)) == 1


def test_nan_in_a_nullable_column_means_no_value(services: LocalServices, candles: Source) -> None:
    source = msgspec.structs.replace(candles, nullable=("close", "trades"))
    write(services, "data/a.csv", HEADER + "BTC,2026-01-01T00:00:00Z,1,3,NaN,7\n")
    (batch,) = ingest_files(services, source)
    assert batch.stored == 1
    assert rows(services, "raw/candles")["close"].to_list() == [None]


@pytest.mark.parametrize("odd", ["", "1e0", " 1", '""', "1.0"])
def test_numbers_read_at_once_are_those_read_one_by_one(
    services: LocalServices, candles: Source, odd: str
) -> None:
    """A cell that makes the whole column be read as text changes nothing for the others."""
    body = (
        f"{HEADER}BTC,2026-01-01T00:00:00Z,0.1,3e2,-2.50,\nBTC,2026-01-01T01:00:00Z,1,3,2,{odd}\n"
    )
    write(services, "data/a.csv", body)
    (batch,) = ingest_files(services, candles)
    assert (batch.stored, batch.quarantined) == (1, 1)
    assert rows(services, "raw/candles")["trades"].to_list() == [None if odd in {"", '""'} else 1]
    record = json.loads(rows(services, "quarantine/candles")["_record"][0])
    assert record == {
        "symbol": "BTC",
        "ts": "2026-01-01T00:00:00Z",
        "low": "0.1",
        "high": "3e2",
        "close": "-2.50",
        "trades": None,
    }
