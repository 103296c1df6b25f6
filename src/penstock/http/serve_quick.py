"""Requests that nothing stands in the way of: answered without a task or a future.

Such a request is looked at when it has come, its rows go to their lanes at once, and its answer is
written when the lanes have their scores. Whatever is unusual about a request, wrong with it, or
goes wrong with a row takes the long way, through a task, which has the words for it: nothing is
refused here. What has been drawn for a row is not drawn again there: a challenger that takes no row
at once would get its share of its share.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from penstock.errors import PenstockError
from penstock.scoring import Light, Together

from .serve_scoring import ask_of, door_of
from .serve_v2_rows import rows_of_tensors
from .serve_v2_wire import HEADER_LENGTH, read_request, told_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from penstock.records import Score
    from penstock.scoring import Ask, Endpoint, Lane

    from .serve_call import WholeCall
    from .serve_errors import Answer
    from .serve_keeper import Keeper
    from .serve_schema import Row, Schema
    from .serve_ways import Way

    Tell = Callable[[list[Score]], Answer]
    _Asked = tuple[list[Row], bool, Tell]
    """The rows of a request, whether it asked for several, and how to tell their scores."""

__all__ = ["Origin", "QuickDoor"]


class Origin(Protocol):
    """Where the answer to a request goes."""

    def give(self, kind: str, answer: Answer) -> None:
        """Send an answer."""
        ...

    def give_later(self, kind: str, answering: Coroutine[None, None, Answer]) -> None:
        """Send an answer that is still to be found, or what its error becomes."""
        ...


class _Waiting(Light):
    """Waits for the score of a row, in the place of a future and a task.

    Attributes:
        kind: What the request is counted as.
        ask: The row.
        lane: The lane that it is given to.
        endpoint: The deployment.
        origin: Where the answer goes.
        tell: Makes an answer of its score.
        is_done: Whether it has been told.
    """

    kind: str
    ask: Ask
    lane: Lane
    endpoint: Endpoint
    origin: Origin
    tell: Tell
    is_done: bool = False

    def done(self) -> bool:
        """Whether it has been told."""
        return self.is_done

    def set_result(self, score: Score, /) -> None:
        """Answer with a score."""
        self.is_done = True
        self.ask.waiting = None  # each holds the other
        try:
            self.endpoint.answered(self.ask, self.lane, score)
            answer = self.tell([score])
        except Exception as error:  # noqa: BLE001 - neighbours in the batch have no part in it
            self.origin.give_later(self.kind, _raised(error))
        else:
            self.origin.give(self.kind, answer)

    def set_exception(self, exception: BaseException, /) -> None:
        """Find out what answers instead."""
        self.is_done = True
        self.ask.waiting = None
        self.origin.give_later(self.kind, self._instead(exception))

    async def _instead(self, error: BaseException) -> Answer:
        if not isinstance(error, (TimeoutError, PenstockError)):
            raise error
        return self.tell([await self.endpoint.instead(self.ask, self.lane, error)])


class QuickDoor:
    """Begins requests.

    Args:
        keeper: What is served, and who may ask.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def begin(self, way: Way, call: WholeCall, origin: Origin) -> bool:
        """Begin to answer a request; false where it has to take the long way.

        Args:
            way: Where its path leads.
            call: The request, a ``POST``.
            origin: Where the answer goes.
        """
        if not way.name or way.query or not call.is_plain:
            return False
        try:
            self._keeper.guard.check(call.authorization, "writer")
            door, schema = door_of(self._keeper, way.name)
            endpoint = door.endpoint
            if not endpoint.is_quick:
                return False
            asked = _asked(way, call, schema)
            if asked is None:
                return False
            rows, several, tell = asked
            ask = ask_of(endpoint, rows[0], call)
            lane = None if several else endpoint.lane_of(ask)
        except Exception:  # noqa: BLE001 - the long way comes to the same, and says so
            return False
        if several:
            asks = [ask, *[ask_of(endpoint, row, call) for row in rows[1:]]]
            _begin_all(way.kind, asks, endpoint, origin, tell)
            return True
        if lane is not None and endpoint.takes_at_once(ask, lane):
            endpoint.give(ask, lane, _Waiting(way.kind, ask, lane, endpoint, origin, tell))
        else:
            origin.give_later(way.kind, _scored(endpoint, ask, lane, tell))
        return True


def _asked(way: Way, call: WholeCall, schema: Schema) -> _Asked | None:
    """What a request asks for; none where it is no request of that kind."""
    if way.kind == "predict":
        rows, several = schema.rows_of(call.whole)
        return rows, several, schema.told_all if several else schema.told_one
    if way.kind != "infer" or way.number:
        return None
    return _asked_of_tensors(way.name, call, schema)


def _asked_of_tensors(name: str, call: WholeCall, schema: Schema) -> _Asked | None:
    request = call.read = read_request(call.whole, call.header(HEADER_LENGTH))
    if request.timeout_us:
        return None
    rows = rows_of_tensors(schema.manifest, request.tensors)
    if not rows:
        return None
    call.request_id = request.id or call.request_id
    tell = partial(told_scores, name, request, schema.manifest.task)
    return rows, len(rows) > 1, tell


def _begin_all(kind: str, asks: list[Ask], endpoint: Endpoint, origin: Origin, tell: Tell) -> None:
    """Begin a request of several rows."""

    def end(together: Together) -> None:
        try:
            answer = tell(together.scores())
        except Exception as error:  # noqa: BLE001 - what was said of it is said there
            origin.give_later(kind, _raised(error))
        else:
            origin.give(kind, answer)

    Together(endpoint, end).begin(asks)


async def _scored(endpoint: Endpoint, ask: Ask, lane: Lane | None, tell: Tell) -> Answer:
    return tell([await endpoint.score(ask, lane)])


async def _raised(error: Exception) -> Answer:
    raise error
