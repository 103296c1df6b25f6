"""The database of the runs, as SQLite serves several processes best."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

import sqlalchemy as sa
from dbos import run_dbos_database_migrations
from sqlalchemy import event
from sqlalchemy.exc import DatabaseError, OperationalError

from penstock.errors import StateError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["open_database"]

BUSY_TIMEOUT_MS = 30_000
SUBSECONDS_SINCE = (3, 42, 0)


def open_database(path: Path) -> sa.Engine:
    """Open the database, and create or upgrade its tables where that is needed.

    As DBOS ships it, SQLite keeps the rollback journal and synchronises every commit; with a
    write-ahead log and ``synchronous=NORMAL`` a step costs 1.0 ms instead of 2.5. That survives
    kill -9 of every process; after a power cut the newest steps may run again, which steps allow.

    Args:
        path: The file; created when it is not there.

    Raises:
        StateError: The file is no such database, or cannot be written to.
        UnavailableError: Another process held it too long.
    """
    url = f"sqlite:///{path}"
    engine = sa.create_engine(url, pool_size=10, max_overflow=20)
    event.listen(engine, "connect", _prepare)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with engine.connect() as connection:
            connection.execute(sa.text("PRAGMA journal_mode=WAL"))
            known = sa.inspect(connection).has_table("dbos_migrations")
        if not known:
            run_dbos_database_migrations(system_database_url=url)
    except OperationalError as error:
        engine.dispose()
        if "locked" in str(error.orig):
            raise UnavailableError(
                f"The database of the runs {path} is locked by another process. "
                "Expected to get it within 30 s; try again.",
                path=str(path),
            ) from error
        raise _unreadable(path, error) from error
    except (DatabaseError, OSError) as error:
        engine.dispose()
        raise _unreadable(path, error) from error
    return engine


def _unreadable(path: Path, error: Exception) -> StateError:
    reason = getattr(error, "orig", None) or error
    return StateError(
        f"The database of the runs {path} cannot be opened: {reason}. Expected a SQLite file "
        "that this user may write to. Check permissions and room on the disk; a damaged file may "
        "be moved away, which loses the history of the runs and nothing else.",
        path=str(path),
    )


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    # IMMEDIATE: a transaction that will write takes its place at once, so two of them wait for
    # each other instead of failing at the first write.
    connection.isolation_level = "IMMEDIATE"
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=NORMAL")
    if sqlite3.sqlite_version_info < SUBSECONDS_SINCE:
        # From Python 3.12 on, DBOS asks for unixepoch('subsec'), which an older library (Debian 12
        # has 3.40) answers with null, and no run could be submitted.
        connection.create_function("unixepoch", 1, lambda _what: time.time())
