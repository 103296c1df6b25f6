"""How a SQLite file is opened, and how its errors read in our words."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.errors import StateError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from penstock.errors import PenstockError

__all__ = ["BUSY_TIMEOUT_S", "configure", "connect", "in_our_words", "translated"]

BUSY_TIMEOUT_S = 30.0

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
_UNUSABLE = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM,
    }
)  # fmt: skip


def connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """Open a connection that threads may share under a lock of theirs, outside any transaction."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
    )
    try:
        configure(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def configure(connection: sqlite3.Connection) -> None:
    """Write-ahead log, flushed at checkpoints only.

    A commit so survives the death of any process; a power cut may take the newest ones, never the
    file's integrity.
    """
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


@contextmanager
def translated(path: Path) -> Generator[None]:
    """Raise the driver's and the disk's errors in our words."""
    try:
        yield
    except sqlite3.Error as error:
        told = in_our_words(path, error)
        if told is None:
            raise
        raise told from error
    except OSError as error:
        raise _unusable(path, error) from error


def in_our_words(path: Path, error: BaseException | None) -> PenstockError | None:
    """The error to raise for one of the driver; None where it tells of a mistake of ours.

    Args:
        path: The database file.
        error: What the driver raised.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _BUSY:
        message = (
            f"The database '{path}' stayed locked by another process for too long. "
            "Try again; if it stays so, look for a process that hangs ('penstock status')."
        )
        return UnavailableError(message, path=str(path))
    if code in _DAMAGED:
        message = (
            f"The database '{path}' is damaged or not a database: {error}. "
            "Stop all processes of the project and restore the file from a backup."
        )
        return StateError(message, path=str(path))
    return _unusable(path, error) if code in _UNUSABLE else None


def _unusable(path: Path, error: BaseException | None) -> StateError:
    message = (
        f"The database '{path}' cannot be opened or written: {error}. "
        "See that its folder can be written to and the disk has room, then try again."
    )
    return StateError(message, path=str(path))
