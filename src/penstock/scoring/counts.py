"""What a lane has done, counted without locks: one event loop writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ask import Ask

__all__ = ["LaneCounts"]


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
    """

    __slots__ = (
        "answers", "batches", "computed_us", "failed", "last_us", "queued_us", "rows", "sizes",
        "total_us",
    )  # fmt: skip

    def __init__(self) -> None:
        self.batches = self.rows = self.answers = self.failed = 0
        self.queued_us = self.computed_us = self.total_us = self.last_us = 0
        self.sizes: dict[int, tuple[int, int]] = {}

    def computed(self, rows: int, took_us: int) -> None:
        """Count a batch."""
        self.batches += 1
        self.rows += rows
        self.computed_us += took_us
        batches, before_us = self.sizes.get(rows, (0, 0))
        self.sizes[rows] = (batches + 1, before_us + took_us)

    def answered(self, asks: Sequence[Ask], start_us: int, now_us: int) -> None:
        """Count answers given now, of a batch that began then."""
        arrived_us = sum([ask.arrived_us for ask in asks])
        self.answers += len(asks)
        self.queued_us += start_us * len(asks) - arrived_us
        self.total_us += now_us * len(asks) - arrived_us
        self.last_us = now_us
