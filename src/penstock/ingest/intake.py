"""The protocol by which a batch gets into the tables exactly once.

Under ``intake_lock``, so that one process at a time numbers a source's batches:

1. A batch left ``started`` by a killed process is finished first, so there is at most one.
2. The records are read and sorted, and those to be stored completed from other sources; nothing is
   written yet, so an error leaves nothing behind.
3. The batch gets the next number ``n`` and its record is written as ``started``, with its origin,
   what will become of its records, and how far the other sources were read; with the first that
   is completed with a feature, what that means.
4. The raw rows are appended under (``raw/<source>``, n), the quarantined ones under
   (``quarantine/<source>``, n). A table takes a number once, whoever brings it again.
5. For records of a topic, the offset is committed.
6. The record becomes ``stored``, with an audit entry; then ``raw.ingested`` is announced.

Killed before 3, nothing happened. Killed between 3 and 6, the record is ``started``, and the next
ingestion reads the same records from the same origin (a file of the same hash, the same offsets of
the log), sorts them against what earlier batches stored, looks into other sources as far as the
record says, comes to the same result, and repeats steps 4 to 6, of which those done already change
nothing. After step 4 it takes the counts of the record instead: the declaration may be another one
by now. Killed between the two halves of 6, the event is missing; every ingestion announces the
source's last batch again, and the log knows the event's id.

The lock is a lease: a process that was stopped for long enough, and goes on when another has taken
its place, is in no other position than one that was killed. It has looked up the newest number
before it looked up what waits, and the record of the next is written only where there is none: so
it begins nothing that the other has taken in. A table takes a number once, and both sort the same
records in the same way.

The one thing that cannot be done again is to read a file that is gone. Then the batch is closed
with what its tables hold, and the reason ``file_gone`` says how many records they lack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from penstock.errors import StateError
from penstock.ports import Audit, Put, Services, announce, merge_below
from penstock.records import Batch, Event, EventKind
from penstock.spec import Source, fingerprint

from .columns import POLARS_TYPES
from .layout import former_columns, new_features
from .lookups import Lookups
from .parsed import Parsed
from .sifting import Sifted, sift

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ports import Tables

__all__ = [
    "FILE_GONE",
    "Intake",
    "announce_batch",
    "close_without_file",
    "intake_lock",
    "newest_batch",
    "store_batch",
    "take_in",
]

FILE_GONE = "file_gone"


@dataclass(frozen=True, slots=True)
class Intake:
    """Records that wait to become a batch.

    Attributes:
        origin: Where they come from; see ``Batch.origin``.
        sha256: Hash of their bytes.
        parse: Reads them, given when the batch arrived.
        commit: Called when they are in the tables.
        senders: How many of them each caller sent; empty for a file, which has none.
    """

    origin: str
    sha256: str
    parse: Callable[[datetime], Parsed]
    commit: Callable[[], None]
    senders: Mapping[str, int]


def intake_lock(source: str) -> str:
    """The lease that whoever takes in records of a source holds."""
    return f"ingest/{source}"


def newest_batch(services: Services, source: Source) -> Batch | None:
    """The source's batch with the greatest number, whatever its state; None for none.

    Found by key from the number the raw table has reached, so that it costs the same after a
    million batches; few have a greater one: a started one, and those closed without their file.

    Raises:
        StateError: The raw table lacks records that had been stored.
    """
    raw, metadata = f"raw/{source.name}", services.metadata
    number = services.tables.applied(raw, raw)
    newest = metadata.read(Batch, Batch.key_of(source.name, number))
    while later := metadata.read(Batch, Batch.key_of(source.name, number + 1)):
        if later.state == "stored" and (later.stored or later.deletion):
            raise _lost(source, later, reached=number)
        newest, number = later, number + 1
    return newest


def _lost(source: Source, batch: Batch, *, reached: int) -> StateError:
    return StateError(
        f"The table 'raw/{source.name}' lacks batch {batch.batch_id!r}, which had been stored with "
        f"{batch.stored:,} records. Expected every stored batch in it; its folder was removed, or "
        "an older one put back. Restore it from a backup; nothing was taken in.",
        batch_id=batch.batch_id,
        reached=reached,
    )


def take_in(  # noqa: PLR0913 - what an intake depends on
    services: Services,
    source: Source,
    intake: Intake,
    number: int,
    *,
    started: Batch | None = None,
    lookups: Lookups | None = None,
) -> Batch:
    """Make records a stored batch; the caller holds ``intake_lock``.

    Args:
        services: The ports.
        source: The source.
        intake: The records.
        number: The batch's number: the next after the one that was the newest before it was looked
            up which records wait.
        started: The record of the killed ingestion that is being finished.
        lookups: Completes the records; keeps what it read for the next batch.

    Returns:
        The batch, ``stored``.

    Raises:
        InputError: The records are no records of this source, or the raw table was made by another
            declaration of it; nothing was written.
        ConflictError: Another process has used the number since; nothing was written.
    """
    if started is not None and _is_in_tables(services.tables, started):
        intake.commit()
        return store_batch(services, started, started)
    arrived_at = started.arrived_at if started else services.clock.now()
    former = former_columns(services.tables, source)
    features = new_features(services.metadata, source)
    sifted = sift(services.tables, source, intake.parse(arrived_at), number=number)
    upto = {one.source: one.last_batch for one in started.lookups} if started else {}
    found = (lookups or Lookups(services.tables)).complete(source, sifted.stored, upto=upto)
    sifted = replace(sifted, stored=found.records)
    if started is None:
        started = _started(source, intake, sifted, number=number, arrived_at=arrived_at)
        started = msgspec.structs.replace(started, lookups=found.lookups)
        new = [Put(one, expected=None) for one in features if started.stored]
        services.metadata.write(Put(started, expected=None), *new)
    _append(services.tables, source, started, sifted, former)
    intake.commit()
    judged = msgspec.structs.replace(
        started, fingerprint=fingerprint(source), lookups=found.lookups
    )
    stored = store_batch(services, started, _with_counts(judged, source, sifted))
    below = merge_below(number - 1, number)
    if below is not None:
        _compact(services.tables, source, below)
    return stored


def close_without_file(services: Services, started: Batch) -> Batch:
    """Close a killed batch whose file is gone, with what its tables hold of it."""
    stored = _rows_of(services.tables, f"raw/{started.source}", started.number)
    quarantined = _rows_of(services.tables, f"quarantine/{started.source}", started.number)
    reached = services.tables.applied(f"raw/{started.source}", f"raw/{started.source}")
    duplicates = started.duplicates if reached >= started.number else 0
    read = stored + quarantined + duplicates
    reasons = dict(started.reasons) if quarantined else {}
    if started.read > read:
        reasons[FILE_GONE] = started.read - read
    closed = msgspec.structs.replace(
        started,
        read=read,
        stored=stored,
        quarantined=quarantined,
        duplicates=duplicates,
        reasons=reasons,
        min_at_us=started.min_at_us if stored else None,
        max_at_us=started.max_at_us if stored else None,
        lookups=started.lookups if stored else (),
    )
    return store_batch(services, started, closed)


def announce_batch(services: Services, batch: Batch) -> None:
    """Say that a batch has been stored; said once, however often it is called.

    A batch that stored nothing is not announced: there is no new data. A deletion is announced as
    another event, so that what asks for new data does not take it for some.
    """
    if batch.state != "stored" or not (batch.stored or batch.deletion):
        return
    kind: EventKind = "raw.deleted" if batch.deletion else "raw.ingested"
    event = Event(
        event_id=f"{kind}:{batch.batch_id}",
        kind=kind,
        subject=batch.source,
        ids={"batch_id": batch.batch_id},
        at_us=services.clock.now_us(),
    )
    announce(services.log, event)


def _is_in_tables(tables: Tables, started: Batch) -> bool:
    """Whether everything of a started batch was written.

    Then its counts stand as they are: sorted again, under a declaration that was applied since,
    they could be others than what the tables hold.
    """
    raw, quarantine = f"raw/{started.source}", f"quarantine/{started.source}"
    in_raw = tables.applied(raw, raw) >= started.number
    return in_raw and (
        not started.quarantined or tables.applied(quarantine, quarantine) >= started.number
    )


def _started(
    source: Source, intake: Intake, sifted: Sifted, *, number: int, arrived_at: datetime
) -> Batch:
    bare = Batch(
        source=source.name,
        number=number,
        batch_id=f"{source.name}-{number}-{intake.sha256[:8]}",
        origin=intake.origin,
        sha256=intake.sha256,
        state="started",
        arrived_at=arrived_at,
        fingerprint=fingerprint(source),
        senders=dict(intake.senders),
    )
    return _with_counts(bare, source, sifted)


def _with_counts(batch: Batch, source: Source, sifted: Sifted) -> Batch:
    times = sifted.stored.get_column(source.timestamp).to_physical()
    shift = source.known_after_us
    first, last = times.min(), times.max()
    return msgspec.structs.replace(
        batch,
        read=sifted.read,
        stored=sifted.stored.height,
        quarantined=sifted.quarantined.height,
        duplicates=sifted.duplicates,
        reasons=dict(sifted.reasons),
        min_at_us=first + shift if isinstance(first, int) else None,
        max_at_us=last + shift if isinstance(last, int) else None,
    )


def _append(
    tables: Tables, source: Source, batch: Batch, sifted: Sifted, former: Sequence[str]
) -> None:
    labels = [
        pl.lit(batch.number, dtype=pl.Int64).alias("_batch"),
        pl.lit(batch.batch_id).alias("_batch_id"),
    ]
    tail = ("_batch", "_row", "_batch_id", "_arrived_at")
    raw, quarantine = f"raw/{source.name}", f"quarantine/{source.name}"
    nulls = [pl.lit(None).alias(name) for name in former]
    columns = (*source.schema, *tail, *source.captured)
    rows = sifted.stored.with_columns(labels).select(*columns, *nulls)
    if source.captured:
        types = {name: POLARS_TYPES[one.dtype] for name, one in source.captured.items()}
        tables.widen(raw, types)
    tables.append(raw, rows, app=raw, number=batch.number)
    if sifted.quarantined.height:
        bad = sifted.quarantined.with_columns(labels).select("_record", "_reasons", *tail)
        tables.append(quarantine, bad, app=quarantine, number=batch.number)


def _compact(tables: Tables, source: Source, below_bytes: int) -> None:
    """Merge small files; a kill in the middle leaves the tables as they were."""
    for name in (f"raw/{source.name}", f"quarantine/{source.name}"):
        if tables.version(name) is not None:
            tables.compact(name, below_bytes=below_bytes)


def store_batch(services: Services, started: Batch, counted: Batch) -> Batch:
    """Say that everything of a batch is in its tables: in its record, the audit log and an event.

    Args:
        services: The ports.
        started: Its record as it is.
        counted: The same with what became of its records.
    """
    stored = msgspec.structs.replace(counted, state="stored")
    services.metadata.write(Put(stored, expected=started), audit=_audit_of(services, stored))
    announce_batch(services, stored)
    return stored


def _audit_of(services: Services, batch: Batch) -> Audit:
    """Who did what: for a deletion who asked for it, whoever finishes it."""
    difference: dict[str, object] = {"batch_id": batch.batch_id, "origin": batch.origin}
    deletion = batch.deletion
    if deletion is None:
        names = ("read", "stored", "quarantined", "duplicates")
        difference |= {name: getattr(batch, name) for name in names}
        if batch.senders:
            difference["senders"] = dict(batch.senders)
        return Audit(
            actor=services.actor, action="ingest", subject=batch.source, difference=difference
        )
    difference |= {"keys": list(deletion.keys), "at_us": deletion.at_us}
    difference |= {"reason": deletion.reason, "deleted": batch.deleted}
    return Audit(actor=deletion.actor, action="delete", subject=batch.source, difference=difference)


def _rows_of(tables: Tables, name: str, number: int) -> int:
    if tables.version(name) is None:
        return 0
    rows = tables.scan(name, columns=["_batch"]).filter(pl.col("_batch") == number)
    return int(rows.select(pl.len()).collect().item())
