"""Executor over spawned processes, started when there is first something to do."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TYPE_CHECKING

from penstock.errors import InputError, UnavailableError
from penstock.ports import Executor, Task

from .lone_worker import LoneWorker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["ProcessExecutor"]


class ProcessExecutor(Executor):
    """Worker processes that are kept warm between tasks.

    They are spawned, not forked: a fork would take over locks, threads and open stores in whatever
    state they are. Each uses one thread for numeric work, since there are as many workers as cores
    are to be used. A task goes to an idle worker that has run a function of the same module, where
    there is one: it has loaded what the task needs. Workers end with their parent, also when it is
    killed. Safe across threads.

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
        self._most = workers
        self._python_path = tuple(str(folder) for folder in python_path)
        # Held again by the same thread: a task that has ended already is heard of at once.
        self._lock = threading.RLock()
        self._workers: list[LoneWorker] = []  # the last one used is the last one
        self._waiting: deque[tuple[Task, Future[object]]] = deque()

    def run(
        self, tasks: Sequence[Task], *, at_once: int | None = None
    ) -> Iterator[tuple[int, object]]:
        """Run the tasks; yields (index of the task, its result) as each ends.

        No more than ``at_once`` of them run at a time, where that is fewer than the workers. When
        one fails its error is raised after those already running have ended; the results of all
        that succeeded were yielded before.

        Raises:
            UnavailableError: A worker died, or a task took longer than it may.
            NotFoundError: There is no such function.
        """
        most = self._most if at_once is None else min(self._most, max(at_once, 1))
        waiting = iter(enumerate(tasks))
        running: dict[Future[object], int] = {}
        failed: BaseException | None = None
        while True:
            # No more than can run at once, so that nothing starts any more after a failure.
            while failed is None and len(running) < most:
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
                    failed = failed or _told(error, tasks[index])
        if failed is not None:
            raise failed

    def close(self) -> None:
        """End the workers; the object is not used afterwards.

        Idle workers end at once, one at work when its task is done or this process ends. A process
        that is told to stop must not wait for a task that computes for an hour.
        """
        with self._lock:
            workers, self._workers = self._workers, []
            waiting, self._waiting = self._waiting, deque()
        for _, result in waiting:
            _cancel(result)
        for worker in workers:
            worker.end()

    def _submit(self, task: Task) -> Future[object]:
        result: Future[object] = Future()
        with self._lock:
            self._waiting.append((task, result))
            self._assign()
        return result

    def _assign(self) -> None:
        """Give waiting tasks to idle workers, first come first served. The lock is held."""
        while self._waiting:
            worker = self._idle_worker(self._waiting[0][0])
            if worker is None:
                return
            task, result = self._waiting.popleft()
            self._workers.append(worker)
            started = worker.start(task)
            started.add_done_callback(partial(self._ended, worker, task, result))

    def _idle_worker(self, task: Task) -> LoneWorker | None:
        """Take out the best idle worker for the task; a new one if there may be one more."""
        idle = [worker for worker in reversed(self._workers) if not worker.busy]
        if not idle:
            full = len(self._workers) >= self._most
            return None if full else LoneWorker(self._python_path)
        # Else the one that was used longest ago: the other holds what the step just done needed.
        best = next((worker for worker in idle if worker.knows(task)), idle[-1])
        self._workers.remove(best)
        return best

    def _ended(
        self, worker: LoneWorker, task: Task, result: Future[object], started: Future[object]
    ) -> None:
        """Make room, hand the result over, begin what waits; a worker that died is let go."""
        error = None if started.cancelled() else started.exception()
        with self._lock:
            worker.rest()
            dead = worker.late or isinstance(error, BrokenProcessPool)
            if dead and worker in self._workers:
                self._workers.remove(worker)
                worker.end()
        if started.cancelled():
            _cancel(result)
        elif error is not None:
            result.set_exception(_late(task) if worker.late else error)
        else:
            result.set_result(started.result())
        with self._lock:
            self._assign()


def _cancel(result: Future[object]) -> None:
    """Let whoever waits for it hear that nothing comes."""
    result.cancel()
    result.set_running_or_notify_cancel()


def _late(task: Task) -> UnavailableError:
    return UnavailableError(
        f"{task.function!r} took longer than {task.timeout_s:g} s, and its worker was ended. Try "
        "again with less to do at a time.",
        function=task.function,
        timeout_s=task.timeout_s,
    )


def _told(error: BaseException, task: Task) -> BaseException:
    """The error to raise."""
    if not isinstance(error, BrokenProcessPool):
        return error
    message = (
        f"A worker process died while {task.function!r} was running: it was killed, ran out of "
        "memory, or crashed in native code. Try again; with fewer workers if memory is short."
    )
    told = UnavailableError(message, function=task.function)
    told.__cause__ = error
    return told
