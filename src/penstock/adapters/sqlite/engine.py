"""What is particular to SQLite in the metadata store: how it is made, locked and polled."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DBAPIError

from penstock.errors import StateError

from .connection import BUSY_TIMEOUT_S, configure, connect, in_our_words, translated
from .schema import DATABASE_SCHEMA, SCHEMA, meta

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["Database"]

# The audit table only grows: whoever alters it must remove these first, and the chain still shows.
_TRIGGERS = tuple(
    f"CREATE TRIGGER IF NOT EXISTS audit_refuses_{change} BEFORE {change} ON audit "
    f"BEGIN SELECT RAISE(ABORT, 'the audit table is append-only'); END"
    for change in ("UPDATE", "DELETE")
)


class Database:
    """A metadata database in one SQLite file. Safe across threads and processes.

    Args:
        path: The file; made with its folder when it is not there.
        busy_timeout_s: How long to wait for another writer.

    Raises:
        StateError: The file is damaged, cannot be opened, or belongs to a newer version.
        UnavailableError: Another process kept it locked.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._path = path
        self._lock = threading.Lock()
        # The driver is left outside transactions, and ``writing`` begins them: by itself it would
        # begin one that reads first, and fail when another has written before it writes.
        self._engine = create_engine(
            URL.create("sqlite", database=str(path)),
            connect_args={"timeout": busy_timeout_s, "isolation_level": None},
            max_overflow=-1,
        )

        def prepare(connection: sqlite3.Connection, _record: object) -> None:
            configure(connection)

        event.listen(self._engine, "connect", prepare)
        with self._translated():
            self._poll = connect(path, busy_timeout_s)
        try:
            self._create()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """A connection for single statements that only read."""
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """A transaction that holds the write lock; rolled back when the body raises."""
        with self._translated(), self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def revision(self) -> int:
        """The counter of writes, over a connection of its own: the engine costs five times that."""
        with self._translated(), self._lock:
            rows = self._poll.execute("SELECT revision FROM meta").fetchall()
        return int(rows[0][0])

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            self._poll.close()
        self._engine.dispose()

    def _create(self) -> None:
        """Make the tables when they are not there; refuse those of a newer version."""
        with self.reading() as connection:
            if connection.dialect.has_table(connection, meta.name):
                self._check(connection)
                return
        with self.writing() as connection:
            SCHEMA.create_all(connection)
            for trigger in _TRIGGERS:
                connection.exec_driver_sql(trigger)
            # Another process may have made them while this one waited for the lock.
            if connection.execute(meta.select()).one_or_none() is None:
                row = {"id": 1, "schema": DATABASE_SCHEMA, "revision": 0}
                connection.execute(
                    meta.insert().values(row | {"audit_sequence": 0, "audit_hash": ""})
                )
            self._check(connection)

    def _check(self, connection: Connection) -> None:
        found = connection.execute(meta.select()).one_or_none()
        if found is None:
            message = (
                f"The metadata database '{self._path}' is damaged: it does not say its schema. "
                "Restore the file from a backup."
            )
            raise StateError(message, path=str(self._path))
        if found.schema > DATABASE_SCHEMA:
            message = (
                f"The metadata database '{self._path}' has schema {found.schema}; this version of "
                f"Penstock knows {DATABASE_SCHEMA}. Use the version that wrote it, or a newer one."
            )
            raise StateError(message, path=str(self._path), schema=found.schema)

    @contextmanager
    def _translated(self) -> Generator[None]:
        with translated(self._path):
            try:
                yield
            except DBAPIError as error:
                told = in_our_words(self._path, error.orig)
                if told is None:
                    raise
                raise told from error
