"""One worker process, and which modules it has loaded."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from .worker import call, prepare

if TYPE_CHECKING:
    from penstock.ports import Task

__all__ = ["LoneWorker"]


class LoneWorker:
    """A pool of one process, so that it is known what ran in it. Starts with its first task.

    Args:
        python_path: Folders that modules of tasks are imported from, before all others.

    Attributes:
        busy: Whether it has a task.
        late: Whether it was killed, since its task took longer than it may.
    """

    def __init__(self, python_path: tuple[str, ...]) -> None:
        self.busy = self.late = False
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._modules: set[str] = set()
        self._process_id: Future[int] | None = None
        self._pool = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=prepare,
            initargs=(python_path,),
        )

    def knows(self, task: Task) -> bool:
        """Whether it has run a function of the task's module."""
        return _module_of(task) in self._modules

    def start(self, task: Task) -> Future[object]:
        """Run a task, as the only one."""
        self.busy = True
        self._modules.add(_module_of(task))
        try:
            if self._process_id is None:
                self._process_id = self._pool.submit(os.getpid)
            started = self._pool.submit(call, task.function, dict(task.arguments))
        except (BrokenProcessPool, OSError) as error:
            # It died since its last task, or cannot be started: told as of any failed task.
            broken: Future[object] = Future()
            broken.set_exception(BrokenProcessPool(str(error)))
            return broken
        if task.timeout_s:
            self._timer = threading.Timer(task.timeout_s, self._kill)
            self._timer.daemon = True
            self._timer.start()
        return started

    def rest(self) -> None:
        """Take note that the task has ended: it is not late any more."""
        with self._lock:
            self.busy = False
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _kill(self) -> None:
        """Kill the process: a task that hangs hears nothing. The pool then says it is broken."""
        with self._lock:
            if self._timer is None or self._process_id is None:
                return
            self.late = True
            # At once; where the process is only starting, as soon as it has started.
            self._process_id.add_done_callback(_end_process)

    def end(self) -> None:
        """End the process once its task is done, without waiting for that."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _end_process(told: Future[int]) -> None:
    """Kill the process that told its id, where it has not ended; the pool has no way to do that."""
    if told.cancelled() or told.exception() is not None:
        return
    for process in multiprocessing.active_children():
        if process.pid == told.result():
            process.kill()


def _module_of(task: Task) -> str:
    return task.function.partition(":")[0]
