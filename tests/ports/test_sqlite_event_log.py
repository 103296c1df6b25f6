from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from penstock.adapters.sqlite import SqliteEventLog
from penstock.adapters.system import SystemClock
from penstock.errors import StateError, UnavailableError
from penstock.testing.event_log_suite import EventLogSuite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.ports import EventLog


class TestSqliteEventLog(EventLogSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], EventLog]:
        return partial(SqliteEventLog, tmp_path / "state" / "events.db", SystemClock())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def opened(path: Path) -> SqliteEventLog:
    return SqliteEventLog(path, SystemClock(), busy_timeout_s=0.05)


def test_locked_database_is_unavailable(path: Path) -> None:
    with closing(opened(path)) as log, closing(sqlite3.connect(path)) as other:
        log.publish("a", [b"1"])
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="locked"):
            log.publish("a", [b"2"])
        assert [entry.payload for entry in log.read("a", after=0, limit=9)] == [b"1"]
        other.rollback()
        assert log.publish("a", [b"2"]) == 2


def test_refused_message_leaves_the_log_usable(path: Path) -> None:
    with closing(opened(path)) as log:
        payloads: list[object] = [b"1", object()]
        with pytest.raises(sqlite3.ProgrammingError):
            log.publish("a", payloads)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert log.topics() == []
        assert log.publish("b", [b"1"]) == 1
        assert log.publish("a", [b"1"]) == 1
        assert [entry.payload for entry in log.read("a", after=0, limit=9)] == [b"1"]


def test_opened_many_times_at_once(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for log in pool.map(lambda _: SqliteEventLog(path, SystemClock()), range(8)):
            log.publish("a", [b"1"])
            log.close()
    with closing(opened(path)) as log:
        assert log.end("a") == 8


def test_file_that_is_no_database(path: Path) -> None:
    path.write_bytes(b"junk" * 4096)
    with pytest.raises(StateError, match="damaged") as caught:
        opened(path)
    assert caught.value.facts["path"] == str(path)


def test_damaged_pages(path: Path) -> None:
    with closing(opened(path)) as log:
        log.publish("a", [b"x" * 500] * 200)
    size_bytes = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size_bytes - 4096))
    with closing(opened(path)) as log, pytest.raises(StateError, match="damaged"):
        log.read("a", after=0, limit=999)


def test_a_log_from_before_senders_were_kept_goes_on(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            CREATE TABLE topics (topic INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
            CREATE TABLE messages (
                place INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, payload BLOB NOT NULL);
            CREATE TABLE ids (
                topic INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (topic, id)) WITHOUT ROWID;
            CREATE TABLE groups (
                topic TEXT NOT NULL, name TEXT NOT NULL, offset INTEGER NOT NULL,
                PRIMARY KEY (topic, name)) WITHOUT ROWID;
            INSERT INTO topics VALUES (1, 'a');
            INSERT INTO messages VALUES ((1 << 40) + 1, 5, x'31');
            PRAGMA user_version = 1;
        """)
    with ThreadPoolExecutor(4) as pool:
        for log in pool.map(lambda _: SqliteEventLog(path, SystemClock()), range(4)):
            log.publish("a", [b"2"], sender="ana")
            log.close()
    with closing(opened(path)) as log:
        found = [(entry.offset, entry.sender) for entry in log.read("a", after=0, limit=9)]
    assert found == [(1, ""), *((offset, "ana") for offset in range(2, 6))]


def test_newer_log_is_refused(path: Path) -> None:
    opened(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StateError, match="schema 99"):
        opened(path)
