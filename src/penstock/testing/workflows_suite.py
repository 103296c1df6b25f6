"""What every adapter of ``Workflows`` has to do.

To adopt it, subclass ``WorkflowsSuite`` in a test file and name a function that opens the adapter:

    class TestMine(WorkflowsSuite):
        opener = "my_package.testing:open_mine"  # (folder, executor id) -> Workflows

The folder is empty and the same for all objects and processes of one test.
"""

# ruff: noqa: D102, S101 - a test's name says what it checks, and assert is how pytest checks

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, ClassVar

import pytest

from penstock.errors import ConflictError, NotFoundError, UnavailableError
from penstock.ports import Pipeline, RunWatch, StepSpec, Watch, Workflows
from penstock.testing.journal import Journal
from penstock.testing.workflows_child import open_workflows

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    Open = Callable[[str], Workflows]

__all__ = ["WorkflowsSuite"]

PATIENCE_S = 60.0
AT_LEAST_AT_A_TIME = 2  # fewer runs at once in each process would let long ones hold up all others
LATE_S = 0.3  # for steps to end that nobody waits for
CHILD = "penstock.testing.workflows_child"


def pipeline(*functions: str, name: str = "train", attempts: int = 3) -> Pipeline:
    """A pipeline whose steps are called like their functions."""
    return Pipeline(
        name=name,
        steps=tuple(StepSpec(name=f, function=f, attempts=attempts) for f in functions),
    )


class _Followed(Watch, RunWatch):
    """Notes what it follows; pipelines called ``unseen`` it does not."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begun(self, run_id: str, *, pipeline: str, subject: str) -> RunWatch | None:
        if pipeline == "unseen":
            return None
        self.lines.append(f"begun {run_id} {pipeline} {subject}")
        return self

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        error = ""
        try:
            yield
        except Exception as raised:
            error = f": {raised}"
            raise
        finally:
            self.lines.append(f"step {name}{error}")

    def ended(self, error: BaseException | None) -> None:
        self.lines.append("ended" if error is None else f"ended: {error}")


class WorkflowsSuite:
    """The conformance suite of ``penstock.ports.Workflows``."""

    opener: ClassVar[str]

    @pytest.fixture
    def journal(self, tmp_path: Path) -> Journal:
        """What the steps leave behind."""
        return Journal(tmp_path)

    @pytest.fixture
    def open_one(self, tmp_path: Path) -> Generator[Open]:
        """Open objects on the same place; all are closed at the end."""
        with ExitStack() as stack:

            def open_it(executor_id: str) -> Workflows:
                workflows = open_workflows(self.opener, tmp_path, executor_id)
                return stack.enter_context(closing(workflows))

            yield open_it

    @pytest.fixture
    def launched(self, open_one: Open, journal: Journal) -> Workflows:
        """An object that executes runs in this process."""
        workflows = open_one("here")
        workflows.launch(journal.functions)
        return workflows

    @contextmanager
    def process(self, place: Path, executor_id: str) -> Generator[subprocess.Popen[bytes]]:
        """Another process that executes runs; killed at the end with SIGKILL."""
        command = [sys.executable, "-m", CHILD, self.opener, str(place), executor_id]
        with subprocess.Popen(command) as child:  # noqa: S603 - our own module
            try:
                yield child
            finally:
                child.kill()

    def test_a_run_waits_until_somebody_launches(self, open_one: Open, journal: Journal) -> None:
        workflows = open_one("here")
        given = {"value": [1, 2.5, None, "ü", {"deep": True}]}
        done = workflows.submit(pipeline("first", "last"), given, run_id="r", subject="btc")
        queued = workflows.get("r")

        assert done == "r"
        assert queued is not None
        assert (queued.state, queued.steps, queued.ended_at) == ("queued", (), None)

        workflows.launch(journal.functions)
        run = workflows.wait("r", timeout_s=PATIENCE_S)

        assert (run.pipeline, run.subject, run.state) == ("train", "btc", "succeeded")
        assert (run.parameters, run.error, run.executor_id) == (given, "", "here")
        assert [step.name for step in run.steps] == ["first", "last"]
        assert run.steps[0].output == {"given": given["value"]}
        assert run.steps[1].output == {"outputs": {"first": {"given": given["value"]}}}

    def test_times_are_told_in_order(self, launched: Workflows) -> None:
        launched.submit(pipeline("first", "last"), {}, run_id="r", subject="s")
        run = launched.wait("r", timeout_s=PATIENCE_S)
        times = [run.created_at]
        for step in run.steps:
            times += [step.started_at or run.created_at, step.ended_at or run.created_at]
        times.append(run.ended_at or run.created_at)

        assert [int(t.timestamp() * 1000) for t in times] == sorted(
            int(t.timestamp() * 1000) for t in times
        )
        assert len(set(times)) > 1

    def test_a_run_took_as_long_among_others_as_by_itself(self, launched: Workflows) -> None:
        for number in range(3):
            launched.submit(pipeline("first", "last"), {}, run_id=f"r{number}", subject="s")
            launched.wait(f"r{number}", timeout_s=PATIENCE_S)
        for listed in launched.runs():
            alone = launched.get(listed.run_id)
            assert alone is not None
            assert listed.ended_at == alone.ended_at
            assert listed.steps == ()

    def test_a_run_is_followed_where_it_is_executed(self, open_one: Open, journal: Journal) -> None:
        workflows, seen = open_one("here"), _Followed()
        workflows.launch(journal.functions, watch=seen)
        workflows.submit(pipeline("first", "flaky", "broken"), {}, run_id="r", subject="btc")
        assert workflows.wait("r", timeout_s=PATIENCE_S).state == "failed"
        failed = [*seen.lines]
        journal.switch("mended")
        workflows.retry("r")
        assert workflows.wait("r", timeout_s=PATIENCE_S).state == "succeeded"
        workflows.submit(pipeline("stop", name="unseen"), {}, run_id="q", subject="btc")
        workflows.wait("q", timeout_s=PATIENCE_S)

        begun, ended = "begun r train btc", "ended"
        assert failed[:3] == [begun, "step first", "step flaky"]  # however often it was tried
        assert [line.partition(":")[0] for line in failed[3:]] == ["step broken", ended]
        assert all("The file is no CSV" in line for line in failed[3:])
        # What was done before is not followed again.
        assert seen.lines[len(failed) :] == [begun, "step broken", ended]

    def test_the_same_id_is_the_same_run(self, launched: Workflows, journal: Journal) -> None:
        for value in (1, 2):
            launched.submit(pipeline("first"), {"value": value}, run_id="r", subject="s")
        run = launched.wait("r", timeout_s=PATIENCE_S)
        launched.submit(pipeline("first"), {"value": 3}, run_id="r", subject="s")

        assert launched.wait("r", timeout_s=PATIENCE_S) == run
        assert run.parameters == {"value": 1}
        assert journal.lines == ["first"]

    def test_stop_ends_a_run_early(self, launched: Workflows, journal: Journal) -> None:
        launched.submit(pipeline("first", "stop", "last"), {}, run_id="r", subject="s")
        run = launched.wait("r", timeout_s=PATIENCE_S)

        assert run.state == "succeeded"
        assert journal.lines == ["first", "stop"]

    def test_a_failed_run_is_retried_from_its_failed_step(
        self, launched: Workflows, journal: Journal
    ) -> None:
        launched.submit(pipeline("first", "broken", "last"), {}, run_id="r", subject="s")
        run = launched.wait("r", timeout_s=PATIENCE_S)

        assert run.state == "failed"
        assert "The file is no CSV" in run.error
        assert [(s.name, s.state) for s in run.steps] == [
            ("first", "succeeded"),
            ("broken", "failed"),
        ]
        assert "The file is no CSV" in run.steps[1].error

        journal.switch("mended")
        launched.retry("r")
        again = launched.wait("r", timeout_s=PATIENCE_S)

        assert (again.state, again.error) == ("succeeded", "")
        assert [step.state for step in again.steps] == ["succeeded"] * 3
        assert journal.lines == ["first", "broken", "broken", "last"]

    def test_only_retryable_errors_are_tried_again(
        self, launched: Workflows, journal: Journal
    ) -> None:
        launched.submit(pipeline("flaky", "broken", attempts=3), {}, run_id="r", subject="s")
        run = launched.wait("r", timeout_s=PATIENCE_S)

        assert run.state == "failed"
        assert Counter(journal.lines) == {"flaky": 3, "broken": 1}

    def test_attempts_end(self, launched: Workflows, journal: Journal) -> None:
        launched.submit(pipeline("flaky", attempts=2), {}, run_id="r", subject="s")
        run = launched.wait("r", timeout_s=PATIENCE_S)

        assert run.state == "failed"
        assert "The store is busy" in run.error
        assert journal.lines == ["flaky", "flaky"]

    def test_an_unknown_function_fails_the_run(self, launched: Workflows) -> None:
        launched.submit(pipeline("frist"), {}, run_id="r", subject="s")
        run = launched.wait("r", timeout_s=PATIENCE_S)

        assert run.state == "failed"
        assert "'first'" in run.error

    def test_a_cancelled_run_ends_before_its_next_step(
        self, launched: Workflows, journal: Journal
    ) -> None:
        launched.submit(pipeline("first", "hold", "last"), {}, run_id="r", subject="s")
        journal.await_line("hold")
        launched.cancel("r")
        journal.switch("release")
        cancelled = launched.wait("r", timeout_s=PATIENCE_S)
        launched.retry("r")
        run = launched.wait("r", timeout_s=PATIENCE_S)

        assert cancelled.state == "cancelled"
        assert run.state == "succeeded"
        assert Counter(journal.lines)["first"] == 1
        assert Counter(journal.lines)["last"] == 1

    def test_a_run_shows_the_step_it_is_at(self, launched: Workflows, journal: Journal) -> None:
        launched.submit(pipeline("first", "hold", "last"), {}, run_id="r", subject="s")
        journal.await_line("hold")
        run = launched.get("r")
        journal.switch("release")
        launched.wait("r", timeout_s=PATIENCE_S)

        assert run is not None
        assert run.state == "running"
        assert [(s.name, s.state) for s in run.steps] == [
            ("first", "succeeded"),
            ("hold", "running"),
        ]

    def test_unknown_runs(self, open_one: Open) -> None:
        workflows = open_one("here")

        assert workflows.get("nobody") is None
        for call in (workflows.wait, workflows.retry, workflows.cancel):
            with pytest.raises(NotFoundError, match="'nobody'"):
                call("nobody")

    def test_a_run_that_succeeded_is_not_retried(self, launched: Workflows) -> None:
        launched.submit(pipeline("first"), {}, run_id="r", subject="s")
        launched.wait("r", timeout_s=PATIENCE_S)

        with pytest.raises(ConflictError, match="succeeded"):
            launched.retry("r")

    def test_waiting_has_an_end(self, open_one: Open) -> None:
        workflows = open_one("here")
        workflows.submit(pipeline("first"), {}, run_id="r", subject="s")

        with pytest.raises(UnavailableError, match="'r'"):
            workflows.wait("r", timeout_s=0.1)

    def test_runs_are_listed_newest_first(self, launched: Workflows) -> None:
        for number in range(4):
            name = "train" if number % 2 else "score"
            function = "first" if number else "broken"
            run_id = f"r{number}"
            launched.submit(pipeline(function, name=name), {}, run_id=run_id, subject="s")
            launched.wait(run_id, timeout_s=PATIENCE_S)

        assert [run.run_id for run in launched.runs()] == ["r3", "r2", "r1", "r0"]
        assert [run.run_id for run in launched.runs(pipeline="train")] == ["r3", "r1"]
        assert [run.run_id for run in launched.runs(state="failed")] == ["r0"]
        assert [run.run_id for run in launched.runs(limit=2)] == ["r3", "r2"]
        assert launched.runs(state="cancelled") == []
        assert all(run.steps == () for run in launched.runs())

    def test_runs_of_the_living_are_left_alone(
        self, open_one: Open, launched: Workflows, journal: Journal
    ) -> None:
        other = open_one("elsewhere")
        launched.submit(pipeline("hold"), {}, run_id="r", subject="s")
        journal.await_line("hold")
        taken = [*other.recover(living=["here"]), *launched.recover(living=[])]
        journal.switch("release")
        run = launched.wait("r", timeout_s=PATIENCE_S)

        assert taken == []
        assert run.state == "succeeded"
        assert journal.lines == ["hold"]

    def test_what_is_closed_in_the_middle_goes_on_elsewhere(
        self, open_one: Open, journal: Journal
    ) -> None:
        before = open_one("before")
        before.launch(journal.functions)
        before.submit(pipeline("first", "hold", "last"), {}, run_id="r", subject="s")
        journal.await_line("hold")
        before.close()
        after = open_one("after")
        after.launch(journal.functions)
        taken = after.recover(living=["after"])
        journal.switch("release")
        run = after.wait("r", timeout_s=PATIENCE_S)

        assert taken == ["r"]
        assert (run.state, run.executor_id) == ("succeeded", "after")
        assert Counter(journal.lines)["first"] == 1
        assert Counter(journal.lines)["last"] == 1

    def test_what_ends_after_closing_is_not_kept(self, open_one: Open, journal: Journal) -> None:
        before = open_one("before")
        before.launch(journal.functions)
        for function in ("hold", "hold_broken"):
            before.submit(pipeline(function), {}, run_id=function, subject="s")
        journal.await_line("hold", times=2)
        before.close()
        journal.switch("release")
        time.sleep(LATE_S)
        after = open_one("after")

        assert sorted(run.run_id for run in after.runs(state="running")) == ["hold", "hold_broken"]

    @pytest.mark.slow
    def test_a_killed_process_loses_nothing(
        self, open_one: Open, journal: Journal, tmp_path: Path
    ) -> None:
        here = open_one("here")
        with self.process(tmp_path, "killed") as child:
            here.submit(pipeline("first", "hold", "last"), {}, run_id="r", subject="s")
            journal.await_line("hold")
            child.kill()
            child.wait()
        journal.switch("release")
        here.launch(journal.functions)
        left = here.get("r")
        taken = here.recover(living=["here"])
        run = here.wait("r", timeout_s=PATIENCE_S)

        assert left is not None
        assert (left.state, left.executor_id) == ("running", "killed")
        assert taken == ["r"]
        assert (run.state, run.executor_id) == ("succeeded", "here")
        assert journal.lines == ["first", "hold", "hold", "last"]

    @pytest.mark.slow
    def test_processes_share_the_runs(
        self, launched: Workflows, journal: Journal, tmp_path: Path
    ) -> None:
        held_ids = [f"held{number}" for number in range(2 * AT_LEAST_AT_A_TIME)]
        run_ids = [f"r{number}" for number in range(8)]
        with self.process(tmp_path, "other"):
            for run_id in held_ids:
                launched.submit(pipeline("hold"), {}, run_id=run_id, subject="s")
            journal.await_line("hold", times=len(held_ids))
            for run_id in run_ids:
                line = {"line": run_id}
                launched.submit(pipeline("first"), line, run_id=run_id, subject="s")
            journal.switch("release")
            held = [launched.wait(run_id, timeout_s=PATIENCE_S) for run_id in held_ids]
            runs = [launched.wait(run_id, timeout_s=PATIENCE_S) for run_id in run_ids]

        assert {run.executor_id for run in held} == {"here", "other"}
        assert {run.state for run in [*runs, *held]} == {"succeeded"}
        assert Counter(line for line in journal.lines if line != "hold") == Counter(run_ids)
