"""Reports on whether features are what the raw tables say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal, TypeAlias

import msgspec

from .base import Record

__all__ = ["CheckOrigin", "FeatureCheck", "FeatureReport"]

CheckOrigin: TypeAlias = Literal["online", "served"]


class FeatureCheck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found of one column.

    Attributes:
        feature: Full name of the column.
        compared: Number of values.
        mismatches: How many of them differ.
        worst: Greatest difference, as a share of the column's typical size; none where a null met
            a value.
        key: The entity of the worst mismatch; none without one.
        prediction_id: The score of the worst mismatch; empty where no scores were looked at.
    """

    feature: str
    compared: int
    mismatches: int
    worst: float | None
    key: str | int | None = None
    prediction_id: str = ""

    @property
    def rate(self) -> float:
        """Share of the values that differ."""
        return self.mismatches / self.compared if self.compared else 0.0


class FeatureReport(Record, frozen=True):
    """One comparison of features with the raw tables.

    Attributes:
        report_id: Ordered by time.
        origin: ``online`` for what is in the online store now, ``served`` for what scores saw.
        subject: The view for ``online``, the deployment for ``served``.
        from_us: Start of the scores' window, in microseconds since 1970 UTC; ``to_us`` for
            ``online``.
        to_us: When it was looked; the end of the scores' window.
        checks: What was found, by column.
        skipped: What could not be computed again, and why, by ``model@version``; for ``online`` by
            view.
        created_at: When.
    """

    KIND: ClassVar[str] = "feature_report"
    INDEXED: ClassVar[tuple[str, ...]] = ("origin", "subject")

    report_id: str
    origin: CheckOrigin
    subject: str
    from_us: int
    to_us: int
    checks: tuple[FeatureCheck, ...]
    created_at: datetime
    skipped: Mapping[str, str] = {}

    @property
    def key(self) -> str:
        """The report's id."""
        return self.report_id

    def above(self, max_rate: float) -> tuple[FeatureCheck, ...]:
        """The columns of which a greater share than that differs."""
        return tuple(check for check in self.checks if check.rate > max_rate)
