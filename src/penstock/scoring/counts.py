"""What has been done, counted without locks: one event loop writes, reports read."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.algebra import GraphRun
    from penstock.records import Score

    from .ask import Ask

__all__ = ["Cause", "Counters", "Durations", "LaneCounts"]

Cause = Literal[
    "late", "failed", "circuit_open", "stale", "unknown_entity", "loading", "load_failed"
]
"""Why a fallback is asked."""

MOST_ANSWERERS = 64


class Durations:
    """How long answers took: so many within each bound, and the rest.

    Attributes:
        buckets: Answers that took at most ``BOUNDS_US`` each and more than the one before.
        total_us: Sum of the durations.
    """

    BOUNDS_US = (
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
        1_000_000, 2_500_000, 5_000_000, 10_000_000,
    )  # fmt: skip

    __slots__ = ("buckets", "total_us")

    def __init__(self) -> None:
        self.buckets = [0] * (len(self.BOUNDS_US) + 1)
        self.total_us = 0

    def add(self, took_us: int) -> None:
        """Count an answer."""
        self.buckets[bisect_left(self.BOUNDS_US, took_us)] += 1
        self.total_us += took_us

    @property
    def number(self) -> int:
        """How many answers there were."""
        return sum(self.buckets)


class Counters:
    """What an endpoint has done, as plain integers: read by ``/metrics``, written by one thread.

    Routes, causes and kinds of errors are few; of versions that answered, the newest 64 are kept.

    Attributes:
        durations: How long answers took, by ``(route, version)``; version 0 is a constant.
        fallbacks: Answers by a fallback, by ``(what answered, why)``.
        errors: Rows that a version was asked for in vain, by ``(route, version, kind of error)``.
        last_us: When the last answer was given, in microseconds since 1970 UTC; 0 for never.
        slow: Answers that took longer than their version may, by ``(route, version)``.
        lost: Scores that could not be logged, where those are answered all the same.
        shadows_dropped: Shadow rows that were not scored.
        stale: Requests by entity while a view was stale, by what became of them: ``served`` or
            ``refused``.
        stale_views: As many of these requests as each view was stale for, by its name.
        unknown: Rows by entity of which the online store had nothing, by what became of them:
            ``served`` or ``refused``.
    """

    def __init__(self) -> None:
        self.durations: dict[tuple[str, int], Durations] = {}
        self.fallbacks: dict[tuple[str, Cause], int] = {}
        self.errors: dict[tuple[str, int, str], int] = {}
        self.slow: dict[tuple[str, int], int] = {}
        self.last_us = self.lost = self.shadows_dropped = 0
        self.stale = {"served": 0, "refused": 0}
        self.stale_views: dict[str, int] = {}
        self.unknown = {"served": 0, "refused": 0}

    @property
    def answered(self) -> dict[tuple[str, int], int]:
        """Answers by ``(route, version)``."""
        return {key: one.number for key, one in list(self.durations.items())}

    def answer(self, score: Score) -> None:
        """Count an answer."""
        key = (score.route, score.version)
        durations = self.durations.get(key)
        if durations is None:
            if len(self.durations) >= MOST_ANSWERERS:
                del self.durations[next(iter(self.durations))]
            durations = self.durations[key] = Durations()
        durations.add(score.duration_us)
        self.last_us = score.scored_at_us

    def fall_back(self, to: str, cause: Cause) -> None:
        """Count an answer by a fallback."""
        self.fallbacks[to, cause] = self.fallbacks.get((to, cause), 0) + 1

    def age(self, outcome: Literal["served", "refused"], views: Iterable[str]) -> None:
        """Count a request whose features were older than these views allow."""
        self.stale[outcome] += 1
        for view in views:
            self.stale_views[view] = self.stale_views.get(view, 0) + 1

    def miss(self, outcome: Literal["served", "refused"]) -> None:
        """Count a row of whose entities nothing was online."""
        self.unknown[outcome] += 1

    def lose(self, scores: int) -> None:
        """Count scores that could not be logged."""
        self.lost += scores

    def lag(self, route: str, version: int) -> None:
        """Count an answer of a version that took longer than it may."""
        key = (route, version)
        if key not in self.slow and len(self.slow) >= MOST_ANSWERERS:
            del self.slow[next(iter(self.slow))]
        self.slow[key] = self.slow.get(key, 0) + 1

    def fail(self, route: str, version: int, kind: str) -> None:
        """Count a row that a version was asked for in vain."""
        key = (route, version, kind)
        if key not in self.errors and len(self.errors) >= MOST_ANSWERERS:
            del self.errors[next(iter(self.errors))]
        self.errors[key] = self.errors.get(key, 0) + 1


class LaneCounts:
    """What a lane has done, as plain integers: written by its event loop, read by reports.

    Attributes:
        batches: Batches computed.
        rows: Rows computed.
        answers: Rows answered.
        failed: Rows that were given an error.
        queued_us: Time from arrival to the beginning of the batch, of all that were answered.
        computed_us: Time that batches took, features included.
        total_us: Time from arrival to the answer, of all that were answered.
        last_us: When the last answer was given, in microseconds since 1970 UTC; 0 for never.
        sizes: Number of the batches of each size, and how long they took together.
        steps: Rows that each step of a graph was computed for, and how many nanoseconds that took;
            empty for what is no graph.
    """

    __slots__ = (
        "answers", "batches", "computed_us", "failed", "last_us", "queued_us", "rows", "sizes",
        "steps", "total_us",
    )  # fmt: skip

    def __init__(self) -> None:
        self.batches = self.rows = self.answers = self.failed = 0
        self.queued_us = self.computed_us = self.total_us = self.last_us = 0
        self.sizes: dict[int, tuple[int, int]] = {}
        self.steps: dict[str, tuple[int, int]] = {}

    def computed(self, rows: int, took_us: int) -> None:
        """Count a batch."""
        self.batches += 1
        self.rows += rows
        self.computed_us += took_us
        batches, before_us = self.sizes.get(rows, (0, 0))
        self.sizes[rows] = (batches + 1, before_us + took_us)

    def stepped(self, run: GraphRun) -> None:
        """Count what the steps of a graph did for a batch."""
        for step, took_ns in run.spent.items():
            rows, before_ns = self.steps.get(step, (0, 0))
            self.steps[step] = (rows + run.rows_of(step), before_ns + took_ns)

    def answered(self, asks: Sequence[Ask], start_us: int, now_us: int) -> None:
        """Count answers given now, of a batch that began then."""
        arrived_us = sum([ask.arrived_us for ask in asks])
        self.answers += len(asks)
        self.queued_us += start_us * len(asks) - arrived_us
        self.total_us += now_us * len(asks) - arrived_us
        self.last_us = now_us
