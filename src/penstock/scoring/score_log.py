"""The write-ahead files of scores: what was answered is on disk before the answer leaves.

A serving process appends to files of its own, ``<folder>/<deployment>/<id>.jsonl``, one score a
line, and moves on to a new file at a certain size. A batch of scores is one write, done before any
of its answers is sent: a score that a client holds survives kill -9 of any process. A power cut
may lose the newest.

The writer holds an exclusive lock (flock) on its file for as long as it writes there; the kernel
drops it when the process dies, however that happens. So a file that can be locked is finished, and
only such files are removed, after everything in them is in the table.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import structlog

from penstock.errors import NotLoggedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from penstock.ports import Ids
    from penstock.records import Score

    from .payloads import Payload

__all__ = ["SUFFIX", "ScoreLog", "finished", "segments"]

SUFFIX = ".jsonl"
LIMIT_BYTES = 16 << 20


class ScoreLog:
    """Appends the scores of one deployment. Used by one thread.

    Args:
        folder: The folder of the deployment's files; made when the first score is appended.
        ids: Names the files.
        limit_bytes: Size from which a new file is begun.

    Attributes:
        folder: The folder of the files.
        written_bytes: Bytes of the scores that were appended.
        payload: What of the features is stored; all of them where there is none.
        lose: Told how many scores could not be written, where these are answered all the same;
            none where they are refused.
    """

    def __init__(self, folder: Path, ids: Ids, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder
        self.written_bytes = 0
        self.payload: Payload | None = None
        self.lose: Callable[[int], None] | None = None
        self._ids = ids
        self._limit_bytes = limit_bytes
        self._encode = msgspec.json.Encoder().encode_lines
        self._file: int | None = None
        self._size_bytes = 0
        self._is_broken = False

    def append(self, scores: Sequence[Score]) -> None:
        """Write scores; when this returns they survive the process, unless they may be lost.

        Raises:
            NotLoggedError: The disk is full or the folder cannot be written to; nothing of the
                scores was kept.
        """
        payload = self.payload
        data = self._encode(scores if payload is None else map(payload.stored, scores))
        try:
            file = self._file
            if file is None or self._size_bytes >= self._limit_bytes:
                file = self._begin()
            _write_whole(file, data, self._size_bytes)
        except OSError as error:
            # A drain may have read lines that were taken back: nothing may follow in their place.
            self.close()
            self._give_up(len(scores), error)
            return
        self._is_broken = False
        self._size_bytes += len(data)
        self.written_bytes += len(data)

    def close(self) -> None:
        """Finish the file; another append begins a new one."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _give_up(self, scores: int, error: OSError) -> None:
        """Say that scores cannot be written; the log of the process is told once."""
        why = f"Scores cannot be written to {self.folder}: {error.strerror or error}."
        if not self._is_broken:
            self._is_broken = True
            structlog.get_logger("penstock.scoring").error(
                "scores cannot be written", error=why, answered=self.lose is not None
            )
        if self.lose is not None:
            self.lose(scores)
            return
        raise NotLoggedError(
            f"{why} Nothing is answered that is not logged; make room, or correct the folder's "
            "permissions.",
            folder=str(self.folder),
        ) from error

    def _begin(self) -> int:
        self.close()
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = self.folder / f"{self._ids.new()}{SUFFIX}"
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            # Between the two calls a drain may have found an empty, unlocked file and removed it.
            if path.exists():
                break
            os.close(file)
        self._file, self._size_bytes = file, 0
        return file


def _write_whole(file: int, data: bytes, size_bytes: int) -> None:
    """One write of everything, or nothing: half a line must not stand before the next."""
    if os.write(file, data) != len(data):
        os.ftruncate(file, size_bytes)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def segments(folder: Path) -> list[Path]:
    """A deployment's files, oldest first; none when it has no folder."""
    return sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []


@contextmanager
def finished(path: Path) -> Generator[bool]:
    """Whether nobody writes the file any more; nor will anybody while the context is open.

    The lock is held for as long as the answer is used. A writer that has just made the file, and
    not locked it yet, waits here until the file is removed or not, and then looks whether it is
    still there: were the lock given back before, it could write to a file that is then removed.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(file)
