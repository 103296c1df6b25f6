"""Versions that score what others answer, so that they can be compared; nobody waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from penstock.records import Score

    from .ask import Ask
    from .counts import Counters
    from .lanes import Lanes

__all__ = ["Shadows"]


class Shadows:
    """The shadows of a deployment. Used from one event loop.

    Args:
        lanes: Its lanes.
        counters: What it has done so far; rows that a shadow did not score are counted.
    """

    def __init__(self, lanes: Lanes, counters: Counters) -> None:
        self._lanes = lanes
        self._counters = counters

    def score(self, ask: Ask) -> None:
        """Let the shadows score a row that has been answered.

        Args:
            ask: The row, as it was asked of the champion.
        """
        for lane in self._lanes.shadows:
            if not self._lanes.usable(ask, lane):
                self._counters.shadows_dropped += 1
                continue
            again = ask.again(values=self._lanes.fitted(ask, lane).values)
            again.trace = None  # the request is over when it is scored
            lane.submit(again).add_done_callback(self._scored)

    def _scored(self, future: asyncio.Future[Score]) -> None:
        if future.cancelled() or future.exception() is not None:
            self._counters.shadows_dropped += 1
