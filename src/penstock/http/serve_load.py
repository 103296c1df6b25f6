"""Whether more is asked than can be answered, found out before a request costs anything.

Where ten times as much is asked as can be answered, most of the work would go into refusals: what
a lane refuses has been decoded, checked and queued by then. So the door looks first. Where five
full batches and more are under way, and the event loop has had no rest for a tenth of a second,
two full batches are let in from then on, and whoever comes above that is turned away, whatever is
asked.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from penstock.errors import OverloadedError

from .serve_errors import failure

if TYPE_CHECKING:
    import asyncio

__all__ = ["MOST_UNDER_WAY", "OVERLOADED", "Holding", "Load"]

MANY_UNDER_WAY, MOST_UNDER_WAY = 320, 128
TICK_S = 0.02
LATE_S = 0.005
BUSY = 0.85
IN_A_ROW = 5
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
    """Whether the event loop has no rest; looked at only while many requests are under way.

    A burst is none: its end is near. Nor is much that waits for slow models, while the loop rests.
    It has no rest where it works nearly all of the time, or turns late since others have the
    processor. Lateness alone would not do: six hundred requests take turns of 10 ms, and a timer
    that is set in one of them is seldom due in the middle of another.

    Attributes:
        without_task: Requests under way that no task answers.
    """

    def __init__(self) -> None:
        self.without_task = 0
        self._is_watched = self._is_high = self._are_many = False
        self._strained = 0
        self._last_strained_s = self._looked_s = self._worked_s = 0.0

    def is_too_much(self, loop: asyncio.AbstractEventLoop, under_way: int) -> bool:
        """Whether to turn a request away; asked while ``MOST_UNDER_WAY`` and more are under way.

        Args:
            loop: The event loop.
            under_way: How many requests are.
        """
        if under_way <= MANY_UNDER_WAY:
            return self._is_high
        self._are_many = True
        if not self._is_watched:
            self._is_watched = True
            self._last_strained_s = loop.time()
            self._wait(loop)
        return self._is_high

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looked_s, self._worked_s = loop.time(), time.thread_time()
        due_s = self._looked_s + TICK_S
        loop.call_at(due_s, self._tick, loop, due_s)

    def _tick(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        """Look at the loop, until it has had rest for as long as refusals say to wait.

        Whoever was turned away comes back by then: to let all in at once, as soon as the loop has
        rest for lack of them, would begin it all anew.
        """
        now_s = loop.time()
        worked = (time.thread_time() - self._worked_s) / (now_s - self._looked_s)
        has_no_rest = worked > BUSY or now_s - due_s > LATE_S
        if has_no_rest and (self._are_many or self._is_high):
            self._strained += 1
            self._last_strained_s = now_s
        else:
            self._strained = max(self._strained - 1, 0)
        self._are_many = False
        self._is_high = self._is_high or self._strained >= IN_A_ROW
        if now_s - self._last_strained_s < RETRY_AFTER_S:
            self._wait(loop)
        else:
            self._is_watched = self._is_high = False
            self._strained = 0


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
