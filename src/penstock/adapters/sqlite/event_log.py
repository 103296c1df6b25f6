"""Event log in a SQLite file: one table of messages, one of topics, one of ids, one of groups."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import InputError, StateError
from penstock.ports import EventLog, LogEntry

from .connection import BUSY_TIMEOUT_S, connect, translated

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator, Sequence

    from penstock.ports import Clock

__all__ = ["SqliteEventLog"]

_SCHEMA = 1
# A message's place is its topic's number in the upper bits and its offset in the lower 40: with one
# integer as key SQLite appends three times as fast as with two columns.
_OFFSET_BITS = 40
# ``last_offset`` counts within the transaction that appends, so offsets have no gaps.
_TABLES = """
CREATE TABLE IF NOT EXISTS topics (
    topic INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, last_offset INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
    place INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS ids (
    topic INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (topic, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS groups (
    topic TEXT NOT NULL, name TEXT NOT NULL, offset INTEGER NOT NULL,
    PRIMARY KEY (topic, name)) WITHOUT ROWID;
"""
_TOPIC = (
    "INSERT INTO topics (name, last_offset) VALUES (?, 0) "
    "ON CONFLICT (name) DO UPDATE SET name = name RETURNING topic"
)
_ADVANCE = "UPDATE topics SET last_offset = last_offset + ? WHERE topic = ? RETURNING last_offset"
_READ = (
    "SELECT place, at_us, payload FROM messages WHERE place > ? AND place < ? "
    "ORDER BY place LIMIT ?"
)
_COMMIT = (
    "INSERT INTO groups (topic, name, offset) VALUES (?, ?, ?) "
    "ON CONFLICT (topic, name) DO UPDATE SET offset = max(offset, excluded.offset)"
)


class SqliteEventLog(EventLog):
    """Topics in one SQLite file.

    One connection writes and another reads, so that reading never waits for writing; threads take
    turns on each.

    Args:
        path: The file; made with its folder when it is not there.
        clock: Tells when messages are appended.
        busy_timeout_s: How long to wait for another writer.

    Raises:
        StateError: The file is damaged, cannot be opened, or belongs to a newer version.
        UnavailableError: Another process kept it locked.
    """

    def __init__(self, path: Path, clock: Clock, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._path = Path(path)
        self._clock = clock
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        with translated(self._path):
            self._writer = connect(self._path, busy_timeout_s)
            try:
                self._create()
                self._reader = connect(self._path, busy_timeout_s)
            except BaseException:
                self._writer.close()
                raise

    def publish(
        self, topic: str, payloads: Sequence[bytes], *, ids: Sequence[str] | None = None
    ) -> int:
        """Append messages; returns the topic's last offset.

        Args:
            topic: The topic.
            payloads: The messages, in order.
            ids: One id per message; messages whose id is known are left out.

        Raises:
            InputError: There are not as many ids as messages.
        """
        if ids is not None and len(ids) != len(payloads):
            message = (
                f"{len(payloads)} messages came with {len(ids)} ids; expected one id for each."
            )
            raise InputError(message, topic=topic, payloads=len(payloads), ids=len(ids))
        if not payloads:
            return self.end(topic)
        with self._writing() as connection:
            number = (
                self._numbers.get(topic) or connection.execute(_TOPIC, (topic,)).fetchall()[0][0]
            )
            new = payloads if ids is None else _unknown(connection, number, payloads, ids)
            last: int = connection.execute(_ADVANCE, (len(new), number)).fetchall()[0][0]
            first = (number << _OFFSET_BITS) + last - len(new) + 1
            # Asked for under the write lock, so that times grow with the offsets.
            at_us = self._clock.now_us()
            rows = ((place, at_us, payload) for place, payload in enumerate(new, start=first))
            connection.executemany("INSERT INTO messages VALUES (?, ?, ?)", rows)
        # Kept only now that the topic is sure to exist.
        self._numbers[topic] = number
        return last

    def read(self, topic: str, *, after: int, limit: int) -> list[LogEntry]:
        """At most ``limit`` messages with a greater offset, oldest first."""
        topics = self._query("SELECT topic FROM topics WHERE name = ?", (topic,))
        if not topics:
            return []
        before = topics[0][0] << _OFFSET_BITS
        place = before + max(after, 0)
        rows = self._query(_READ, (place, before + (1 << _OFFSET_BITS), max(limit, 0)))
        return [LogEntry(place - before, at_us, payload) for place, at_us, payload in rows]

    def end(self, topic: str) -> int:
        """Offset of the last message; 0 for none."""
        rows = self._query("SELECT last_offset FROM topics WHERE name = ?", (topic,))
        return int(rows[0][0]) if rows else 0

    def commit(self, topic: str, group: str, offset: int) -> None:
        """Remember how far a group of consumers has come; never goes back."""
        with self._writing() as connection:
            connection.execute(_COMMIT, (topic, group, offset))

    def committed(self, topic: str, group: str) -> int:
        """How far the group has come; 0 for a new one."""
        query = "SELECT offset FROM groups WHERE topic = ? AND name = ?"
        rows = self._query(query, (topic, group))
        return int(rows[0][0]) if rows else 0

    def topics(self) -> list[str]:
        """Names of all topics, sorted."""
        return [row[0] for row in self._query("SELECT name FROM topics ORDER BY name", ())]

    def close(self) -> None:
        """Give connections back; the object is not used afterwards."""
        with self._write_lock, self._read_lock:
            self._writer.close()
            self._reader.close()

    def _create(self) -> None:
        found = self._writer.execute("PRAGMA user_version").fetchall()[0][0]
        if found > _SCHEMA:
            message = (
                f"The event log '{self._path}' has schema {found}; this version of Penstock knows "
                f"{_SCHEMA}. Use the version that wrote it, or a newer one."
            )
            raise StateError(message, path=str(self._path), schema=found)
        if found < _SCHEMA:
            with self._writing() as connection:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_SCHEMA}")

    def _query(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with translated(self._path), self._read_lock:
            return self._reader.execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        """A transaction that holds the write lock; rolled back when the body raises."""
        with translated(self._path), self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise


def _unknown(
    connection: sqlite3.Connection, topic: int, payloads: Sequence[bytes], ids: Sequence[str]
) -> list[bytes]:
    """The messages whose id is new to the topic; their ids are known from now on."""
    insert = "INSERT INTO ids VALUES (?, ?) ON CONFLICT DO NOTHING"
    return [
        payload
        for payload, known in zip(payloads, ids, strict=True)
        if connection.execute(insert, (topic, known)).rowcount
    ]
