"""One row that wants a prediction, and where its score goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .light import Light

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Clock, Ids, Spans
    from penstock.records import Given, Score

    from .score_log import ScoreLog
    from .traces import RequestTrace

__all__ = ["Ask", "Waiting", "Writer"]


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


class Ask(Light):
    """One row that wants a prediction.

    Attributes:
        arrived_us: When the request arrived, in microseconds since 1970 UTC.
        key: The entity's key; none when features are handed in.
        at_us: The time the features are wanted at; 0 for now.
        values: The features handed in, in the order of the version asked; none to look them up.
        request_id: The client's id of the request.
        given: What the request says beside the key: keys of further entities and request fields.
        headers: The headers that its routes ask for, by name in lower case.
        reason: Why this route answers, or why a fallback is asked.
        trace: The trace of the request; none where there is none.
        unknown: Whether its features were looked up, and there was nothing of its entities.
        waiting: Who waits for its score.
    """

    arrived_us: int
    key: str | int | None = None
    at_us: int = 0
    values: tuple[float | None, ...] | None = None
    request_id: str = ""
    given: Mapping[str, Given] = {}
    headers: Mapping[str, str] = {}
    reason: str = ""
    trace: RequestTrace | None = None
    unknown: bool = False
    waiting: Waiting | None = None

    @property
    def trace_id(self) -> str:
        """The id of its trace; empty where there is none."""
        return "" if self.trace is None else self.trace.trace_id

    def again(self, *, values: tuple[float | None, ...] | None, reason: str = "") -> Ask:
        """The same row for another version."""
        made = Ask(self.arrived_us, self.key, self.at_us, values, self.request_id, self.given)
        made.reason, made.trace = reason, self.trace
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
