"""Rows of one request, scored together without a task for each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock.errors import InputError, PenstockError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from penstock.records import Score

    from .ask import Ask
    from .endpoint import Endpoint
    from .lane import Lane

__all__ = ["Together", "all_scores", "in_row"]


class Together:
    """The rows of a request on their way to their scores. Used from one event loop.

    Rows that nothing stands in the way of go to their lanes at once. Any other row, and one that
    goes wrong, takes a task of its own, which has the words for it.

    Args:
        endpoint: The deployment.
        whole: Called once, with this, when every row has its score or its error.
    """

    __slots__ = ("_endpoint", "_found", "_left", "_tasks", "_whole", "abandoned")

    def __init__(self, endpoint: Endpoint, whole: Callable[[Together], None]) -> None:
        self._endpoint = endpoint
        self._whole = whole
        self._found: list[Score | BaseException | None] = []
        self._left = 0
        self._tasks: set[asyncio.Task[Score]] = set()
        self.abandoned = False

    def begin(self, asks: Sequence[Ask]) -> None:
        """Set out with all rows.

        Args:
            asks: The rows, at least one; features handed in are in the champion's order.
        """
        endpoint = self._endpoint
        is_quick = endpoint.is_quick
        self._left = len(asks)
        self._found = [None] * len(asks)
        for place, ask in enumerate(asks):
            if not is_quick:
                self._apart(place, endpoint.score(ask))
                continue
            try:
                lane = endpoint.lane_of(ask)
            except Exception as error:  # noqa: BLE001 - the request ends with it, as any other row's
                self.take(place, error)
                continue
            if lane is not None and endpoint.takes_at_once(ask, lane):
                endpoint.give(ask, lane, _Part(self, place, ask, lane))
            else:
                self._apart(place, endpoint.score(ask, lane))

    def scores(self) -> list[Score]:
        """The scores of all rows, once there are; see ``all_scores``."""
        return all_scores(self._found)

    def abandon(self) -> None:
        """Nobody waits any more: rows that are not computed yet are not."""
        self.abandoned = True
        for task in self._tasks:
            task.cancel()

    def answered(self, place: int, ask: Ask, lane: Lane, score: Score) -> None:
        """Take the score that a lane has for a row."""
        try:
            self._endpoint.answered(ask, lane, score)
        except Exception as error:  # noqa: BLE001 - neighbours in the batch have no part in it
            self.take(place, error)
        else:
            self.take(place, score)

    def failed(self, place: int, ask: Ask, lane: Lane, error: BaseException) -> None:
        """Find out what answers a row that a lane has failed."""
        if isinstance(error, (TimeoutError, PenstockError)):
            self._apart(place, self._endpoint.instead(ask, lane, error))
        else:
            self.take(place, error)

    def take(self, place: int, found: Score | BaseException) -> None:
        """Note what has become of a row."""
        self._found[place] = found
        self._left -= 1
        if not self._left and not self.abandoned:
            self._whole(self)

    def _apart(self, place: int, scoring: Coroutine[None, None, Score]) -> None:
        """Let a task find the score of a row."""
        task = asyncio.get_running_loop().create_task(scoring)
        self._tasks.add(task)

        def end(done: asyncio.Task[Score]) -> None:
            self._tasks.discard(done)
            if done.cancelled():
                self.take(place, asyncio.CancelledError())
            else:
                self.take(place, done.exception() or done.result())

        task.add_done_callback(end)


class _Part:
    """Waits for the score of one of the rows, in the place of a future."""

    __slots__ = ("_ask", "_is_done", "_lane", "_place", "_together")

    def __init__(self, together: Together, place: int, ask: Ask, lane: Lane) -> None:
        self._together = together
        self._place = place
        self._ask = ask
        self._lane = lane
        self._is_done = False

    def done(self) -> bool:
        """Whether it has been told, or nobody wants to know."""
        return self._is_done or self._together.abandoned

    def set_result(self, score: Score, /) -> None:
        """Take the score."""
        self._end()
        self._together.answered(self._place, self._ask, self._lane, score)

    def set_exception(self, exception: BaseException, /) -> None:
        """Take what went wrong."""
        self._end()
        self._together.failed(self._place, self._ask, self._lane, exception)

    def _end(self) -> None:
        self._is_done = True
        self._ask.waiting = None  # each holds the other


def all_scores(found: Sequence[Score | BaseException | None]) -> list[Score]:
    """The scores of the rows of a request; the first that failed fails the request.

    Args:
        found: What has become of each row.

    Raises:
        BaseException: What is found of the first that failed; an ``InputError`` says in which row.
    """
    scores: list[Score] = []
    for number, one in enumerate(found):
        if isinstance(one, InputError):
            raise in_row(number, one) from one
        if isinstance(one, BaseException):
            raise one
        if one is not None:
            scores.append(one)
    return scores


def in_row(number: int, error: InputError) -> InputError:
    """An error of one row of a request, which says of which.

    Args:
        number: The place of the row.
        error: What is wrong with it.
    """
    return type(error)(f"rows[{number}]: {error.message}")
