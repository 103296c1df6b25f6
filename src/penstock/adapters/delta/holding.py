"""A lock beside a Delta table, across processes."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["holding"]


@contextmanager
def holding(path: Path, *, wait: bool) -> Generator[bool]:
    """Whether this is the only one that holds a lock, for as long as the context is open.

    Args:
        path: The lock's file, in a folder that is there.
        wait: Wait for whoever holds it, and then hold it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(handle)
