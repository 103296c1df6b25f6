"""Several processes of one kind: copies of this one, watched, and started again when they die.

What this process has loaded is shared with all copies until one writes to it, so a copy starts in
milliseconds and has of its own only what it opens. That takes a process which has opened nothing
yet, no database and no thread: nothing can be copied half-way through.

Each copy has a line to this process. It says on it that it is ready; and when the line ends,
because this process is gone whatever the cause, the copy stops as it does when it is told to.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import time
from typing import NamedTuple

import structlog

from penstock.errors import UnavailableError

__all__ = ["Place", "crew"]

ENDS = frozenset({signal.SIGTERM, signal.SIGINT})
SIGNALS = ENDS | {signal.SIGCHLD}
TICK_S = 0.1
FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 5.0
STEADY_S = 30.0
STOP_WITHIN_S = 15.0
READY = b"r"


class Place(NamedTuple):
    """What a copy knows of itself.

    Attributes:
        number: Its place, from 1.
        line: To the process that started it; it ends when that process does.
    """

    number: int
    line: socket.socket

    def tell_ready(self) -> None:
        """Say that it answers."""
        with contextlib.suppress(OSError):  # the other end is gone: the copy is about to stop
            self.line.send(READY)


class _Worker:
    """A copy, as the process that started it sees it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process_id = 0
        self.line: socket.socket | None = None
        self.ready = False
        self.failures = 0
        self.started_s = 0.0
        self.start_at_s = 0.0

    def hear(self) -> None:
        """Note whether it has said that it is ready."""
        if self.line is not None and not self.ready:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                self.ready = self.line.recv(1) == READY

    def fall(self, now_s: float) -> None:
        """Note that it has ended, and when to start it again: later with each end in a row."""
        if self.line is not None:
            self.line.close()
        if now_s - self.started_s > STEADY_S:
            self.failures = 0
        wait_s = min(FIRST_BACKOFF_S * 2**self.failures, LONGEST_BACKOFF_S)
        self.failures = min(self.failures + 1, 10)
        self.process_id, self.line, self.start_at_s = 0, None, now_s + wait_s


def crew(count: int) -> Place | None:
    """Start copies of this process and keep them running until it is told to stop.

    The others start when the first is ready: what keeps it from starting is said once. SIGTERM and
    SIGINT end it; so does the first copy when it ends before it was ever ready. A copy that is told
    to stop by itself is replaced.

    Args:
        count: How many.

    Returns:
        In each copy, its place; in this process None, when all have ended.

    Raises:
        UnavailableError: The first copy could not start; what it said stands before.
    """
    log = structlog.get_logger("penstock.crew")
    workers = [_Worker(number) for number in range(1, count + 1)]
    gc.collect()
    gc.freeze()  # a collection in a copy then touches, and so copies, nothing of this
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a copy has it back, as before
    try:
        begun, ended = workers[:1], False
        while not ended:
            for worker in begun:
                if not worker.process_id and time.monotonic() >= worker.start_at_s:
                    place = _fork(worker, workers)
                    if place is not None:
                        return place
            told = signal.sigtimedwait(SIGNALS, TICK_S)
            ended = told is not None and told.si_signo in ENDS
            for worker in _reap(begun):
                if begun is not workers and not worker.ready:
                    raise UnavailableError(
                        "The first process could not start; what it said stands above."
                    )
                log.error("a process ended and is replaced", worker=worker.number)
            for worker in begun:
                worker.hear()
            if begun[0].ready:
                begun = workers
        _stop(workers)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return None


def _fork(worker: _Worker, workers: list[_Worker]) -> Place | None:
    """Start a copy; in it, the place it has."""
    ours, theirs = socket.socketpair()
    worker.process_id = os.fork()
    if worker.process_id:
        theirs.close()
        ours.settimeout(0)
        worker.line, worker.ready, worker.started_s = ours, False, time.monotonic()
        return None
    # Were an end of this process open in a copy, the others would never see it end.
    for one in (ours, *[other.line for other in workers if other.line is not None]):
        one.close()
    theirs.settimeout(0)
    return Place(worker.number, theirs)


def _reap(workers: list[_Worker]) -> list[_Worker]:
    """Those that have ended since."""
    ended: list[_Worker] = []
    for worker in workers:
        if worker.process_id and os.waitpid(worker.process_id, os.WNOHANG)[0]:
            worker.hear()
            worker.fall(time.monotonic())
            ended.append(worker)
    return ended


def _stop(workers: list[_Worker]) -> None:
    """Let all finish what is in flight; a second signal, or too long a wait, ends them at once."""
    _tell(workers, signal.SIGTERM)
    end_s = time.monotonic() + STOP_WITHIN_S
    while any(worker.process_id for worker in workers) and time.monotonic() < end_s:
        told = signal.sigtimedwait(SIGNALS, TICK_S)
        if told is not None and told.si_signo in ENDS:
            _tell(workers, signal.SIGINT)
        _reap(workers)
    _tell(workers, signal.SIGKILL)
    for worker in workers:
        if worker.process_id:
            os.waitpid(worker.process_id, 0)


def _tell(workers: list[_Worker], number: signal.Signals) -> None:
    for worker in workers:
        if worker.process_id:
            os.kill(worker.process_id, number)
