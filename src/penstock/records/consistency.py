"""Reports on whether features are what the raw tables say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal, TypeAlias

import msgspec

from .base import Record
from .serving import Given

__all__ = ["CheckOrigin", "FeatureCheck", "FeatureReport", "ReadSample", "ReadSamples"]

CheckOrigin: TypeAlias = Literal["online", "served", "read"]


class FeatureCheck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found of one column.

    Attributes:
        feature: Full name of the column.
        compared: Number of values.
        mismatches: How many of them differ.
        worst: Greatest difference, as a share of the value it should be, or of what that is rounded
            from where this is more; none where a null met a value.
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
        origin: ``online`` for what is in the online store now, ``served`` for what scores saw,
            ``read`` for what feature servers answered.
        subject: The view for ``online``, the deployment for ``served``, the service for ``read``.
        from_us: Start of the window of scores or answers, in microseconds since 1970 UTC; ``to_us``
            for ``online``.
        to_us: When it was looked; the end of the window.
        checks: What was found, by column.
        skipped: What could not be computed again, and why, by ``model@version``; for ``online`` by
            view, for ``read`` by service.
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


class ReadSample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row that a feature server answered.

    Attributes:
        read_us: When, in microseconds since 1970 UTC.
        as_of_us: The time its values are of.
        keys: The key of each entity.
        request: The request fields.
        values: The values in the service's order, None for null.
        progress: The last raw batch that they contain, by view.
    """

    read_us: int
    as_of_us: int
    keys: Mapping[str, Given]
    request: Mapping[str, Given]
    values: tuple[float | None, ...]
    progress: Mapping[str, int]


class ReadSamples(Record, frozen=True):
    """The last rows that a process answered of a feature service, a few of them.

    Attributes:
        service: The service.
        service_id: Its id, by which it is known what the values meant.
        process: Who answered.
        rows: The rows, in the order of their answers.
        written_us: When they were written.
    """

    KIND: ClassVar[str] = "read_samples"
    INDEXED: ClassVar[tuple[str, ...]] = ("service",)

    service: str
    service_id: str
    process: str
    rows: tuple[ReadSample, ...]
    written_us: int

    @property
    def key(self) -> str:
        """The service and the process."""
        return f"{self.service}@{self.process}"
