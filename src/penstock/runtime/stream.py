"""The process ``penstock stream``: events to raw tables and online features, scores to theirs."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from itertools import count
from typing import TYPE_CHECKING

import structlog

from penstock.control import want_partitions
from penstock.errors import PenstockError, UnavailableError
from penstock.plan import Catalogue
from penstock.records import AppliedProject
from penstock.spec import Source

from .heartbeat import Heartbeat
from .lanes import DrainLane, Lane, SourceLane, VectorLane
from .logs import configure_logs
from .services import LocalServices, open_services
from .sharing import Share
from .stopping import stop_on_signals

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["stream", "watch"]

LOOK_S = 0.5
JOIN_S = 8.0


def stream(home: Path) -> None:
    """Move data until SIGTERM or SIGINT; what it is at is finished first.

    Args:
        home: The project folder.
    """
    with (
        stop_on_signals() as stop,
        open_services(home, kind="stream") as services,
        _log_file(services) as name,
    ):
        configure_logs(services.layout.logs, name, level=services.settings.log_level)
        log = structlog.get_logger("penstock.stream")
        want_partitions(services, services.stream_partitions)
        with Heartbeat(services):
            log.info("stream is ready", partitions=services.stream_partitions)
            watch(services, stop)
        log.info("stream stops")


def watch(services: LocalServices, stop: threading.Event) -> None:
    """Keep a lane per applied source; begin anew when another project is applied.

    What there is to do is shared with the other stream processes.

    Args:
        services: The project.
        stop: Ends it when set; what the lanes are at is finished first.
    """
    log = structlog.get_logger("penstock.stream")
    share = Share(services)
    always: list[Lane] = [DrainLane(services, share), VectorLane(services, share)]
    for lane in always:
        lane.start()
    lanes: list[Lane] = []
    seen = -1
    while not stop.wait(LOOK_S):
        try:
            applied = services.metadata.read(AppliedProject, "project")
            revision = applied.revision if applied else 0
            if revision != seen:
                _end(lanes)
                lanes = _source_lanes(services, share)
                seen = revision
        except PenstockError as error:
            log.warning("could not read what is applied", error=str(error))
    _end([*lanes, *always])
    share.close()


@contextmanager
def _log_file(services: LocalServices) -> Generator[str]:
    """A log file that no other stream process writes: files are rotated by their writer."""
    for number in count(1):
        name = "stream" if number == 1 else f"stream-{number}"
        with ExitStack() as stack:
            try:
                stack.enter_context(services.locks.hold(f"log/{name}", wait_s=0))
            except UnavailableError:
                continue
            yield name
            return


def _source_lanes(services: LocalServices, share: Share) -> list[Lane]:
    applied = Catalogue.load(services.metadata).all(Source)
    lanes: list[Lane] = [SourceLane(services, source, share) for source in applied]
    for lane in lanes:
        lane.start()
    return lanes


def _end(lanes: list[Lane]) -> None:
    for lane in lanes:
        lane.stop()
    for lane in lanes:
        lane.join(JOIN_S)
