"""The folder in which a loaded custom model lies unpacked, for as long as whoever loaded it lives.

Each holds a file that is locked by the process that made it. The kernel drops the lock when the
process dies, however that happens: so a folder whose lock can be had belongs to nobody any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["CustomFolder", "sweep_custom_folders"]

PREFIX = "penstock-custom-"
LOCK = "lock"


class CustomFolder:
    """A temporary folder of one's own.

    Attributes:
        path: Where it is.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove it with what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep_custom_folders() -> list[Path]:
    """Remove the folders of processes that were killed.

    One without a file to lock is left alone: it is being made at this moment.

    Returns:
        Those that were removed.
    """
    found = sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    return [path for path in found if _swept(path)]


def _swept(path: Path) -> bool:
    try:
        lock = os.open(path / LOCK, os.O_RDWR)
    except OSError:  # being made or removed, or another user's
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        shutil.rmtree(path, ignore_errors=True)
        return True
    finally:
        os.close(lock)
