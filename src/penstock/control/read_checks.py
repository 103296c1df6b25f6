"""Whether the features that feature servers answered with are those of the raw tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.errors import DeclarationError, NotReadyError, UserCodeError
from penstock.features import compare_columns, expected_features, request_dtype
from penstock.ports import Delete, Put
from penstock.records import ReadSamples
from penstock.spec import base_views

from .feature_reports import SAMPLE, report_of
from .recomputing import batches_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ports import Services
    from penstock.records import FeatureCheck, FeatureReport, ReadSample
    from penstock.spec import FeatureService

__all__ = ["check_reads", "forget_reads"]

KEPT_US = 48 * 3_600_000_000


def check_reads(  # noqa: PLR0913 - what is checked
    services: Services,
    service: FeatureService,
    *,
    from_us: int,
    to_us: int,
    sample: int = SAMPLE,
    seed: int = 0,
) -> FeatureReport | None:
    """Compare what feature servers answered with the raw tables, and store the report.

    Each sampled row is computed again as of its time, out of the raw batches that its values held.
    Rows that were answered while the service meant something else are left out.

    Args:
        services: The ports; uses tables, metadata and the clock.
        service: The service.
        from_us: Rows answered after this, in microseconds since 1970 UTC.
        to_us: Rows answered until this.
        sample: How many rows; all where there are fewer.
        seed: Which ones.

    Returns:
        The report; none where nothing was answered in that time.
    """
    found = services.metadata.find(ReadSamples, where={"service": service.name})
    rows = [
        row
        for samples in found
        if samples.service_id == service.service_id
        for row in samples.rows
        if from_us < row.read_us <= to_us
    ]
    if not rows or not base_views(service.views):
        return None
    if len(rows) > sample:
        chosen = np.random.default_rng(seed).choice(len(rows), sample, replace=False)
        rows = [rows[place] for place in sorted(chosen.tolist())]
    checks: Sequence[FeatureCheck] = ()
    skipped: dict[str, str] = {}
    try:
        checks = _compared(services, service, rows)
    except (DeclarationError, UserCodeError, NotReadyError) as error:
        # Reports are read by all: no words of a user's function go into them.
        skipped[service.name] = error.plain
    report = report_of(
        services, "read", service.name,
        from_us=from_us, to_us=to_us, checks=checks, skipped=skipped,
    )  # fmt: skip
    services.metadata.write(Put(report))
    return report


def forget_reads(services: Services, *, to_us: int) -> None:
    """Forget what processes answered that have written nothing for two days."""
    for samples in services.metadata.find(ReadSamples):
        if samples.written_us < to_us - KEPT_US:
            services.metadata.write(Delete(samples))


def _compared(
    services: Services, service: FeatureService, rows: Sequence[ReadSample]
) -> list[FeatureCheck]:
    keys = {entity.name: entity.dtype for entity in service.entities}
    spine = pl.DataFrame(
        [
            *(
                pl.Series(name, [row.keys[name] for row in rows], dtype=request_dtype(dtype))
                for name, dtype in keys.items()
            ),
            *(
                pl.Series(
                    name,
                    [row.request[name] for row in rows],
                    dtype=request_dtype(dtype),
                    strict=False,
                )
                for name, dtype in service.request_fields.items()
            ),
            pl.Series("at", [row.as_of_us for row in rows]).cast(pl.Datetime("us", "UTC")),
        ]
    )
    expected = expected_features(
        services.tables,
        service.views,
        spine,
        batches=batches_of(service.views, [row.progress for row in rows]),
        memory_bytes=services.features_memory_bytes,
    )
    first = next(iter(keys))
    seen = np.array([row.values for row in rows], dtype=np.float64)  # None becomes NaN
    return compare_columns(service.names, seen, expected, spine[first].to_list())
