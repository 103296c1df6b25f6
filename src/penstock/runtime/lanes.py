"""Threads of the stream process: each does one thing again and again, and none stops another."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import structlog

from penstock import control, ingest, monitoring, scoring
from penstock.errors import PenstockError
from penstock.features import layouts_of
from penstock.records import Aliases

from .preceding import Preceding
from .sharing import Share

if TYPE_CHECKING:
    from penstock.spec import Source

    from .services import LocalServices

__all__ = ["DrainLane", "Lane", "SourceLane", "VectorLane"]

FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 30.0
POLL_S = 0.05
DRAIN_S = 1.0
REFRESH_S = 2.0
DRAIN, VECTORS = "drain", "vectors"
VECTORS_S = 2.0


class Lane(ABC):
    """A thread that takes turns until it is told to stop.

    A turn that fails is logged and tried again, after a wait that doubles up to 30 s.

    Args:
        services: The project.
        name: What it is about, for the logs.
        pause_s: Wait between two turns.
    """

    def __init__(self, services: LocalServices, name: str, pause_s: float) -> None:
        self._services = services
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._log = structlog.get_logger("penstock.stream").bind(lane=name)
        self._thread = threading.Thread(target=self._run, name=f"lane-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the turn it is at."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended."""
        self._thread.join(timeout_s)

    @abstractmethod
    def turn(self) -> None:
        """Do what there is to do now."""

    def _run(self) -> None:
        failures = 0
        while not self._stop.wait(self._wait_s(failures)):
            try:
                self.turn()
                failures = 0
            except PenstockError as error:
                failures += 1
                self._log.warning("failed, will be tried again", error=str(error), tries=failures)
            except Exception:  # noqa: BLE001 - a bug met in one lane must not stop the others
                failures += 1
                self._log.exception("failed, will be tried again", tries=failures)

    def _wait_s(self, failures: int) -> float:
        if not failures:
            return self._pause_s
        return float(min(FIRST_BACKOFF_S * 2 ** min(failures, 10), LONGEST_BACKOFF_S))


class SourceLane(Lane):
    """Takes a source's messages into its raw table, and its new batches into the online features.

    One process takes in a source at a time, and one has each partition of a view; which does what,
    all stream processes share out among themselves. Messages are gathered until there are enough of
    them, or the first has waited long enough: each micro-batch is one commit of the table.

    Args:
        services: The project.
        source: The source.
        share: What this process has of what there is to do; all when left out.
    """

    def __init__(self, services: LocalServices, source: Source, share: Share | None = None) -> None:
        super().__init__(services, source.name, POLL_S)
        self._source = source
        self._share = share or Share(services)
        self._lookups = ingest.Lookups(services.tables)
        self._preceding = Preceding(services.log, source)
        self._done = -1  # offset up to which nothing waits; unknown before the first turn
        self._waiting_since_s: float | None = None
        self._views: dict[str, int] = {}  # spaces of its views, and how many partitions they have
        self._refreshed: object = None  # what the views have been refreshed for
        self._taken_in = -1  # offset up to which messages were in the tables
        self._mine: list[list[int]] = []  # the partitions this process has of each
        self._next_refresh_s = 0.0

    def turn(self) -> None:
        """Ingest a micro-batch when one is due, then bring the features up to date."""
        takes_in = self._share.has(ingest.intake_lock(self._source.name))
        ingested = takes_in and self._is_due() and self._ingest()
        if self._has_news() or ingested or time.monotonic() >= self._next_refresh_s:
            self._refresh()
            self._next_refresh_s = time.monotonic() + REFRESH_S

    def _has_news(self) -> bool:
        """Whether any process took in messages, or other partitions are this one's now."""
        before = self._taken_in
        self._taken_in = self._services.log.committed(self._source.topic, ingest.GROUP)
        mine = [self._share.slots(space, count) for space, count in self._views.items()]
        news = self._taken_in != before or mine != self._mine
        self._mine = mine
        return news

    def _is_due(self) -> bool:
        settings = self._services.settings
        end = self._services.log.end(self._source.topic)
        if end <= self._done:
            return False
        if self._done < 0 or end - self._done >= settings.stream_batch_rows:
            return True
        now_s = time.monotonic()
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
        return now_s - self._waiting_since_s >= settings.stream_wait_ms / 1000

    def _ingest(self) -> bool:
        """Take one micro-batch in; whether there was one."""
        end = self._preceding.upto()
        if end is None:
            return False
        topic, log = self._source.topic, self._services.log
        limit = self._services.settings.stream_batch_rows
        batch = ingest.ingest_log(
            self._services,
            self._source,
            limit=limit,
            upto=end if self._source.lookups else None,
            locks=self._share,
            lookups=self._lookups,
        )
        if log.committed(topic, ingest.GROUP) >= end:
            self._done = end
            self._waiting_since_s = None
        if batch is not None:
            self._log.info(
                "ingested",
                batch=batch.batch_id,
                read=batch.read,
                stored=batch.stored,
                quarantined=batch.quarantined,
                duplicates=batch.duplicates,
                found_nothing=batch.found_nothing,
            )
        return batch is not None

    def _refresh(self) -> None:
        """Fold new batches, of whatever origin, into the views."""
        services, table = self._services, f"raw/{self._source.name}"
        if services.tables.version(table) is None:
            return
        # A version that begins to answer may read a view that nobody has kept up to date.
        answering = sum(one.revision for one in services.metadata.find(Aliases))
        wanted = control.wanted_partitions(services)
        layouts = layouts_of(services.online, list(self._views))
        number = services.tables.applied(table, table)
        state = (number, answering, wanted, layouts, self._mine)
        if self._refreshed == state:
            return
        control.refresh_features(services, self._source.name, locks=self._share, slots=self._slots)
        control.drop_unread_spaces(services)
        self._refreshed = state

    def _slots(self, space: str, count: int) -> list[int]:
        self._views[space] = count
        return self._share.slots(space, count)


class VectorLane(Lane):
    """Writes precomputed vectors anew once they no longer hold; one process does.

    Windows move with the clock. New batches are seen to by the lane of their source.

    Args:
        services: The project.
        share: What this process has of what there is to do; all when left out.
    """

    def __init__(self, services: LocalServices, share: Share | None = None) -> None:
        super().__init__(services, "vectors", VECTORS_S)
        self._share = share or Share(services)

    def turn(self) -> None:
        """Write what has come to its end."""
        if not self._share.has(VECTORS):
            return
        found = control.refresh_ready_vectors(self._services)
        written = sum(one.written for one in found)
        if written:
            self._log.info("wrote vectors", written=written)


class DrainLane(Lane):
    """Moves logged scores and arrived observations into their tables; one process does.

    Args:
        services: The project.
        share: What this process has of what there is to do; all when left out.
    """

    def __init__(self, services: LocalServices, share: Share | None = None) -> None:
        super().__init__(services, "scores and observations", DRAIN_S)
        self._share = share or Share(services)

    def turn(self) -> None:
        """Move what there is."""
        if not self._share.has(DRAIN):
            return
        moved = read = 0
        # Neither waits for the other: a damaged file of scores must not hold up the outcomes.
        try:
            moved = scoring.drain_scores(self._services)
        finally:
            read = monitoring.drain_observations(self._services)
        if moved or read:
            self._log.info("drained", scores=moved, observations=read)
