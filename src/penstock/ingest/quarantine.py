"""The records that broke a rule, as they came, with the reasons."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import polars as pl

from penstock.records import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Services
    from penstock.spec import Source

__all__ = ["Quarantined", "QuarantinedRecord", "quarantined_records"]


class QuarantinedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record that broke a rule.

    Attributes:
        batch_id: The batch it came with.
        origin: Where that came from: ``file:<path>`` or ``log:<topic>:<first>-<last>``.
        row: Which of the batch's records it is, from 1.
        arrived_at: When it came.
        reasons: The rules it broke.
        record: The record, as it came; of a CSV file as JSON.
    """

    batch_id: str
    origin: str
    row: int
    arrived_at: datetime
    reasons: tuple[str, ...]
    record: str


class Quarantined(NamedTuple):
    """What is in a source's quarantine.

    Attributes:
        records: The newest of those asked for, the newest batch first, in it by row.
        total: How many are asked for, shown or not.
        reasons: How many of these broke each rule.
    """

    records: list[QuarantinedRecord]
    total: int
    reasons: Mapping[str, int]


def quarantined_records(
    services: Services, source: Source, *, reason: str = "", batch_id: str = "", limit: int
) -> Quarantined:
    """Look into a source's quarantine.

    Args:
        services: The ports.
        source: The source.
        reason: Only records that broke a rule that begins so, such as ``"positive"``; all when
            empty.
        batch_id: Only those of this batch; of all when empty.
        limit: At most so many records.
    """
    name = f"quarantine/{source.name}"
    if services.tables.version(name) is None:
        return Quarantined([], 0, {})
    rows = services.tables.scan(name)
    if reason:
        broken = pl.element().str.starts_with(reason)
        rows = rows.filter(pl.col("_reasons").list.eval(broken).list.any())
    if batch_id:
        rows = rows.filter(pl.col("_batch_id") == batch_id)
    counts = rows.select(pl.col("_reasons").explode().value_counts(name="records")).unnest(
        "_reasons"
    )
    reasons = dict(counts.sort("_reasons").collect().iter_rows())
    total: int = rows.select(pl.len()).collect().item()
    newest = rows.sort("_batch", "_row", descending=[True, False]).limit(limit).collect()
    origins = {number: _origin(services, source, number) for number in newest["_batch"].unique()}
    records = [
        QuarantinedRecord(
            batch_id=row["_batch_id"],
            origin=origins[row["_batch"]],
            row=row["_row"] + 1,
            arrived_at=row["_arrived_at"],
            reasons=tuple(row["_reasons"]),
            record=row["_record"],
        )
        for row in newest.iter_rows(named=True)
    ]
    return Quarantined(records, total, reasons)


def _origin(services: Services, source: Source, number: int) -> str:
    batch = services.metadata.read(Batch, Batch.key_of(source.name, number))
    return batch.origin if batch else ""
