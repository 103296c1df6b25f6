"""What a worker keeps in memory between two looks for work, so that a look at nothing costs little.

None of it is needed: who forgets it reads more and comes to the same. So it may be behind what
other workers do, and is never ahead of what is stored.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from penstock.plan import Catalogue
from penstock.ports import EVENTS_TOPIC
from penstock.records import AppliedDeclaration, AppliedProject

if TYPE_CHECKING:
    from collections.abc import Collection

    from penstock.ports import EventLog, Metadata, Workflows

__all__ = ["PAGE", "Arrivals", "Arrived", "Known", "micros"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PAGE = 1_000


class Arrived(NamedTuple):
    """A batch of records that was stored.

    Attributes:
        at_us: When it was announced, in microseconds since 1970 UTC.
        source: Its source.
        batch_id: The batch.
    """

    at_us: int
    source: str
    batch_id: str


class _Happened(msgspec.Struct):
    """What is read of an event."""

    kind: str
    subject: str
    ids: dict[str, str]


class Known:
    """What was found out by the looks before. One thread uses it."""

    def __init__(self) -> None:
        self._project: AppliedProject | None = None
        self._applied_us: dict[str, int] = {}
        self._catalogue = Catalogue({}, {})
        self._runs: dict[str, str] = {}
        self._passed: dict[str, int] = {}
        self._committed: dict[str, int] = {}

    def look(self, metadata: Metadata) -> tuple[Catalogue, dict[str, int]]:
        """What is applied, and when each declaration was, in microseconds since 1970 UTC.

        It is read again when a project has been applied anew: reading and building thousands of
        declarations takes longer than all else of a look.
        """
        # Read first: whoever applies between the two is seen by the next look.
        project = metadata.read(AppliedProject, "project")
        if project is None or project != self._project:
            records = metadata.find(AppliedDeclaration)
            self._applied_us = {record.key: micros(record.applied_at) for record in records}
            self._catalogue = Catalogue.of(records)
            self._project = project
        return self._catalogue, self._applied_us

    def remembers(self, occasion: str, run_id: str) -> bool:
        """Whether it is remembered that the run of an occasion was submitted; asks nobody."""
        return self._runs.get(occasion) == run_id

    def was_submitted(self, workflows: Workflows, occasion: str, run_id: str) -> bool:
        """Whether there is a run of that id; asked no more of an occasion's newest that there is.

        Args:
            workflows: Knows the runs.
            occasion: What calls for runs one after the other.
            run_id: The run it calls for now.
        """
        if self.remembers(occasion, run_id):
            return True
        if workflows.get(run_id) is None:
            return False
        self._runs[occasion] = run_id
        return True

    def passed(self, log: EventLog, group: str) -> int:
        """The offset up to which nothing calls for a run of a group of consumers."""
        if group not in self._passed:
            self._passed[group] = self._committed[group] = log.committed(EVENTS_TOPIC, group)
        return self._passed[group]

    def passes(self, log: EventLog, group: str, offset: int, *, durably: bool = False) -> None:
        """Nothing up to an offset calls for a run of a group.

        It is stored only once in a while: events of others come all the time, and thousands of
        groups pass over each of them.

        Args:
            log: The event log.
            group: The group.
            offset: The offset.
            durably: Whether to store it now.
        """
        self._passed[group] = offset
        if durably or offset - self._committed[group] >= PAGE:
            log.commit(EVENTS_TOPIC, group, offset)
            self._committed[group] = offset


class Arrivals:
    """The batches that were announced, read once for all who ask within a look.

    Args:
        log: The event log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._pages: dict[int, tuple[list[Arrived], int]] = {}
        self.end = log.end(EVENTS_TOPIC)

    def after(self, offset: int, sources: Collection[str]) -> tuple[list[Arrived], int]:
        """Batches of some sources in the page of events after an offset, and where that ends."""
        if offset not in self._pages:
            page = self._log.read(EVENTS_TOPIC, after=offset, limit=PAGE)
            found: list[Arrived] = []
            for entry in page:
                event = msgspec.json.decode(entry.payload, type=_Happened)
                if event.kind == "raw.ingested":
                    found.append(Arrived(entry.at_us, event.subject, event.ids["batch_id"]))
            self._pages[offset] = (found, page[-1].offset)
        batches, last = self._pages[offset]
        return [one for one in batches if one.source in sources], last


def micros(moment: datetime) -> int:
    """A time in microseconds since 1970 UTC."""
    return (moment - EPOCH) // timedelta(microseconds=1)
