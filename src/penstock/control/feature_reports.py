"""The report of a comparison of features with the raw tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.records import FeatureReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from penstock.ports import Services
    from penstock.records import CheckOrigin, FeatureCheck

__all__ = ["SAMPLE", "report_of"]

SAMPLE = 500
"""How many entities, scores or answers are compared where nothing else is said."""


def report_of(  # noqa: PLR0913 - what the record says
    services: Services,
    origin: CheckOrigin,
    subject: str,
    *,
    from_us: int,
    to_us: int,
    checks: Iterable[FeatureCheck] = (),
    skipped: Mapping[str, str] = {},
) -> FeatureReport:
    """The report of what was found, as of now; one that is made again for a time has the same id.

    Args:
        services: The ports; uses the clock.
        origin: What was compared.
        subject: The view, deployment or service.
        from_us: As the report has it, and so are the rest.
        to_us: The end of the window.
        checks: What was found, by column.
        skipped: What could not be computed, and why.
    """
    return FeatureReport(
        report_id=f"{to_us:016d}-{origin}-{subject}",
        origin=origin,
        subject=subject,
        from_us=from_us,
        to_us=to_us,
        checks=tuple(checks),
        created_at=services.clock.now(),
        skipped=skipped,
    )
