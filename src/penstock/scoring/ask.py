"""One row that wants a prediction, and where its score goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Clock, Ids, Spans
    from penstock.records import Given, Score

    from .score_log import ScoreLog
    from .traces import RequestTrace

__all__ = ["Ask", "Waiting", "Writer"]

NOTHING: Mapping[str, Given] = {}
NO_HEADERS: Mapping[str, str] = {}


class Waiting(Protocol):
    """Who waits for a score: a future, or whoever has a thing to do with it at once.

    None of these may raise, nor wait for anything.
    """

    def done(self) -> bool:
        """Whether nobody waits any more."""
        ...

    def set_result(self, result: Score, /) -> None:
        """Take the score, which is in the log by now."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """Take what went wrong."""
        ...


class Ask:
    """One row that wants a prediction.

    Args:
        arrived_us: When the request arrived, in microseconds since 1970 UTC.
        key: The entity's key; none when features are handed in.
        at_us: The time the features are wanted at; 0 for now.
        values: The features handed in, in the order of the version asked; none to look them up.
        request_id: The client's id of the request.
        reason: Why this route answers, or why a fallback is asked.
        given: What the request says beside the key: keys of further entities and request fields.
        headers: The headers that its routes ask for, by name in lower case.

    Attributes:
        trace: The trace of the request; none where there is none.
        unknown: Whether its features were looked up, and there was nothing of its entities.
        waiting: Who waits for its score.
    """

    __slots__ = (
        "arrived_us", "at_us", "given", "headers", "key", "reason", "request_id", "trace",
        "unknown", "values", "waiting",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what there is to know of a row
        self,
        arrived_us: int,
        *,
        key: str | int | None = None,
        at_us: int = 0,
        values: tuple[float | None, ...] | None = None,
        request_id: str = "",
        reason: str = "",
        given: Mapping[str, Given] = NOTHING,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        self.arrived_us = arrived_us
        self.key = key
        self.at_us = at_us
        self.values = values
        self.request_id = request_id
        self.reason = reason
        self.given = given
        self.headers = headers
        self.waiting: Waiting | None = None
        self.trace: RequestTrace | None = None
        self.unknown = False

    @property
    def trace_id(self) -> str:
        """The id of its trace; empty where there is none."""
        return "" if self.trace is None else self.trace.trace_id

    def again(self, *, values: tuple[float | None, ...] | None, reason: str = "") -> Ask:
        """The same row for another version."""
        made = Ask(
            self.arrived_us,
            key=self.key,
            at_us=self.at_us,
            values=values,
            request_id=self.request_id,
            reason=reason,
            given=self.given,
        )
        made.trace = self.trace
        return made


class Writer:
    """Where the scores of a deployment go, and what they need beside the prediction.

    Args:
        deployment: Name of the deployment.
        log: Its score log.
        ids: Makes prediction ids.
        clock: Tells the time.

    Attributes:
        spans: Where traces go; none where nothing is traced.
    """

    def __init__(self, deployment: str, log: ScoreLog, ids: Ids, clock: Clock) -> None:
        self.deployment = deployment
        self.log = log
        self.ids = ids
        self.clock = clock
        self.spans: Spans | None = None
