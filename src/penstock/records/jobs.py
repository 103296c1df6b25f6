"""Scores that are asked for and fetched later, and whoever is told."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from .base import Record

__all__ = ["Delivery", "ScoringJob"]


class ScoringJob(Record, frozen=True):
    """Rows that somebody wants scored, not at once.

    Attributes:
        job_id: Its id: the client's, or 26 characters ordered by time.
        deployment: The deployment.
        version: Number of the version that scores, the champion when it was asked for.
        rows: How many rows.
        input: Reference of the artifact that holds them, a JSON object a line.
        asked_by: Who asked.
        created_at: When.
        webhook: Whom to tell; empty for nobody.
        state: ``open`` until it is known that the run has ended, and whoever is to be told will be.
    """

    KIND: ClassVar[str] = "scoring_job"
    INDEXED: ClassVar[tuple[str, ...]] = ("deployment", "state")

    job_id: str
    deployment: str
    version: int
    rows: int
    input: str
    asked_by: str
    created_at: datetime
    webhook: str = ""
    state: Literal["open", "ended"] = "open"

    @property
    def key(self) -> str:
        """The deployment and the id."""
        return f"{self.deployment}/{self.job_id}"

    @property
    def run_id(self) -> str:
        """Id of the run that scores it."""
        return f"job-{self.deployment}-{self.job_id}"


class Delivery(Record, frozen=True):
    """A message to a webhook, sent until it was received.

    Attributes:
        delivery_id: Its id; a receiver that has seen it may drop it.
        url: Where to.
        body: What, as JSON.
        created_at: When it was written.
        next_at: When it is sent next.
        attempts: How often it was sent.
        state: ``waiting`` to be sent, ``delivered``, or ``failed`` after the last attempt.
        said: What came of the last attempt.
    """

    KIND: ClassVar[str] = "delivery"
    INDEXED: ClassVar[tuple[str, ...]] = ("state",)

    delivery_id: str
    url: str
    body: str
    created_at: datetime
    next_at: datetime
    attempts: int = 0
    state: Literal["waiting", "delivered", "failed"] = "waiting"
    said: str = ""

    @property
    def key(self) -> str:
        """The id."""
        return self.delivery_id
