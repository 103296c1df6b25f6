"""Work gathered while the event loop is busy, and done together when it turns.

What arrives alone is done alone, at once; no timer holds anything back. Where a batch costs much
however small it is, more is taken in first as long as each turn of the loop brings some. Work that
takes long is done in a thread of its own, while the next batch gathers.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["Gathering"]

SLOW_BATCH_US, QUICK_BATCH_US = 5_000, 1_000
SLOW_IN_A_ROW, QUICK_IN_A_ROW = 8, 256
TURN_S = 0.005
WORTH_A_TURN_US = 100
"""A turn of the loop costs a tenth of this, and reads what has come meanwhile."""

Ask = TypeVar("Ask")
Outcome = TypeVar("Outcome")


class Gathering(ABC, Generic[Ask, Outcome]):
    """Batches of asks, one at a time. Used from one event loop.

    Args:
        label: The name of its thread.
        slow: Whether it begins in a thread.
        least_us: What a batch takes however small it is, in microseconds; for no longer than that
            is more taken in first.

    Attributes:
        slow: Whether batches are computed in a thread.
    """

    def __init__(self, label: str, *, slow: bool = False, least_us: int = 0) -> None:
        self.slow = slow
        self._least_s = least_us / 1e6 if least_us >= WORTH_A_TURN_US else 0.0
        self._gathered = 0
        self._gather_until_s = 0.0
        self._queue: deque[Ask] = deque()
        self._label = label
        self._scheduled = False
        self._thread: ThreadPoolExecutor | None = None
        self._in_a_row = 0

    @property
    def waiting(self) -> int:
        """How many asks wait."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether an ask waits or is being answered."""
        return self._scheduled

    @abstractmethod
    def _next_batch(self) -> list[Ask]:
        """Take the oldest from the queue, without those that nobody waits for any more."""

    @abstractmethod
    def _compute(self, batch: list[Ask]) -> Outcome:
        """Do the work, perhaps in a thread; an error is an outcome and is never raised."""

    @abstractmethod
    def _answer(self, batch: list[Ask], outcome: Outcome) -> None:
        """Answer those who wait, on the event loop; never raises."""

    def close(self) -> None:
        """Let go of the thread, once what it has been given is done; what comes then has another.

        An answer that is sent in parts may hold on for as long as its client takes them.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=False)

    def _push(self, ask: Ask) -> None:
        self._queue.append(ask)
        if not self._scheduled:
            self._wake()

    def _wake(self) -> None:
        """Turn to what waits, unless that is under way."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _place(self, took_us: int) -> None:
        """Decide where to compute from how long a batch took.

        It takes many in a row: a machine that is busy elsewhere makes quick work look slow now and
        then.
        """
        other = took_us < QUICK_BATCH_US if self.slow else took_us > SLOW_BATCH_US
        self._in_a_row = self._in_a_row + 1 if other else 0
        if self._in_a_row >= (QUICK_IN_A_ROW if self.slow else SLOW_IN_A_ROW):
            self._move(slow=not self.slow)

    def _move(self, *, slow: bool) -> None:
        self.slow, self._in_a_row = slow, 0

    def _flush(self) -> None:
        """Do what waits: batch after batch, since each turn of a busy loop costs more than many.

        Not for ever, so that others have their turn too.
        """
        if self._least_s and self._more_may_come():
            asyncio.get_running_loop().call_soon(self._flush)
            return
        end_s = time.monotonic() + TURN_S
        while batch := self._next_batch():
            if self.slow:
                self._compute_apart(batch)
                return
            self._answer(batch, self._compute(batch))
            if time.monotonic() > end_s:
                self._go_on()
                return
        self._scheduled = False

    def _more_may_come(self) -> bool:
        """Whether the last turn of the loop brought something, and there is time for another."""
        waiting, now_s = len(self._queue), time.monotonic()
        if not self._gathered:
            self._gather_until_s = now_s + self._least_s
        elif waiting == self._gathered or now_s > self._gather_until_s:
            self._gathered = 0
            return False
        self._gathered = waiting
        return waiting > 0

    def _compute_apart(self, batch: list[Ask]) -> None:
        self._thread = self._thread or ThreadPoolExecutor(1, self._label)
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._compute, batch)
        work.add_done_callback(lambda done: self._finish(batch, done.result()))

    def _finish(self, batch: list[Ask], outcome: Outcome) -> None:
        """Answer, then turn to those who came meanwhile."""
        self._answer(batch, outcome)
        self._go_on()

    def _go_on(self) -> None:
        if self._queue:
            asyncio.get_running_loop().call_soon(self._flush)
        else:
            self._scheduled = False
