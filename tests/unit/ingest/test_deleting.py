"""Deletions of records: what they take away, what they refuse, and what comes after them."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    NotReadyError,
    StateError,
)
from penstock.ingest import (
    accept_events,
    delete_records,
    deletion_hits,
    ingest_files,
    ingest_log,
    remaining_records,
)
from penstock.records import Batch, Deletion, Identity

if TYPE_CHECKING:
    from penstock.runtime import LocalServices
    from penstock.spec import Source

HEADER = "symbol,ts,low,high,close,trades\n"
LINES = [
    f"{symbol},2026-01-01T0{hour}:00:00Z,1,3,2,7" for symbol in ("BTC", "ETH") for hour in range(3)
]
ANOTHER = Identity(
    name="another", role="admin", token_sha256="", created_at=datetime(2026, 1, 1, tzinfo=UTC)
)
ONE_US = round(datetime(2026, 1, 1, 1, tzinfo=UTC).timestamp() * 1e6)


def read(services: LocalServices, candles: Source, lines: list[str], name: str = "a.csv") -> Batch:
    path = services.home / name
    path.write_text(HEADER + "\n".join(lines))
    (batch,) = ingest_files(services, candles, paths=[path])
    return batch


def left(services: LocalServices, candles: Source) -> list[tuple[str, int]]:
    frame = remaining_records(services.tables, candles, columns=["symbol", "ts"]).collect()
    return sorted((symbol, at.hour) for symbol, at in frame.iter_rows())


def test_a_deletion_is_a_batch_that_says_who_when_what_and_why(
    services: LocalServices, candles: Source
) -> None:
    read(services, candles, LINES)
    deletion = Deletion(delete_id="gdpr-17", keys=("BTC",), reason="asked to")
    hits = deletion_hits(services.tables, candles, deletion)
    assert hits.select("symbol", "records").rows() == [("BTC", 3)]
    assert [hits[name].item().hour for name in ("first", "last")] == [0, 2]
    batch = delete_records(services, candles, deletion)
    assert (batch.number, batch.state, batch.origin) == (2, "stored", "delete:gdpr-17")
    assert (batch.read, batch.stored, batch.deleted) == (0, 0, 3)
    assert batch.deletion == msgspec.structs.replace(deletion, actor="tester")
    assert left(services, candles) == [("ETH", hour) for hour in range(3)]
    assert services.tables.scan("raw/candles").collect().height == 6  # raw data is immutable
    (stone,) = services.tables.scan("tombstones/candles").collect().iter_rows(named=True)
    assert stone == {
        "symbol": "BTC", "ts": None, "_batch": 2, "_batch_id": batch.batch_id,
        "_arrived_at": batch.arrived_at, "_delete_id": "gdpr-17", "_actor": "tester",
        "_reason": "asked to",
    }  # fmt: skip
    entry = services.metadata.audit()[-1]
    assert (entry.actor, entry.action, entry.subject) == ("tester", "delete", "candles")
    assert entry.difference == {
        "batch_id": batch.batch_id, "origin": "delete:gdpr-17", "keys": ["BTC"], "at_us": None,
        "reason": "asked to", "deleted": 3,
    }  # fmt: skip
    events = [json.loads(one.payload) for one in services.log.read("events", after=0, limit=9)]
    assert [event["kind"] for event in events] == ["raw.ingested", "raw.deleted"]


def test_records_of_one_time_and_of_several_entities(
    services: LocalServices, candles: Source
) -> None:
    read(services, candles, LINES)
    one = Deletion(delete_id="one", keys=("BTC",), at_us=ONE_US)
    assert delete_records(services, candles, one).deleted == 1
    assert left(services, candles) == [("BTC", 0), ("BTC", 2), *[("ETH", h) for h in range(3)]]
    both = Deletion(delete_id="both", keys=("BTC", "ETH", "BTC", "none"), at_us=ONE_US)
    assert delete_records(services, candles, both).deleted == 1
    rest = Deletion(delete_id="rest", keys=("ETH", "BTC"))
    assert delete_records(services, candles, rest).deleted == 4
    assert left(services, candles) == []


def test_it_is_done_once_under_its_id(services: LocalServices, candles: Source) -> None:
    read(services, candles, LINES)
    deletion = Deletion(delete_id="x", keys=("BTC",))
    first = delete_records(services, candles, deletion)
    read(services, candles, LINES[:1], "b.csv")
    again = delete_records(services.acting(ANOTHER), candles, deletion)
    assert again == first
    assert left(services, candles)[0] == ("BTC", 0)  # sent again after the deletion
    assert services.tables.applied("raw/candles", "raw/candles") == 3
    for other in (Deletion(delete_id="x", keys=("ETH",)),
                  Deletion(delete_id="x", keys=("BTC",), at_us=ONE_US)):  # fmt: skip
        with pytest.raises(ConflictError, match="Give this one another id"):
            delete_records(services, candles, other)


def test_what_is_sent_again_counts_even_with_other_values(
    services: LocalServices, candles: Source
) -> None:
    read(services, candles, LINES)
    changed = LINES[1].replace(",1,3,2,", ",1,3,2.5,")
    assert read(services, candles, [changed], "b.csv").quarantined == 1
    delete_records(services, candles, Deletion(delete_id="x", keys=("BTC",), at_us=ONE_US))
    corrected = read(services, candles, [changed, LINES[1], LINES[0]], "c.csv")
    assert (corrected.stored, corrected.quarantined, corrected.duplicates) == (1, 1, 1)
    frame = remaining_records(services.tables, candles, columns=["close", "symbol"]).collect()
    assert sorted(frame.filter(symbol="BTC")["close"]) == [2.0, 2.0, 2.5]
    assert read(services, candles, [changed], "d.csv").duplicates == 1


def test_the_same_file_does_not_bring_back_what_was_deleted(
    services: LocalServices, candles: Source
) -> None:
    read(services, candles, LINES)
    delete_records(services, candles, Deletion(delete_id="x", keys=("BTC",)))
    assert read(services, candles, LINES).duplicates == 6
    assert left(services, candles)[0] == ("ETH", 0)


def test_messages_that_wait_are_taken_in_before(services: LocalServices, candles: Source) -> None:
    read(services, candles, LINES[3:])
    record = {"symbol": "BTC", "ts": "2026-01-01T00:00:00Z", "low": 1, "high": 3, "close": 2}
    accept_events(services, candles, json.dumps(record).encode(), "application/json")
    batch = delete_records(services, candles, Deletion(delete_id="x", keys=("BTC",)))
    assert (batch.number, batch.deleted) == (3, 1)
    accept_events(services, candles, json.dumps(record).encode(), "application/json")
    ingest_log(services, candles)
    assert left(services, candles)[0] == ("BTC", 0)


def test_nothing_to_delete(services: LocalServices, candles: Source) -> None:
    deletion = Deletion(delete_id="x", keys=("BTC",))
    with pytest.raises(NotReadyError, match="'candles' has no records yet"):
        delete_records(services, candles, deletion)
    read(services, candles, LINES)
    for keys, at_us in ((("DOGE",), None), (("BTC",), 1)):
        wrong = Deletion(delete_id="x", keys=keys, at_us=at_us)
        with pytest.raises(NotFoundError, match="Nothing was deleted"):
            delete_records(services, candles, wrong)
    delete_records(services, candles, deletion)
    with pytest.raises(NotFoundError, match="none that has not been deleted already"):
        delete_records(services, candles, msgspec.structs.replace(deletion, delete_id="y"))
    assert len(services.metadata.find(Batch)) == 2


@pytest.mark.parametrize(
    ("deletion", "told"),
    [
        (Deletion(delete_id="x", keys=()), "names no 'symbol'"),
        (Deletion(delete_id="x", keys=(7,)), "7 is no key of 'symbol'. Expected string"),
        (Deletion(delete_id="", keys=("BTC",)), "no id of a deletion"),
        (Deletion(delete_id="a\nb", keys=("BTC",)), "no id of a deletion"),
        (Deletion(delete_id="x" * 201, keys=("BTC",)), "1 to 200 printable"),
    ],
)
def test_deletions_that_do_not_fit(
    services: LocalServices, candles: Source, deletion: Deletion, told: str
) -> None:
    read(services, candles, LINES)
    with pytest.raises(InputError, match=told):
        delete_records(services, candles, deletion)


@pytest.mark.parametrize("key", ["1", True, 2**63])
def test_keys_that_are_numbers(services: LocalServices, key: int) -> None:
    users = ps.Source(
        "users",
        entity=ps.Entity("user", dtype=ps.Int64),
        timestamp="ts",
        schema={"user": ps.Int64, "ts": ps.Timestamp},
    )
    accept_events(services, users, b'{"user": 1, "ts": "2026-01-01T00:00:00Z"}', "application/json")
    ingest_log(services, users)
    with pytest.raises(InputError, match="no key of 'user'"):
        delete_records(services, users, Deletion(delete_id="x", keys=(key,)))
    assert delete_records(services, users, Deletion(delete_id="x", keys=(1,))).deleted == 1
    assert remaining_records(services.tables, users).collect().is_empty()


def test_a_raw_table_that_lost_a_deletion_is_refused(
    services: LocalServices, candles: Source
) -> None:
    read(services, candles, LINES)
    older = services.home / "older"
    folder = services.home / ".penstock" / "tables" / "raw" / "candles"
    if not folder.is_dir():
        (folder,) = services.home.glob(".penstock/**/raw/candles")
    shutil.copytree(folder, older)
    delete_records(services, candles, Deletion(delete_id="x", keys=("BTC",)))
    services.tables.close()
    shutil.rmtree(folder)
    shutil.move(older, folder)
    with pytest.raises(StateError, match="lacks batch"):
        read(services, candles, LINES[:2], "b.csv")
