"""How a process is told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

__all__ = ["leave", "stop_on_signals"]


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
    """End the process now although a step is still at work in a thread.

    Python would wait for the thread, which may train for an hour. The step's run is unfinished in
    the database and goes on elsewhere, or here after the next start.
    """
    busy = [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.daemon and thread.is_alive()
    ]
    if not busy:
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
