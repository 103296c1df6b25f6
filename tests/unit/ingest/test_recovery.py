"""A killed ingestion is finished by the next; killed here before and after each write in turn."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from penstock.ingest import (
    accept_events,
    delete_records,
    ingest_files,
    ingest_log,
    remaining_records,
)
from penstock.records import Batch, Deletion, Identity, Lease, Process
from penstock.runtime import open_services
from penstock.spec import fingerprint
from penstock.testing.killing import KilledError, Killer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.runtime import LocalServices
    from penstock.spec import Source

HEADER = "symbol,ts,low,high,close,trades\n"
LINES = [
    "BTC,2026-01-01T00:00:00Z,1,3,2,7",
    "BTC,2026-01-01T01:00:00Z,1,3,2,7",
    "BTC,2026-01-01T01:00:00Z,1,3,2,7",
    "BTC,2026-01-01T02:00:00Z,1,3,-2,7",
]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SOMEBODY = Identity(name="somebody", role="admin", token_sha256="", created_at=EPOCH)
WRITES = ["metadata.write", "tables.append", "log.publish", "log.commit"]
SIGNS_OF_LIFE = (Lease, Process)
STEPS_OF_FILE = 5  # started, raw, quarantine, stored, event
STEPS_OF_LOG = 6  # and the offset
STEPS_OF_DELETION = 6  # the last batch's event, started, tombstones, raw number, stored, event


def dying(at: int, *, after: bool = False) -> Killer:
    return Killer(at, after, spared=SIGNS_OF_LIFE)


def kill(services: LocalServices, killer: Killer, work: Callable[[], object]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            port, _, method = name.partition(".")
            target = getattr(services, port)
            patch.setattr(target, method, killer.wrap(getattr(target, method)))
        with pytest.raises(KilledError):
            work()


def state(services: LocalServices) -> dict[str, object]:
    """All that an ingestion leaves behind, but for clock times."""
    raw = services.tables.scan("raw/candles").collect().sort("_batch", "_row")
    bad = services.tables.scan("quarantine/candles").collect().sort("_batch", "_row")
    batches = services.metadata.find(Batch)
    return {
        "raw": raw.drop("_arrived_at").rows(),
        "bad": bad.drop("_arrived_at").rows(),
        "batches": [msgspec.structs.replace(b, arrived_at=EPOCH) for b in batches],
        "events": [
            json.loads(entry.payload)["event_id"]
            for entry in services.log.read("events", after=0, limit=99)
        ],
        "offset": services.log.committed("candles", "raw"),
        "audit": [(e.action, dict(e.difference)) for e in services.metadata.audit()],
    }


def fresh(folder: Path) -> LocalServices:
    (folder / ".penstock").mkdir(parents=True)
    return open_services(folder, actor="tester")


def two_files(services: LocalServices) -> None:
    (services.home / "data").mkdir()
    (services.home / "data/a.csv").write_text(HEADER + "\n".join(LINES))
    later = [line.replace("T0", "T1") for line in LINES] + LINES[:1]
    (services.home / "data/b.csv").write_text(HEADER + "\n".join(later))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, STEPS_OF_FILE + 1))
def test_files(tmp_path: Path, candles: Source, at: int, *, after: bool) -> None:
    with fresh(tmp_path / "whole") as whole:
        two_files(whole)
        ingest_files(whole, candles)
        expected = state(whole)
    with fresh(tmp_path / "killed") as killed:
        two_files(killed)
        kill(killed, dying(at, after=after), lambda: ingest_files(killed, candles))
        ingest_files(killed, candles)
        assert state(killed) == expected


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, STEPS_OF_LOG + 1))
def test_messages(tmp_path: Path, candles: Source, at: int, *, after: bool) -> None:
    rows = [line.split(",") for line in LINES]
    body = "\n".join(
        json.dumps({"symbol": r[0], "ts": r[1], "low": 1, "high": 3, "close": float(r[4])})
        for r in rows
    )
    with fresh(tmp_path / "whole") as whole, fresh(tmp_path / "killed") as killed:
        for services in (whole, killed):
            accept_events(services, candles, body.encode(), "application/x-ndjson")
        ingest_log(whole, candles)
        kill(killed, dying(at, after=after), lambda: ingest_log(killed, candles))
        more = body.replace("T0", "T1").encode()
        for services in (whole, killed):
            accept_events(services, candles, more, "application/x-ndjson")
            ingest_log(services, candles)
        if at > 1 or after:
            assert state(killed) == state(whole)
        else:  # nothing had begun: both requests make one batch
            assert state(killed)["offset"] == state(whole)["offset"]
            assert killed.metadata.find(Batch)[0].read == 2 * len(LINES)


@pytest.mark.parametrize("by_itself", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, STEPS_OF_DELETION + 1))
def test_deletions(
    tmp_path: Path, candles: Source, at: int, *, after: bool, by_itself: bool
) -> None:
    deletion = Deletion(delete_id="d-1", keys=("BTC",), reason="asked to")
    with fresh(tmp_path / "whole") as whole, fresh(tmp_path / "killed") as killed:
        for services in (whole, killed):
            two_files(services)
            ingest_files(services, candles)
        delete_records(whole, candles, deletion)
        other = killed.acting(SOMEBODY)
        kill(killed, dying(at, after=after), lambda: delete_records(other, candles, deletion))
        # Whoever reads the raw table's number finds the tombstones of that number.
        reached = killed.tables.applied("raw/candles", "raw/candles")
        there = killed.tables.applied("tombstones/candles", "tombstones/candles")
        assert (reached, there) in {(2, 0), (2, 3), (3, 3)}
        counted = remaining_records(killed.tables, candles).collect().height
        assert counted == (0 if at + after > 4 else 4)  # wholly or not at all
        begun = at + after > 2
        if by_itself:
            ingest_files(killed, candles)  # whoever comes next finishes it
        finished = state(killed)
        delete_records(other, candles, deletion)
        found, expected = state(killed), state(whole)
        if by_itself and begun:
            assert found == finished
        for each in (found, expected):
            each["batches"] = [nobody(batch) for batch in each["batches"]]  # type: ignore[attr-defined]
        assert found == expected
        assert remaining_records(killed.tables, candles).collect().is_empty()
        stones = killed.tables.scan("tombstones/candles").collect()
        assert stones["_actor"].to_list() == ["somebody"]
        entry = killed.metadata.audit()[-1]
        assert (entry.actor, entry.action) == ("somebody", "delete")


def nobody(batch: Batch) -> Batch:
    """The batch without who asked for it."""
    deletion = batch.deletion
    gone = None if deletion is None else msgspec.structs.replace(deletion, actor="")
    return msgspec.structs.replace(batch, deletion=gone)


def test_a_file_that_was_removed_closes_its_batch(services: LocalServices, candles: Source) -> None:
    two_files(services)
    kill(services, dying(2), lambda: ingest_files(services, candles))
    (services.home / "data/a.csv").unlink()
    ingest_files(services, candles)
    closed, other = services.metadata.find(Batch)
    assert (closed.state, closed.read, closed.reasons) == ("stored", 0, {"file_gone": 4})
    assert (other.number, other.stored) == (2, 3)


@pytest.mark.parametrize(
    ("at", "counts"),
    [(2, (0, 0, 0, 0, 4)), (3, (3, 2, 0, 1, 1)), (4, (4, 2, 1, 1, 0))],
    ids=["nothing written", "raw written", "all written"],
)
def test_a_file_that_is_gone_closes_its_batch_with_what_is_there(
    services: LocalServices, candles: Source, at: int, counts: tuple[int, ...]
) -> None:
    two_files(services)
    paths = ["data/a.csv"]
    kill(services, dying(at), lambda: ingest_files(services, candles, paths=paths))
    content = (services.home / "data/a.csv").read_text()
    (services.home / "data/a.csv").write_text(HEADER + "ETH" + LINES[0])  # other bytes
    ingest_files(services, candles, paths=["data/b.csv"])
    closed, _ = services.metadata.find(Batch)
    lacking = closed.reasons.get("file_gone", 0)
    found = (closed.read, closed.stored, closed.quarantined, closed.duplicates, lacking)
    assert closed.state == "stored"
    assert found == counts
    (services.home / "data/a.csv").write_text(content)
    ingest_files(services, candles, paths=paths)
    assert services.tables.scan("raw/candles").collect().height == 4


@pytest.mark.parametrize(("at", "stored"), [(1, 2), (2, 3)], ids=["before", "after the raw rows"])
def test_another_declaration_does_not_judge_what_is_stored(
    services: LocalServices, candles: Source, at: int, stored: int
) -> None:
    """Killed under a loose declaration, finished under a strict one."""
    loose = msgspec.structs.replace(candles, expect=candles.expect[2:])
    path = services.home / "one.csv"
    path.write_text(HEADER + "\n".join(LINES))
    kill(services, dying(at, after=True), lambda: ingest_files(services, loose, paths=[path]))

    ingest_files(services, candles, paths=[path])

    (batch, *_) = services.metadata.find(Batch)
    raw = services.tables.scan("raw/candles").filter(_batch=batch.number).collect()
    assert (batch.state, batch.stored, len(raw)) == ("stored", stored, stored)
    assert batch.read == batch.stored + batch.quarantined + batch.duplicates
    assert batch.fingerprint == fingerprint(candles if at == 1 else loose)
    assert (batch.quarantined > 0) == (at == 1)
