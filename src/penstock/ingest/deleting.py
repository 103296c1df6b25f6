"""Records taken away: what a deletion would hit, and the deletion itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import polars as pl

from penstock.errors import ConflictError, InputError, NotFoundError, NotReadyError
from penstock.spec import DType

from .batches import LOCK_WAIT_S, ingest_waiting
from .deletions import begin_deletion, deletion_of
from .intake import intake_lock
from .recovery import finish_started
from .tombstones import raw_name, remaining_records

if TYPE_CHECKING:
    from penstock.ports import Services, Tables
    from penstock.records import Batch, Deletion
    from penstock.spec import Source

__all__ = ["delete_records", "deletion_hits"]

LONGEST_ID = 200
INT64_LIMIT = 2**63


def deletion_hits(tables: Tables, source: Source, deletion: Deletion) -> pl.DataFrame:
    """The records that a deletion would take away now.

    Args:
        tables: Where the raw table is.
        source: The source.
        deletion: What is asked for.

    Returns:
        The key of each entity with such records, ``records`` (how many), and ``first`` and ``last``
        (their times), by key.

    Raises:
        InputError: The deletion does not fit the source.
        NotReadyError: The source has no records yet.
    """
    _check(source, deletion)
    if tables.version(raw_name(source)) is None:
        raise NotReadyError(
            f"The source {source.name!r} has no records yet, so there is nothing to delete.",
            source=source.name,
        )
    key, stamp = source.entity.name, source.timestamp
    records = remaining_records(tables, source, columns=[key, stamp])
    records = records.filter(pl.col(key).is_in(list(deletion.keys)))
    if deletion.at_us is not None:
        records = records.filter(pl.col(stamp).dt.epoch("us") == deletion.at_us)
    counted = records.group_by(key).agg(
        pl.len().cast(pl.Int64).alias("records"),
        pl.col(stamp).min().alias("first"),
        pl.col(stamp).max().alias("last"),
    )
    return counted.sort(key).collect()


def delete_records(services: Services, source: Source, deletion: Deletion) -> Batch:
    """Take records away from everything that is computed from now on; raw data stays as it is.

    Messages that wait on the source's topic are taken in first, so that whatever was acknowledged
    before counts as there. A deletion of the same id is done once, however often it is asked for.
    See ``penstock.ingest.deletions`` for what holds at a crash.

    Args:
        services: The ports; their actor is who asks.
        source: The source, as applied.
        deletion: Which records, and why.

    Returns:
        The batch that the deletion is, ``stored``.

    Raises:
        InputError: The deletion does not fit the source.
        NotReadyError: The source has no records yet.
        NotFoundError: There is no such record, or none any more.
        ConflictError: Another deletion has that id.
        UnavailableError: Another process ingests the source and does not end.
    """
    _check(source, deletion)
    deletion = msgspec.structs.replace(deletion, actor=services.actor)
    ingest_waiting(services, source)
    with services.leases.hold(intake_lock(source.name), wait_s=LOCK_WAIT_S):
        settled = finish_started(services, source)
        known = deletion_of(services, source, deletion.delete_id)
        if known is not None:
            return _same(known, deletion)
        hits = deletion_hits(services.tables, source, deletion)
        if hits.is_empty():
            raise _nothing(source, deletion)
        records = int(hits["records"].sum())
        return begin_deletion(services, source, deletion, records, number=settled.number + 1)


def _same(known: Batch, deletion: Deletion) -> Batch:
    """The batch of a deletion that has been done before, if it is the same."""
    done = known.deletion
    if done is None or (set(done.keys), done.at_us) != (set(deletion.keys), deletion.at_us):
        raise ConflictError(
            f"A deletion {deletion.delete_id!r} of other records of {known.source!r} was done "
            f"already, as batch {known.batch_id!r}. Give this one another id.",
            delete_id=deletion.delete_id,
            batch_id=known.batch_id,
        )
    return known


def _nothing(source: Source, deletion: Deletion) -> NotFoundError:
    names = ", ".join(repr(key) for key in deletion.keys)
    when = " of that time" if deletion.at_us is not None else ""
    return NotFoundError(
        f"{source.name!r} has no records of {names}{when}, or none that has not been deleted "
        "already. Nothing was deleted.",
        source=source.name,
        keys=list(deletion.keys),
        at_us=deletion.at_us,
    )


def _check(source: Source, deletion: Deletion) -> None:
    """See that a deletion fits a source.

    Raises:
        InputError: It does not; says why.
    """
    name, number = source.entity.name, source.entity.dtype == DType.INT64
    if not deletion.keys:
        raise InputError(f"The deletion names no {name!r}. Name at least one.", source=source.name)
    for key in deletion.keys:
        fits = not isinstance(key, str) and -INT64_LIMIT <= key < INT64_LIMIT
        if fits != number or isinstance(key, bool):
            raise InputError(
                f"{key!r} is no key of {name!r}. Expected {source.entity.dtype.value}.",
                source=source.name,
                key=key,
            )
    text = deletion.delete_id
    if not (0 < len(text) <= LONGEST_ID and text.isprintable()):
        raise InputError(
            f"{text[:40]!r} is no id of a deletion. Give 1 to {LONGEST_ID} printable characters.",
            delete_id=text,
        )
