"""The protocol by which a deletion counts wholly or not at all.

Raw data is never rewritten, so a deletion is a batch of its own, under ``intake_lock``
like every batch (see ``penstock.ingest.intake``):

1. The batch gets the next number ``n``, and its record is written as ``started``, with what is
   asked for.
2. Its tombstones are appended under (``tombstones/<source>``, n). They count for nobody yet:
   readers take those up to the number that the raw table has reached.
3. The raw table gets the number ``n`` without rows. From this commit on the deletion counts, for
   whoever reads that version of the raw table or a later one.
4. The record becomes ``stored``, with an audit entry; then ``raw.deleted`` is announced.

Killed before 1, nothing happened. Killed later, the next batch of the source, or the same deletion
asked for again, finishes it from its record first.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import polars as pl

from penstock.ports import Put
from penstock.records import Batch
from penstock.spec import fingerprint

from .columns import POLARS_TYPES
from .intake import store_batch
from .tombstones import raw_name, read_tombstones, tombstone_name

if TYPE_CHECKING:
    from penstock.ports import Services, Tables
    from penstock.records import Deletion
    from penstock.spec import Source

__all__ = ["begin_deletion", "deletion_of", "finish_deletion", "stored_deletions"]


def begin_deletion(
    services: Services, source: Source, deletion: Deletion, deleted: int, *, number: int
) -> Batch:
    """Make a deletion a stored batch; the caller holds ``intake_lock``.

    Args:
        services: The ports.
        source: The source; it has records.
        deletion: What is asked for.
        deleted: How many records it takes away.
        number: The batch's number: the next after the newest when the records were looked up.

    Raises:
        ConflictError: Another process has used the number since; nothing was written.
    """
    sha256 = _sha256(deletion.delete_id)
    started = Batch(
        source=source.name,
        number=number,
        batch_id=f"{source.name}-{number}-{sha256[:8]}",
        origin=f"delete:{deletion.delete_id}",
        sha256=sha256,
        state="started",
        arrived_at=services.clock.now(),
        fingerprint=fingerprint(source),
        deletion=deletion,
        deleted=deleted,
    )
    services.metadata.write(Put(started, expected=None))
    return finish_deletion(services, source, started, deletion)


def finish_deletion(
    services: Services, source: Source, started: Batch, deletion: Deletion
) -> Batch:
    """Do what is left of a deletion; what is done already changes nothing."""
    name, raw, number = tombstone_name(source), raw_name(source), started.number
    services.tables.append(name, _rows(source, started, deletion), app=name, number=number)
    services.tables.append(raw, _no_rows(services.tables, raw), app=raw, number=number)
    return store_batch(services, started, started)


def deletion_of(services: Services, source: Source, delete_id: str) -> Batch | None:
    """The batch that a deletion has become; None where there is none of that id."""
    where = {"source": source.name, "sha256": _sha256(delete_id)}
    found = [batch for batch in services.metadata.find(Batch, where=where) if batch.deletion]
    return found[0] if found else None


def stored_deletions(services: Services, source: Source) -> list[Batch]:
    """The batches of a source that are deletions and count, newest first.

    Args:
        services: The ports; uses tables and metadata.
        source: The source.
    """
    found = read_tombstones(services.tables, source)
    if found is None:
        return []
    numbers = found.frame["_batch"].unique().sort(descending=True)
    read = services.metadata.read
    batches = [read(Batch, Batch.key_of(source.name, number)) for number in numbers]
    return [batch for batch in batches if batch is not None]


def _sha256(delete_id: str) -> str:
    return hashlib.sha256(f"delete:{delete_id}".encode()).hexdigest()


def _rows(source: Source, batch: Batch, deletion: Deletion) -> pl.DataFrame:
    """A tombstone per entity."""
    key, stamp = source.entity.name, source.timestamp
    at = pl.lit(deletion.at_us, dtype=pl.Int64).cast(POLARS_TYPES[source.schema[stamp]])
    keys = pl.Series(key, deletion.keys, dtype=POLARS_TYPES[source.entity.dtype])
    return keys.to_frame().with_columns(
        at.alias(stamp),
        pl.lit(batch.number, dtype=pl.Int64).alias("_batch"),
        pl.lit(batch.batch_id).alias("_batch_id"),
        pl.lit(batch.arrived_at).dt.cast_time_unit("us").alias("_arrived_at"),
        pl.lit(deletion.delete_id).alias("_delete_id"),
        pl.lit(deletion.actor).alias("_actor"),
        pl.lit(deletion.reason).alias("_reason"),
    )


def _no_rows(tables: Tables, name: str) -> pl.DataFrame:
    return pl.DataFrame(schema=tables.scan(name).collect_schema())
