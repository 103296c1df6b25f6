"""One row that wants a prediction, and where its score goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from penstock.ports import Clock, Ids
    from penstock.records import Given, Score

    from .score_log import ScoreLog

__all__ = ["Ask", "Writer"]

NOTHING: Mapping[str, Given] = {}
NO_HEADERS: Mapping[str, str] = {}


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
    """

    __slots__ = (
        "arrived_us", "at_us", "future", "given", "headers", "key", "reason", "request_id",
        "values",
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
        self.future: asyncio.Future[Score] | None = None

    def again(self, *, values: tuple[float | None, ...] | None, reason: str = "") -> Ask:
        """The same row for another version."""
        return Ask(
            self.arrived_us,
            key=self.key,
            at_us=self.at_us,
            values=values,
            request_id=self.request_id,
            reason=reason,
            given=self.given,
        )


class Writer:
    """Where the scores of a deployment go, and what they need beside the prediction.

    Args:
        deployment: Name of the deployment.
        log: Its score log.
        ids: Makes prediction ids.
        clock: Tells the time.
    """

    def __init__(self, deployment: str, log: ScoreLog, ids: Ids, clock: Clock) -> None:
        self.deployment = deployment
        self.log = log
        self.ids = ids
        self.clock = clock
