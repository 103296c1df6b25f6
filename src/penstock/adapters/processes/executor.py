"""Executor over a pool of spawned processes, started when there is first something to do."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from penstock.errors import InputError, UnavailableError
from penstock.ports import Executor, Task

from .worker import call, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["ProcessExecutor"]


class ProcessExecutor(Executor):
    """Worker processes that are kept warm between tasks.

    They are spawned, not forked: a fork would take over locks, threads and open stores in whatever
    state they are. Each uses one thread for numeric work, since there are as many workers as cores
    are to be used. Workers end with their parent, also when it is killed. Safe across threads.

    Args:
        workers: How many tasks run at a time.
        python_path: Folders that modules of tasks are imported from, before all others.

    Raises:
        InputError: ``workers`` is less than 1.
    """

    def __init__(self, workers: int, python_path: Sequence[str] = ()) -> None:
        if workers < 1:
            message = f"An executor of {workers} workers cannot run anything: expected 1 or more."
            raise InputError(message, workers=workers)
        self._workers = workers
        self._python_path = tuple(str(folder) for folder in python_path)
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, object]]:
        """Run the tasks; yields (index of the task, its result) as each ends.

        When one fails its error is raised after those already running have ended; the results of
        all that succeeded were yielded before.

        Raises:
            UnavailableError: A worker died.
            NotFoundError: There is no such function.
        """
        waiting = iter(enumerate(tasks))
        running: dict[Future[object], int] = {}
        failed: BaseException | None = None
        while True:
            # No more than can run at once, so that nothing starts any more after a failure.
            while failed is None and len(running) < self._workers:
                following = next(waiting, None)
                if following is None:
                    break
                running[self._submit(following[1])] = following[0]
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index = running.pop(future)
                error = future.exception()
                if error is None:
                    yield index, future.result()
                else:
                    failed = failed or self._told(error, tasks[index])
        if failed is not None:
            raise failed

    def close(self) -> None:
        """End the workers; the object is not used afterwards.

        Idle workers end at once, one at work when its task is done or this process ends. A process
        that is told to stop must not wait for a task that computes for an hour.
        """
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, task: Task) -> Future[object]:
        with self._lock:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    self._workers,
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=prepare,
                    initargs=(self._python_path,),
                )
            try:
                return self._pool.submit(call, task.function, dict(task.arguments))
            except BrokenProcessPool as error:
                # It broke since the last task; the caller hears of it as of any failed task.
                broken: Future[object] = Future()
                broken.set_exception(error)
                return broken

    def _told(self, error: BaseException, task: Task) -> BaseException:
        """The error to raise; a broken pool is let go, so that the next task starts a new one."""
        if not isinstance(error, BrokenProcessPool):
            return error
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        message = (
            f"A worker process died while {task.function!r} was running: it was killed, ran out of "
            "memory, or crashed in native code. Try again; with fewer workers if memory is short."
        )
        told = UnavailableError(message, function=task.function)
        told.__cause__ = error
        return told
