"""Finishing what a killed ingestion began."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import InputError

from .deletions import finish_deletion
from .files import open_file, parse_file
from .intake import Intake, announce_batch, close_without_file, newest_batch, take_in
from .messages import messages_intake

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import Batch
    from penstock.spec import Source

    from .files import FileContent

__all__ = ["Settled", "file_intake", "finish_started"]


class Settled(NamedTuple):
    """How far a source has come.

    Attributes:
        number: Number of its newest batch, which is stored, and so is every one before; 0 for none.
        finished: That batch, where it had to be finished.
    """

    number: int
    finished: Batch | None = None


def finish_started(services: Services, source: Source) -> Settled:
    """Finish the source's batch that is ``started``; the caller holds ``intake_lock``.

    What is looked up after this, such as how far the log has been read, holds as long as no batch
    has a greater number: so whoever begins one gives it the next, and nobody else can.
    """
    newest = newest_batch(services, source)
    if newest is None:
        return Settled(0)
    if newest.state == "started":
        return Settled(newest.number, _finish(services, source, newest))
    announce_batch(services, newest)
    return Settled(newest.number)


def file_intake(source: Source, content: FileContent) -> Intake:
    """A file as an intake."""
    return Intake(
        origin=f"file:{content.shown}",
        sha256=content.sha256,
        parse=lambda arrived_at: parse_file(source, content, arrived_at),
        commit=lambda: None,
        senders={},
    )


def _finish(services: Services, source: Source, started: Batch) -> Batch:
    kind, _, rest = started.origin.partition(":")
    if started.deletion is not None:
        return finish_deletion(services, source, started, started.deletion)
    if kind == "log":
        topic, _, offsets = rest.rpartition(":")
        first, _, last = offsets.partition("-")
        intake = messages_intake(services.log, source, topic, int(first), int(last))
        return take_in(services, source, intake, started.number, started=started)
    content = _same_file(services.home, rest, started.sha256)
    if content is None:
        return close_without_file(services, started)
    intake = file_intake(source, content)
    return take_in(services, source, intake, started.number, started=started)


def _same_file(home: Path, shown: str, sha256: str) -> FileContent | None:
    try:
        content = open_file(home, Path(shown))
    except InputError:
        return None
    return content if content.sha256 == sha256 else None
