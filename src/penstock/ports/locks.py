"""Locks: one writer at a time, across processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["Locks"]


class Locks(ABC):
    """Gives a named lock to one holder at a time.

    Exclusive across threads and processes. A holder that dies, even by kill -9, loses its locks at
    once. Not reentrant. With the lock comes a token, greater than all that the name has had: a
    store that remembers the greatest it has seen can refuse a holder that is one no longer and has
    not noticed.
    """

    @abstractmethod
    def hold(self, name: str, *, wait_s: float = 30.0) -> AbstractContextManager[int]:
        """Hold the lock while the context is open, and give its token, a positive int64.

        Args:
            name: What is locked, such as ``"ingest/candles"``.
            wait_s: How long to wait for it; 0 to try once.

        Raises:
            UnavailableError: It was held by another all the time; says by whom.
        """
