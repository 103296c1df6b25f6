"""The process ``penstock stream``: events to raw tables and online features, scores to theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from penstock.errors import PenstockError
from penstock.plan import Catalogue
from penstock.records import AppliedProject
from penstock.spec import Source

from .heartbeat import Heartbeat
from .lanes import DrainLane, Lane, SourceLane
from .logs import configure_logs
from .services import LocalServices, open_services
from .stopping import stop_on_signals

if TYPE_CHECKING:
    import threading
    from pathlib import Path

__all__ = ["stream", "watch"]

LOOK_S = 0.5
JOIN_S = 8.0


def stream(home: Path) -> None:
    """Move data until SIGTERM or SIGINT; what it is at is finished first.

    Args:
        home: The project folder.
    """
    with stop_on_signals() as stop, open_services(home, kind="stream") as services:
        configure_logs(services.layout.logs, "stream", level=services.settings.log_level)
        log = structlog.get_logger("penstock.stream")
        with Heartbeat(services):
            log.info("stream is ready")
            watch(services, stop)
        log.info("stream stops")


def watch(services: LocalServices, stop: threading.Event) -> None:
    """Keep a lane per applied source; begin anew when another project is applied.

    Args:
        services: The project.
        stop: Ends it when set; what the lanes are at is finished first.
    """
    log = structlog.get_logger("penstock.stream")
    drain = DrainLane(services)
    drain.start()
    lanes: list[Lane] = []
    seen = -1
    while not stop.wait(LOOK_S):
        try:
            applied = services.metadata.read(AppliedProject, "project")
            revision = applied.revision if applied else 0
            if revision != seen:
                _end(lanes)
                lanes = _source_lanes(services)
                seen = revision
        except PenstockError as error:
            log.warning("could not read what is applied", error=str(error))
    _end([*lanes, drain])


def _source_lanes(services: LocalServices) -> list[Lane]:
    applied = Catalogue.load(services.metadata).all(Source)
    lanes: list[Lane] = [SourceLane(services, source) for source in applied]
    for lane in lanes:
        lane.start()
    return lanes


def _end(lanes: list[Lane]) -> None:
    for lane in lanes:
        lane.stop()
    for lane in lanes:
        lane.join(JOIN_S)
