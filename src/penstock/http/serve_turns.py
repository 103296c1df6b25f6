"""Long work for requests, one after the other, and no more that wait than will be served soon."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from penstock.errors import UnavailableError

from .serve_apart import in_a_thread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MOST_WAITING", "Turns"]

MOST_WAITING = 8

Found = TypeVar("Found")


class Turns:
    """Does one thing at a time, in a thread. Used from one event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    def check(self) -> None:
        """Refuse what would wait behind too many others.

        Raises:
            UnavailableError: So many wait already.
        """
        if self._waiting >= MOST_WAITING:
            raise UnavailableError(
                f"{MOST_WAITING} requests wait to be explained. Try again later.", retry_after_s=1
            )

    async def take(self, work: Callable[[], Found]) -> Found:
        """Do work when its turn comes, and wait for it.

        Args:
            work: The work.

        Raises:
            UnavailableError: Too many wait already.
            BaseException: What the work raises.
        """
        self.check()
        self._waiting += 1
        try:
            async with self._turn:
                return await in_a_thread(work, name="explanation")
        finally:
            self._waiting -= 1
