"""The two ways in: files, and the event log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from penstock.errors import InputError
from penstock.records import Batch
from penstock.spec import fingerprint

from .files import find_files, open_file
from .intake import FILE_GONE, intake_lock, take_in
from .lookups import Lookups
from .messages import GROUP, messages_intake
from .recovery import file_intake, finish_started

if TYPE_CHECKING:
    from penstock.ports import Locks, Services
    from penstock.spec import Source

__all__ = ["Progress", "ingest_files", "ingest_log", "ingest_waiting"]

Progress: TypeAlias = Callable[[str, float], None]
"""Called with what is being done, and the share of the work that is behind, from 0 to 1."""

LOCK_WAIT_S = 300.0
BATCH_ROWS = 5000


def ingest_files(
    services: Services,
    source: Source,
    *,
    paths: Sequence[Path | str] | None = None,
    progress: Progress | None = None,
) -> list[Batch]:
    """Take files into a source's raw table, each as one batch.

    A file is recognised by the hash of its bytes: one that was taken in already, under the same
    declaration of the source, is answered with its batch, in which every record is a duplicate, and
    nothing is written. Batches that a killed ingestion left are finished first, and messages of the
    sources that the records are completed from are taken in. See ``penstock.ingest.intake`` for
    what holds at a crash.

    Args:
        services: The ports.
        source: The source, as applied.
        paths: The files; relative ones start in the project folder. Those of the source's pattern
            when left out.
        progress: Told of each file.

    Returns:
        One batch per file, in their order.

    Raises:
        InputError: A file cannot be taken in. All others have been; the message and ``batches``
            among the facts say which.
        UnavailableError: Another process ingests the source and does not end.
    """
    files = _files(services.home, source, paths)
    for other in source.looks_into:
        ingest_waiting(services, other)
    lookups = Lookups(services.tables)
    batches: list[Batch] = []
    faults: list[InputError] = []
    for place, path in enumerate(files):
        if progress is not None:
            progress(f"ingest {path.name}", place / len(files))
        try:
            batches.append(_ingest_file(services, source, path, lookups))
        except InputError as error:
            faults.append(error)
    if progress is not None:
        progress("ingested", 1.0)
    if faults:
        raise _refused(faults, batches)
    return batches


def ingest_log(  # noqa: PLR0913 - which messages, and with whose help
    services: Services,
    source: Source,
    *,
    limit: int = BATCH_ROWS,
    upto: int | None = None,
    locks: Locks | None = None,
    lookups: Lookups | None = None,
) -> Batch | None:
    """Take the next messages of a source's topic into its raw table, as one batch.

    Args:
        services: The ports.
        source: The source, as applied.
        limit: At most so many messages.
        upto: Only messages up to this offset; but a batch that was begun is finished.
        locks: Gives ``intake_lock``, which one process at a time holds; the leases when left out.
        lookups: Completes the records from other sources; whoever comes again gives the same one,
            so that what it has read is read once.

    Returns:
        The batch; one that a killed process left, when it was finished now and nothing else waits;
        None when there was nothing to do.

    Raises:
        UnavailableError: Another process ingests the source and does not end.
    """
    topic, log = source.topic, services.log
    with (locks or services.leases).hold(intake_lock(source.name)):
        settled = finish_started(services, source)
        after = log.committed(topic, GROUP)
        if upto is not None:
            limit = min(limit, upto - after)
        waiting = log.read(topic, after=after, limit=limit) if limit > 0 else []
        if not waiting:
            return settled.finished
        intake = messages_intake(log, source, topic, waiting[0].offset, waiting[-1].offset)
        return take_in(services, source, intake, settled.number + 1, lookups=lookups)


def ingest_waiting(services: Services, source: Source) -> None:
    """Take in every message of a source's topic that is there now.

    Those of the sources that its records are completed from come first.

    Args:
        services: The ports.
        source: The source, as applied.

    Raises:
        UnavailableError: Another process ingests the source and does not end.
    """
    log, lookups = services.log, Lookups(services.tables)
    # What was acknowledged first is among the others' by the time the own end is known.
    end = log.end(source.topic)
    for other in source.looks_into:
        ingest_waiting(services, other)
    while log.committed(source.topic, GROUP) < end:
        ingest_log(services, source, upto=end, lookups=lookups)


def _files(home: Path, source: Source, paths: Sequence[Path | str] | None) -> list[Path]:
    """The files to take in.

    Raises:
        InputError: There are none, or the source says not where they are.
    """
    if paths is not None:
        return [Path(path) for path in paths]
    if source.batch is None:
        raise InputError(
            f"Source {source.name!r} declares no files. Name files in the command, or declare "
            "batch=ps.Files('data/*.csv').",
            source=source.name,
        )
    return find_files(home, source.batch)


def _ingest_file(services: Services, source: Source, path: Path, lookups: Lookups) -> Batch:
    with services.leases.hold(intake_lock(source.name), wait_s=LOCK_WAIT_S):
        settled = finish_started(services, source)
        content = open_file(services.home, path)
        origin = f"file:{content.shown}"
        known = _same_batch(services, source, content.sha256)
        if known is not None:
            return msgspec.structs.replace(
                known,
                origin=origin,
                stored=0,
                quarantined=0,
                duplicates=known.read,
                reasons={},
                lookups=(),
            )
        intake = file_intake(source, content)
        return take_in(services, source, intake, settled.number + 1, lookups=lookups)


def _same_batch(services: Services, source: Source, sha256: str) -> Batch | None:
    """The batch that holds these very bytes, read under this very declaration."""
    found = services.metadata.find(Batch, where={"source": source.name, "sha256": sha256})
    meaning = fingerprint(source)
    whole = [b for b in found if b.fingerprint == meaning and FILE_GONE not in b.reasons]
    return whole[-1] if whole else None


def _refused(faults: Sequence[InputError], batches: Sequence[Batch]) -> InputError:
    done = [batch.batch_id for batch in batches]
    if len(faults) == 1 and not done:
        return InputError(faults[0].message, **dict(faults[0].facts))
    lines = "\n".join(f"  - {fault.message}" for fault in faults)
    rest = f"The other {len(done)} were taken in." if done else "None was taken in."
    rest = "The other one was taken in." if len(done) == 1 else rest
    return InputError(
        f"{len(faults)} of {len(faults) + len(done)} files could not be taken in:\n{lines}\n{rest}",
        faults=[fault.message for fault in faults],
        batches=done,
    )
