"""Lets Triton's Python stub start on an interpreter newer than its own.

The stub brings CPython 3.11's first releases and reads the standard library of the interpreter it
finds, whose resource tracker asks a lock for a count that those did not have.
"""

from __future__ import annotations

import threading
from multiprocessing import resource_tracker


class _Lock:
    """A lock that says that nobody holds it twice."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def _recursion_count(self) -> int:
        return 0


if not hasattr(threading.RLock(), "_recursion_count"):
    resource_tracker._resource_tracker._lock = _Lock()  # noqa: SLF001
