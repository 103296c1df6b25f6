"""Signs of life: who runs on this project, and whether they still do."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import psutil
import structlog

from penstock.errors import PenstockError
from penstock.ports import Delete, Put
from penstock.records import Process

from .decoding import prepare_decoding

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from penstock.ports import Clock, Ids, Metadata

__all__ = ["Actor", "Heartbeat", "is_alive", "living_processes", "runs_since"]

BEAT_S = 2.0
SILENT_AFTER = timedelta(seconds=30)
SAME_START = timedelta(seconds=2)  # clocks of the process table and of the record


class Actor(Protocol):
    """What a process that shows signs of life has, of all its services."""

    @property
    def kind(self) -> str:
        """What kind of process it is."""
        ...

    @property
    def metadata(self) -> Metadata:
        """Records."""
        ...

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    @property
    def ids(self) -> Ids:
        """New identifiers."""
        ...


class Heartbeat:
    """Keeps this process's record fresh while the context is open, and removes it at the end.

    A process that is killed leaves its record behind; ``living_processes`` tells it from the
    living by the process table, at once.

    Args:
        services: The project.
        address: Where the process answers, such as ``http://127.0.0.1:8001``; empty when it does
            not.
        executor_id: Name under which it runs workflows; empty when it runs none.
    """

    def __init__(self, services: Actor, *, address: str = "", executor_id: str = "") -> None:
        self._services = services
        started = datetime.fromtimestamp(psutil.Process().create_time(), tz=UTC)
        self._record = Process(
            process_id=os.getpid(),
            kind=services.kind,
            started_at=started,
            seen_at=services.clock.now(),
            executor_id=executor_id,
            address=address,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_on, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        prepare_decoding()  # its thread is the first of several in whatever shows these signs
        self._services.metadata.write(Put(self._record))
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._services.metadata.write(Delete(self._record))

    def _keep_on(self) -> None:
        log = structlog.get_logger("penstock.heartbeat")
        while not self._stop.wait(BEAT_S):
            seen = Process(
                process_id=self._record.process_id,
                kind=self._record.kind,
                started_at=self._record.started_at,
                seen_at=self._services.clock.now(),
                executor_id=self._record.executor_id,
                address=self._record.address,
            )
            try:
                self._services.metadata.write(Put(seen))
            except PenstockError as error:  # the next beat may pass; silence counts after 30 s
                log.warning("no heartbeat was written", error=str(error))


def is_alive(process: Process, now: datetime, *, silent_after: timedelta = SILENT_AFTER) -> bool:
    """Whether the process that wrote the record still runs.

    Args:
        process: The record.
        now: The time.
        silent_after: A process whose last heartbeat is older counts as gone.
    """
    if now - process.seen_at >= silent_after:
        return False
    return runs_since(process.process_id, process.started_at)


def runs_since(process_id: int, started_at: datetime) -> bool:
    """Whether a process is in the process table with that time of start: ids are used again.

    One that has ended and that its parent has not asked after runs no more.
    """
    try:
        process = psutil.Process(process_id)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        started = datetime.fromtimestamp(process.create_time(), tz=UTC)
    except psutil.NoSuchProcess:
        return False
    return abs(started - started_at) < SAME_START


def living_processes(services: Actor, *, kind: str = "") -> list[Process]:
    """The processes that run on this project now, of one kind or of all."""
    where = {"kind": kind} if kind else None
    now = services.clock.now()
    return [found for found in services.metadata.find(Process, where=where) if is_alive(found, now)]
