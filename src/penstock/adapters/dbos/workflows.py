"""``Workflows`` by DBOS.

How it meets the port's contract:

- A run is one DBOS workflow whose id is the run's id, so submitting twice is submitting once. Its
  arguments hold the whole pipeline, and every process runs the same constant application version,
  so new code strands no old run.
- Every run goes through one queue that each launched object listens on.
- Everything stored is JSON: small outputs that refer to artifacts, never pickles.
- DBOS recovers only runs of its own executor id. ``recover`` puts the runs of others back on the
  queue; whoever takes one from there owns it alone. Should the old owner still live after all, its
  next write is refused, and both have done the same idempotent step.
- ``retry`` rewinds a run to its failed step, under the same id.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions
from msgspec import structs, to_builtins

from penstock.errors import ConflictError, NotFoundError, UnavailableError
from penstock.ports import Clock, Pipeline, RunInfo, RunState, StepFunction, Watch, Workflows

from .database import open_database
from .interpreter import Interpreter, Output
from .reading import DBOS_STATES, TERMINAL, end_of, is_short, run_of, steps_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from dbos import WorkflowStatus

__all__ = ["DbosWorkflows"]

APPLICATION = "penstock"
VERSION = "1"  # constant, so that any process continues any run
WORKFLOW = "pipeline"
QUEUE = "penstock"
RUNS_AT_A_TIME = 2
QUEUE_POLL_S = 0.25  # 0.1 would cost an idle worker 5 % of a core instead of 2.3
WAIT_POLL_S = 0.05
PAGE_SIZE = 200
MOST_ENDS = 10_000
LISTEN_S = 0.1  # how soon the listener notices the end; without waiters it asks nothing


class DbosWorkflows(Workflows):
    """Durable runs in a SQLite database; any number of processes of one machine share it.

    One object of a process may be launched at a time: DBOS is one per process.

    Args:
        path: The database file; created when it is not there.
        executor_id: Name under which this object runs runs; unique among all processes.
        clock: Says when a run is submitted; SQLite's own clock tells whole seconds.
    """

    def __init__(self, path: Path, executor_id: str, clock: Clock) -> None:
        _route_logs()
        self._clock = clock
        self._executor_id = executor_id
        self._engine = open_database(path)
        self._ends: dict[tuple[str, datetime | None], datetime | None] = {}
        self._client = DBOSClient(
            system_database_engine=self._engine,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
        )
        self._interpreter: Interpreter | None = None
        self._lock = threading.Lock()

    def launch(self, functions: Mapping[str, StepFunction], *, watch: Watch | None = None) -> None:
        """Register the step functions and begin to execute runs in this process.

        Raises:
            ConflictError: Another object of this process has been launched.
        """
        with self._lock:
            _route_logs()
            self._register_queue()
            dbos = DBOS(config=self._config())
            if DBOS.executor_id != self._executor_id:
                raise ConflictError(
                    f"This process runs workflows as {DBOS.executor_id!r} already. Expected one "
                    "launched object per process; close the other first.",
                    executor_id=DBOS.executor_id,
                )
            self._interpreter = interpreter = Interpreter(functions, watch)

            def run(
                document: object, parameters: Output, subject: str, _submitted_us: int
            ) -> dict[str, Output]:
                return interpreter.run(document, parameters, subject)

            DBOS.workflow(name=WORKFLOW)(run)  # a function of our own: DBOS marks what it is given
            dbos.launch()

    def submit(
        self, pipeline: Pipeline, parameters: Mapping[str, object], *, run_id: str, subject: str
    ) -> str:
        """Submit a run; returns its id. A known id changes nothing."""
        options = EnqueueOptions(
            workflow_name=WORKFLOW, queue_name=QUEUE, workflow_id=run_id, app_version=VERSION
        )
        document = to_builtins(pipeline)
        self._client.enqueue(options, document, dict(parameters), subject, self._clock.now_us())
        return run_id

    def wait(self, run_id: str, *, timeout_s: float | None = None) -> RunInfo:
        """Wait until the run has ended.

        Raises:
            NotFoundError: There is no such run.
            UnavailableError: It has not ended in time.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while self._status(run_id, details=False).status not in TERMINAL:
            if end is not None and time.monotonic() >= end:
                raise UnavailableError(
                    f"Run {run_id!r} has not ended within {timeout_s:g} s. It goes on by itself; "
                    "look at it with 'penstock runs show', and at 'penstock status' for a worker.",
                    run_id=run_id,
                )
            time.sleep(WAIT_POLL_S)
        found = self.get(run_id)
        if found is None:
            raise _unknown(run_id)
        return found

    def get(self, run_id: str) -> RunInfo | None:
        """The run with its steps, or None."""
        found = self._client.list_workflows(workflow_ids=[run_id])
        if not found:
            return None
        steps = self._client.list_workflow_steps(run_id)
        return run_of(found[0], steps_of(found[0], steps))

    def runs(
        self, *, pipeline: str = "", state: RunState | None = None, limit: int = 50
    ) -> Sequence[RunInfo]:
        """Runs, newest first, without their steps.

        SQLite tells the end in whole seconds: of runs that took little the steps say when it was.
        """
        wanted = [name for name, known in DBOS_STATES.items() if state in {None, known}]
        found: list[RunInfo] = []
        offset = 0
        while len(found) < limit:
            page = self._client.list_workflows(
                status=wanted, sort_desc=True, limit=PAGE_SIZE, offset=offset
            )
            runs = [run_of(status) for status in page]
            found.extend(run for run in runs if pipeline in {"", run.pipeline})
            if len(page) < PAGE_SIZE:
                break
            offset += PAGE_SIZE
        newest = sorted(found, key=lambda run: run.created_at, reverse=True)[:limit]
        return [self._timed(run) if is_short(run) else run for run in newest]

    def _timed(self, run: RunInfo) -> RunInfo:
        """A run that has ended, with the end that its steps say; they are read once."""
        key = run.run_id, run.ended_at
        if key not in self._ends:
            if len(self._ends) >= MOST_ENDS:
                self._ends.clear()
            self._ends[key] = end_of(run, self._client.list_workflow_steps(run.run_id))
        return structs.replace(run, ended_at=self._ends[key])

    def retry(self, run_id: str) -> None:
        """Let a failed or cancelled run go on from its last finished step.

        Raises:
            NotFoundError: There is no such run.
            ConflictError: It has not failed.
        """
        state = DBOS_STATES[self._status(run_id, details=False).status]
        if state not in {"failed", "cancelled"}:
            raise ConflictError(
                f"Run {run_id!r} is {state}. Expected one that failed or was cancelled; "
                "'penstock runs list' shows them.",
                run_id=run_id,
                state=state,
            )
        steps = self._client.list_workflow_steps(run_id, load_output=True)
        failed = [step["function_id"] for step in steps if step["error"] is not None]
        after = max((step["function_id"] for step in steps), default=0) + 1
        self._client.rewind_workflow(
            run_id, start_step=min(failed, default=after), queue_name=QUEUE
        )

    def cancel(self, run_id: str) -> None:
        """End a run before its next step.

        Raises:
            NotFoundError: There is no such run.
        """
        self._status(run_id, details=False)
        self._client.cancel_workflow(run_id)

    def recover(self, *, living: Sequence[str]) -> list[str]:
        """Take over unfinished runs of every executor not named; returns their ids.

        This object's own executor counts as living once it is launched.
        """
        known = set(living)
        if self._interpreter is not None:
            known.add(self._executor_id)
        pending = self._client.list_workflows(status="PENDING", load_input=False, load_output=False)
        dead = [run.workflow_id for run in pending if run.executor_id not in known]
        for run_id in dead:
            self._client.resume_workflow(run_id, queue_name=QUEUE)
        return dead

    def close(self) -> None:
        """Stop executing; runs in flight stay unfinished and can be recovered."""
        with self._lock:
            if self._interpreter is not None:
                self._interpreter.stop()
                # A step still at work will fail to store its output, as it has to, and DBOS would
                # tell of it at length.
                logging.getLogger("dbos").setLevel(logging.CRITICAL + 1)
                DBOS.destroy(destroy_registry=True)
                self._interpreter = None
            self._client.destroy()
            self._engine.dispose()

    def _config(self) -> DBOSConfig:
        return DBOSConfig(
            name=APPLICATION,
            application_version=VERSION,
            executor_id=self._executor_id,
            system_database_engine=self._engine,
            serializer=DBOSPortableJSONSerializer(),
            run_migrations=False,
            enable_otlp=False,
            log_level="WARNING",
            use_listen_notify=False,
            notification_listener_polling_interval_sec=LISTEN_S,
        )

    def _register_queue(self) -> None:
        """Make the queue known before launch, so that it is listened on from the start."""
        self._client.register_queue(
            QUEUE, worker_concurrency=RUNS_AT_A_TIME, polling_interval_sec=QUEUE_POLL_S
        )

    def _status(self, run_id: str, *, details: bool) -> WorkflowStatus:
        found: list[Any] = self._client.list_workflows(
            workflow_ids=[run_id], load_input=details, load_output=details
        )
        if not found:
            raise _unknown(run_id)
        status: WorkflowStatus = found[0]
        return status


def _unknown(run_id: str) -> NotFoundError:
    return NotFoundError.of("run", run_id, hint="'penstock runs list' shows those there are.")


def _route_logs() -> None:
    """Let DBOS speak through the process's own logging, and only when something is wrong.

    DBOS puts a handler of its own on its logger unless there is one.
    """
    logger = logging.getLogger("dbos")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.setLevel(logging.WARNING)
