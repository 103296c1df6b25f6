from __future__ import annotations

import multiprocessing
import os
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from penstock.adapters.processes import ProcessExecutor
from penstock.errors import InputError
from penstock.ports import Task
from penstock.testing.executor_suite import ExecutorSuite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.ports import Executor

MODULE = """
import os, sys, time

def about():
    loaded = [name for name in ("numpy", "polars") if name in sys.modules]
    return [os.getpid(), os.environ["OMP_NUM_THREADS"], loaded]

def start(path):
    from penstock.adapters.processes import ProcessExecutor
    from penstock.ports import Task
    executor = ProcessExecutor(1, [os.path.dirname(__file__)])
    [(_, (worker, *_))] = executor.run([Task(function="probe:about", arguments={})])
    with open(path, "w") as file:
        file.write(str(worker))
    os.kill(os.getpid(), 9)
"""


MEETING = """
import os

from penstock.testing.executor_suite import meet

def who(mine="", other=""):
    if mine:
        meet(mine=mine, other=other)
    return os.getpid()
"""


class TestProcessExecutor(ExecutorSuite):
    @pytest.fixture
    def opener(self) -> Callable[[], Executor]:
        return partial(ProcessExecutor, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "probe.py").write_text(MODULE)
    return tmp_path


@pytest.mark.slow
def test_workers_are_warm_and_find_the_project(folder: Path) -> None:
    task = Task(function="probe:about", arguments={})
    with closing(ProcessExecutor(1, [str(folder)])) as executor:
        (_, first), (_, second) = [*executor.run([task]), *executor.run([task])]
    assert first == second
    assert isinstance(first, list)
    assert first[0] != os.getpid()
    assert first[1:] == ["1", []]


@pytest.mark.slow
def test_tasks_go_where_their_module_is_loaded(tmp_path: Path) -> None:
    flags = [str(tmp_path / name) for name in ("a", "b")]
    together = [
        Task(function=f"{module}:who", arguments={"mine": flags[own], "other": flags[1 - own]})
        for own, module in enumerate(("one", "two"))
    ]
    for module in ("one", "two"):
        (tmp_path / f"{module}.py").write_text(MEETING)
    with closing(ProcessExecutor(2, [str(tmp_path)])) as executor:
        first = dict(executor.run(together))
        assert first[0] != first[1]
        for place, module in ((0, "one"), (0, "one"), (1, "two"), (1, "two"), (0, "one")):
            ((_, again),) = executor.run([Task(function=f"{module}:who", arguments={})])
            assert again == first[place]


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(folder: Path) -> None:
    path = folder / "worker"
    with closing(ProcessExecutor(1, [str(folder)])) as executor:
        task = Task(function="probe:start", arguments={"path": str(path)})
        with pytest.raises(Exception, match="worker process died"):
            list(executor.run([task]))
    orphan = int(path.read_text())
    deadline = time.monotonic() + 10
    while _lives(orphan) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _lives(orphan)
    assert not multiprocessing.active_children()


def test_no_worker_is_refused() -> None:
    with pytest.raises(InputError, match="1 or more"):
        ProcessExecutor(0)


def _lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True
