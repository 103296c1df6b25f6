"""How a process is told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

__all__ = ["leave", "stop_on_signals"]

GRACE_S = 3.0


@contextmanager
def stop_on_signals() -> Generator[threading.Event]:
    """Give an event that is set by SIGTERM and SIGINT while the context is open.

    Only the main thread may use it; Python delivers signals there.
    """
    stop = threading.Event()

    def tell(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, tell) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int = 0) -> None:
    """End the process soon although a step may still be at work in a thread.

    Python would wait for the thread, which may compute for an hour; it gets three seconds. The
    step's run is unfinished in the database and goes on elsewhere, or here after the next start.
    Everything has to be closed before. Returns when no thread is left.

    Args:
        code: Exit code of the process.
    """
    end_s = time.monotonic() + GRACE_S
    for thread in _busy():
        thread.join(max(0.0, end_s - time.monotonic()))
    if not _busy():
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _busy() -> list[threading.Thread]:
    """The threads that Python would wait for."""
    return [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.daemon
    ]
