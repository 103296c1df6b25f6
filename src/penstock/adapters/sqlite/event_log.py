"""Event log in a SQLite file: a table each of messages, topics, senders, ids and groups."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.errors import InputError, StateError
from penstock.ports import EventLog, LogEntry

from .connection import BUSY_TIMEOUT_S, connect, translated

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator, Sequence

    from penstock.ports import Clock

__all__ = ["SqliteEventLog"]

_SCHEMA = 2
# A message's place is its topic's number in the upper bits and its offset in the lower 40: with one
# integer as key SQLite appends three times as fast as with two columns. The next offset is one more
# than the newest message's, read and used in one transaction, so there are no gaps. A counter
# beside the messages would be a second page to write for each commit.
_OFFSET_BITS = 40
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_TABLES = """
CREATE TABLE IF NOT EXISTS topics (topic INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS messages (
    place INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, payload BLOB NOT NULL,
    sender INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS senders (sender INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS ids (
    topic INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (topic, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS groups (
    topic TEXT NOT NULL, name TEXT NOT NULL, offset INTEGER NOT NULL,
    PRIMARY KEY (topic, name)) WITHOUT ROWID;
"""
_WITH_SENDERS = "ALTER TABLE messages ADD COLUMN sender INTEGER NOT NULL DEFAULT 0"  # from 1 to 2
_TOPIC = "SELECT topic FROM topics WHERE name = ?"
_NEW_TOPIC = "INSERT INTO topics (name) VALUES (?) RETURNING topic"
_NEWEST = "SELECT place FROM messages WHERE place > ? AND place < ? ORDER BY place DESC LIMIT 1"
_READ = (
    "SELECT place, at_us, payload, sender FROM messages WHERE place > ? AND place < ? "
    "ORDER BY place LIMIT ?"
)
_APPEND = "INSERT INTO messages (place, at_us, payload, sender) VALUES (?, ?, ?, ?)"
_SENDER = "SELECT sender FROM senders WHERE name = ?"
_NEW_SENDER = "INSERT INTO senders (name) VALUES (?) RETURNING sender"
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
        self._senders: dict[str, int] = {"": 0}
        self._names: dict[int, str] = {0: ""}
        with translated(self._path):
            self._writer = connect(self._path, busy_timeout_s)
            try:
                self._create()
                self._reader = connect(self._path, busy_timeout_s)
            except BaseException:
                self._writer.close()
                raise

    def publish(
        self,
        topic: str,
        payloads: Sequence[bytes],
        *,
        ids: Sequence[str] | None = None,
        sender: str = "",
    ) -> int:
        """Append messages; returns the topic's last offset.

        Args:
            topic: The topic.
            payloads: The messages, in order.
            ids: One id per message; messages whose id is known are left out.
            sender: Who sends them; a number is kept with each.

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
            number = self._number(connection, topic)
            if number is None:
                number = int(connection.execute(_NEW_TOPIC, (topic,)).fetchall()[0][0])
            by = self._sender(connection, sender)
            new = payloads if ids is None else _unknown(connection, number, payloads, ids)
            last = _newest(connection, number)
            # Asked for under the write lock, so that times grow with the offsets.
            at_us = self._clock.now_us()
            rows = (
                (place, at_us, payload, by) for place, payload in enumerate(new, start=last + 1)
            )
            connection.executemany(_APPEND, rows)
        # Kept only now that the topic and the sender are sure to exist.
        self._numbers[topic], self._senders[sender] = number, by
        return _offset(last + len(new))

    def read(self, topic: str, *, after: int, limit: int) -> list[LogEntry]:
        """At most ``limit`` messages with a greater offset, oldest first."""
        with self._reading() as connection:
            number = self._number(connection, topic)
            if number is None:
                return []
            begin, end = _bounds(number)
            values = (begin + max(after, 0), end, max(limit, 0))
            rows = connection.execute(_READ, values).fetchall()
            if not {row[3] for row in rows} <= self._names.keys():
                self._names |= dict(connection.execute("SELECT sender, name FROM senders"))
            names = self._names
        return [
            LogEntry(place & _OFFSET_MASK, at_us, told, names[by])
            for place, at_us, told, by in rows
        ]

    def end(self, topic: str) -> int:
        """Offset of the last message; 0 for none."""
        with self._reading() as connection:
            number = self._number(connection, topic)
            return 0 if number is None else _offset(_newest(connection, number))

    def commit(self, topic: str, group: str, offset: int) -> None:
        """Remember how far a group of consumers has come; never goes back."""
        with self._writing() as connection:
            connection.execute(_COMMIT, (topic, group, offset))

    def committed(self, topic: str, group: str) -> int:
        """How far the group has come; 0 for a new one."""
        query = "SELECT offset FROM groups WHERE topic = ? AND name = ?"
        with self._reading() as connection:
            rows = connection.execute(query, (topic, group)).fetchall()
        return int(rows[0][0]) if rows else 0

    def topics(self) -> list[str]:
        """Names of all topics, sorted."""
        with self._reading() as connection:
            rows = connection.execute("SELECT name FROM topics ORDER BY name").fetchall()
        return [row[0] for row in rows]

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
                # Of two who open it at once, the second finds it done.
                if connection.execute("PRAGMA user_version").fetchall()[0][0] == 1:
                    connection.execute(_WITH_SENDERS)
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_SCHEMA}")

    def _number(self, connection: sqlite3.Connection, topic: str) -> int | None:
        """The topic's number; None when there is no such topic. A number never changes."""
        number = self._numbers.get(topic)
        if number is None:
            rows = connection.execute(_TOPIC, (topic,)).fetchall()
            number = int(rows[0][0]) if rows else None
        return number

    def _sender(self, connection: sqlite3.Connection, name: str) -> int:
        """The sender's number, which never changes; a new one where there is none."""
        number = self._senders.get(name)
        if number is None:
            rows = connection.execute(_SENDER, (name,)).fetchall()
            rows = rows or connection.execute(_NEW_SENDER, (name,)).fetchall()
            number = int(rows[0][0])
        return number

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        with translated(self._path), self._read_lock:
            yield self._reader

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


def _bounds(number: int) -> tuple[int, int]:
    """The places that a topic's messages lie between."""
    return number << _OFFSET_BITS, (number + 1) << _OFFSET_BITS


def _offset(place: int) -> int:
    return place & _OFFSET_MASK


def _newest(connection: sqlite3.Connection, number: int) -> int:
    """The place of a topic's last message; the one before its first when it has none."""
    bounds = _bounds(number)
    rows = connection.execute(_NEWEST, bounds).fetchall()
    return int(rows[0][0]) if rows else bounds[0]


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
