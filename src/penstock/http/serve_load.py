"""Whether more is asked than can be answered, found out before a request costs anything.

Where ten times as much is asked as can be answered, most of the work would go into refusals: what
a lane refuses has been decoded, checked and queued by then. So the door looks first. Where more
requests are under way than four full batches, and the event loop has been late for a tenth of a
second, whoever comes next is turned away, whatever is asked.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from penstock.errors import OverloadedError

from .serve_errors import failure

if TYPE_CHECKING:
    import asyncio

__all__ = ["MOST_UNDER_WAY", "OVERLOADED", "Holding", "Load"]

MOST_UNDER_WAY = 256
TICK_S = 0.02
LATE_S = 0.005
LATE_IN_A_ROW = 5
RETRY_AFTER_S = 1
HOLD_S = 0.2
"""How long refusals for overload wait, about, for who asks again before it was told to."""

OVERLOADED = {
    plain: failure(
        OverloadedError(
            "More is asked of this process than it can answer. Send fewer requests at a time, or "
            "start another 'penstock serve'.",
            retry_after_s=RETRY_AFTER_S,
        ),
        plain=plain,
    )
    for plain in (False, True)
}
"""What they are answered, by whether it is in the shape of the Open Inference Protocol."""


class Load:
    """How late the event loop is; looked at only while many requests are under way.

    A burst is none: its end is near. Nor is much that waits for slow models, while the loop turns.

    Attributes:
        without_task: Requests under way that no task answers.
    """

    def __init__(self) -> None:
        self.without_task = 0
        self._is_watched = self._is_high = False
        self._late = 0
        self._last_late_s = 0.0

    def is_too_much(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether to turn a request away; asked while more than enough are under way.

        Args:
            loop: The event loop.
        """
        if not self._is_watched:
            self._is_watched = True
            self._last_late_s = loop.time()
            self._wait(loop)
        return self._is_high

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        due_s = loop.time() + TICK_S
        loop.call_at(due_s, self._tick, loop, due_s)

    def _tick(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        """Look how late the loop is, until it has been in time for as long as refusals say to wait.

        Whoever was turned away comes back by then: to let all in at once, as soon as the loop is
        in time for lack of them, would begin it all anew.
        """
        now_s = loop.time()
        if now_s - due_s > LATE_S:
            self._late += 1
            self._last_late_s = now_s
        else:
            self._late = max(self._late - 1, 0)
        self._is_high = self._is_high or self._late >= LATE_IN_A_ROW
        if now_s - self._last_late_s < RETRY_AFTER_S:
            self._wait(loop)
        else:
            self._is_watched = self._is_high = False


class Holding:
    """How long refusals for overload wait on one connection.

    The first is told at once, with the time to wait in ``Retry-After``. Who asks again on the same
    connection before that time is over waits for the next: were those told at once as well, most of
    the work would go into telling them. No two connections wait equally long, so they do not come
    back together.
    """

    __slots__ = ("_hold_s", "_refused_s")

    def __init__(self) -> None:
        self._refused_s = -float(RETRY_AFTER_S)
        self._hold_s = HOLD_S * random.uniform(0.5, 1.5)  # noqa: S311 - no secret

    def next_s(self, now_s: float) -> float:
        """How long the refusal waits that is to be told now, in seconds.

        Args:
            now_s: The loop's time.
        """
        again, self._refused_s = now_s - self._refused_s < RETRY_AFTER_S, now_s
        return self._hold_s if again else 0.0
