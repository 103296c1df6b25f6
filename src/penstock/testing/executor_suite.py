"""What every implementation of ``Executor`` must keep."""
# ruff: noqa: S101 - a suite asserts

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from penstock.errors import NotFoundError, NotReadyError, UnavailableError, UserCodeError
from penstock.ports import Task

from .working import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.ports import Executor

__all__ = ["ExecutorSuite"]

# A task may have to wait for a worker to start, on a machine that is busy.
_PATIENCE_S = 30.0


class ExecutorSuite:
    """Subclass it and override the fixture ``executor`` with one of two workers."""

    @pytest.fixture
    def opener(self) -> Callable[[], Executor]:
        """Makes an executor of two workers."""
        raise NotImplementedError

    @pytest.fixture
    def executor(self, opener: Callable[[], Executor]) -> Iterator[Executor]:
        """An executor of two workers."""
        with closing(opener()) as opened:
            yield opened

    @pytest.mark.slow
    def test_results(self, executor: Executor, tmp_path: Path) -> None:
        """Every task yields its index and result, as it ends; two run at a time."""
        assert list(executor.run([])) == []
        values: list[object] = [1, 2.5, None, "ä", [1, {"a": []}]]
        echoes = [_task("echo", value=value) for value in values]
        assert sorted(executor.run(echoes), key=lambda pair: pair[0]) == list(enumerate(values))
        # The first waits for what the second does, so it must run meanwhile, and ends after it.
        flag = str(tmp_path / "flag")
        tasks = [_task("wait_for", path=flag), _task("touch", path=flag)]
        assert [index for index, _ in executor.run(tasks)] == [1, 0]

    @pytest.mark.slow
    def test_fewer_at_once(self, executor: Executor, tmp_path: Path) -> None:
        """As many run at a time as are asked for, if there are so many workers."""
        alone = [_task("be_alone", path=str(tmp_path / "busy"), for_s=0.1)] * 4
        assert [index for index, _ in executor.run(alone, at_once=1)] == [0, 1, 2, 3]
        many = [_task("echo", value=place) for place in range(5)]
        assert dict(executor.run(many, at_once=9)) == dict(enumerate(range(5)))

    @pytest.mark.slow
    def test_errors(self, executor: Executor, tmp_path: Path) -> None:
        """An error is raised as it is, once what ran has been yielded; nothing starts later."""
        flag, late = str(tmp_path / "flag"), str(tmp_path / "late")
        tasks = [
            _task("touch_and_fail", path=flag),
            # It ends well after the failure is known, whichever worker is heard first.
            _task("wait_for", path=flag, then_s=0.5),
            *[_task("touch", path=late)] * 3,
        ]
        results: list[tuple[int, object]] = []
        with pytest.raises(NotReadyError, match="as it is") as caught:
            results.extend(executor.run(tasks))
        assert results == [(1, None)]
        assert caught.value.facts == {"fact": [1]}
        assert "in touch_and_fail" in "".join(traceback.format_exception(caught.value))
        assert not Path(late).exists()
        with pytest.raises(UserCodeError, match="Stubborn: of a kind") as told:
            list(executor.run([_task("fail_stubbornly")]))
        assert "in fail_stubbornly" in str(told.value)
        for function in ("no.such.module:name", f"{__name__}:no_such_name", "nothing"):
            with pytest.raises(NotFoundError):
                list(executor.run([Task(function=function, arguments={})]))

    @pytest.mark.slow
    def test_kill(self, executor: Executor) -> None:
        """A task whose worker dies is reported, and the executor goes on."""
        with pytest.raises(UnavailableError, match="worker process died"):
            list(executor.run([_task("die")]))
        assert list(executor.run([_task("echo", value=1)])) == [(0, 1)]

    @pytest.mark.slow
    def test_timeout(self, executor: Executor, tmp_path: Path) -> None:
        """A task that hangs is ended with its worker, and nothing else is; others take its turn."""
        flag, stopped = str(tmp_path / "flag"), tmp_path / "stopped"
        results: list[tuple[int, object]] = []
        other = [_task("wait_for", path=flag)]
        runner = threading.Thread(target=lambda: results.extend(executor.run(other)))
        runner.start()
        timeout_s = 3.0
        hung = _task("stop_for_ever", path=str(stopped))
        with pytest.raises(UnavailableError, match="took longer than 3 s") as caught:
            list(executor.run([msgspec.structs.replace(hung, timeout_s=timeout_s)]))
        assert caught.value.facts["timeout_s"] == timeout_s
        quick = [msgspec.structs.replace(_task("echo", value=1), timeout_s=_PATIENCE_S)] * 3
        assert [found for _, found in executor.run(quick, at_once=1)] == [1, 1, 1]
        if stopped.exists():  # else the worker was ended before it came to it
            until(lambda: not Path("/proc", stopped.read_text(encoding="utf-8")).exists())
        touch(path=flag)
        runner.join(_PATIENCE_S)
        assert results == [(0, None)]

    @pytest.mark.slow
    def test_close(self, executor: Executor, tmp_path: Path) -> None:
        """Closing does not wait for a task at work, whose result still comes."""
        ready, flag = tmp_path / "ready", tmp_path / "flag"
        results: list[tuple[int, object]] = []
        tasks = [_task("meet", mine=str(ready), other=str(flag))]
        runner = threading.Thread(target=lambda: results.extend(executor.run(tasks)))
        runner.start()
        wait_for(path=str(ready))
        executor.close()
        assert not flag.exists()
        flag.touch()
        runner.join(_PATIENCE_S)
        assert results == [(0, None)]


class Stubborn(Exception):  # noqa: N818 - named for what it does in the test
    """An error that does not survive pickling."""

    def __init__(self, what: str, kind: str) -> None:
        super().__init__(f"{what} a {kind}")


def echo(*, value: object) -> object:
    """Give the value back."""
    return value


def touch(*, path: str) -> None:
    """Make a file."""
    Path(path).touch()


def wait_for(*, path: str, then_s: float = 0.0) -> None:
    """Wait until there is a file, and then for a while."""
    deadline = time.monotonic() + _PATIENCE_S
    while not Path(path).exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(then_s)


def be_alone(*, path: str, for_s: float) -> None:
    """Hold a file for a while that nobody else may hold."""
    with Path(path).open("x"):
        time.sleep(for_s)
    Path(path).unlink()


def meet(*, mine: str, other: str) -> None:
    """Make a file, then wait until there is another."""
    touch(path=mine)
    wait_for(path=other)


def touch_and_fail(*, path: str) -> None:
    """Make a file and raise an error."""
    touch(path=path)
    raise NotReadyError("as it is", fact=[1])


def fail_stubbornly() -> None:
    """Raise an error that does not survive pickling."""
    raise Stubborn("of", "kind")


def die() -> None:
    """Kill the process this runs in."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop_for_ever(*, path: str) -> None:
    """Stop the process this runs in, which then hears nothing but its end."""
    Path(path).write_text(str(os.getpid()), encoding="utf-8")
    os.kill(os.getpid(), signal.SIGSTOP)


def _task(name: str, **arguments: object) -> Task:
    return Task(function=f"{__name__}:{name}", arguments=arguments)
