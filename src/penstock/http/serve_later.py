"""What is closed a while after it was let go of: whoever was let in before may still turn to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Later"]


class Later:
    """Closes things when their time has come, or at the end. Used from one event loop."""

    def __init__(self) -> None:
        self._due: dict[asyncio.TimerHandle, Callable[[], None]] = {}

    def close(self, close: Callable[[], None], after_s: float) -> None:
        """Close something later.

        Args:
            close: Closes it.
            after_s: When, in seconds from now.
        """

        def end() -> None:
            del self._due[timer]
            close()

        timer = asyncio.get_running_loop().call_later(after_s, end)
        self._due[timer] = close

    def finish(self) -> None:
        """Close everything now: nobody comes any more."""
        due, self._due = self._due, {}
        for timer, close in due.items():
            timer.cancel()
            close()
