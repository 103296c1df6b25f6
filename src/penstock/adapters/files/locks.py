"""Locks as files: flock belongs to the open file, so a dead holder lets go by itself."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from penstock.errors import StateError, UnavailableError
from penstock.ports import Locks

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["FileLocks"]

_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.05
_HOLDER_BYTES = 4096


class FileLocks(Locks):
    """One file per lock under a folder of a local disk, locked with ``flock``.

    The file has the newest token in its first line and names its holder while it is held. It stays
    when it is let go: removing it would let two processes lock two files of the same name. A
    program started by the holder does not inherit the lock; a bare ``os.fork`` would.

    Args:
        root: The folder; made when a lock is first held.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(root)

    @contextmanager
    def hold(self, name: str, *, wait_s: float = 30.0) -> Generator[int]:
        """Hold the lock while the context is open, and give its token, a positive int64.

        Args:
            name: What is locked, such as ``"ingest/candles"``.
            wait_s: How long to wait for it; 0 to try once.

        Raises:
            UnavailableError: It was held by another all the time; says by whom.
            StateError: The lock's file cannot be opened.
        """
        path = self._root / f"{quote(name, safe='')}.lock"
        handle = self._open(name, path)
        try:
            if not _lock(handle, wait_s):
                raise _busy(name, handle, wait_s)
            token = _next_token(handle)
            _write(handle, token, f"process {os.getpid()} ({' '.join(sys.argv)})")
            try:
                yield token
            finally:
                _write(handle, token, "")
        finally:
            os.close(handle)

    def _open(self, name: str, path: Path) -> int:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = (
                f"The lock {name!r} cannot be opened at '{path}': {error.strerror}. "
                "Make sure the project folder can be written to."
            )
            raise StateError(message, lock=name, path=str(path)) from error


def _lock(handle: int, wait_s: float) -> bool:
    """Lock the open file; False when another held it until the time was over.

    It is tried again and again, since a blocking ``flock`` cannot be given up after a time.
    """
    deadline = time.monotonic() + wait_s
    pause_s = _FIRST_PAUSE_S
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def _next_token(handle: int) -> int:
    """One greater than the last; from the clock, so that the loss of the file does no harm."""
    last = os.pread(handle, _HOLDER_BYTES, 0).split(b"\n")[0]
    return max(int(last) + 1 if last.isdigit() else 1, time.time_ns() // 1000)


def _write(handle: int, token: int, holder: str) -> None:
    """Write the token and who holds the lock; a full disk costs the message, not the lock."""
    with suppress(OSError):
        text = f"{token}\n{holder}".encode(errors="replace")[:_HOLDER_BYTES]
        os.ftruncate(handle, os.pwrite(handle, text, 0))


def _busy(name: str, handle: int, wait_s: float) -> UnavailableError:
    text = os.pread(handle, _HOLDER_BYTES, 0).decode(errors="replace")
    holder = text.partition("\n")[2] or "another process"
    waited = f" and was not let go within {wait_s:g} s" if wait_s else ""
    message = (
        f"The lock {name!r} is held by {holder}{waited}. "
        "Wait until that has ended, or stop it, then try again."
    )
    return UnavailableError(message, lock=name, holder=holder, wait_s=wait_s)
