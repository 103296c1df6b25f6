"""Who waits too long is told so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ask import Waiting

__all__ = ["watch"]

HELD_UP_S, MERCY_S = 0.005, 0.01


def watch(waiting: Waiting | asyncio.Future[Any] | None, wait_us: int) -> asyncio.TimerHandle:
    """Give up waiting after a time: who waits is told ``TimeoutError`` then.

    Where the event loop itself was held up, by a stall of the machine, the thread was too: it gets
    a moment more. The version was not late, and whoever waits is better off with its answer.
    """
    loop = asyncio.get_running_loop()
    due_s = loop.time() + wait_us / 1e6
    return loop.call_at(due_s, _expire, waiting, loop, due_s)


def _expire(waiting: Waiting | None, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
    if waiting is None or waiting.done():
        return
    if loop.time() - due_s > HELD_UP_S:
        loop.call_later(MERCY_S, _give_up, waiting)
    else:
        _give_up(waiting)


def _give_up(waiting: Waiting) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())
