"""Processes that tests of parts kill: each stops once so many parts are done, and waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock.datasets import build
from penstock.features import backfill, parts_of
from penstock.ports import Executor
from penstock.runtime import open_services
from penstock.scoring import score_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from penstock.features import Wanted
    from penstock.ports import Services, Task
    from penstock.spec import Dataset, FeatureView

__all__ = ["CountingExecutor", "backfill_until", "build_until", "finished_parts", "score_until"]

LONG_S = 600.0


class CountingExecutor(Executor):
    """Runs tasks elsewhere and counts them.

    Args:
        executor: Where.

    Attributes:
        tasks: How many it was given.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.tasks = 0

    def run(
        self, tasks: Sequence[Task], *, at_once: int | None = None
    ) -> Iterator[tuple[int, object]]:
        """Run the tasks elsewhere."""
        self.tasks += len(tasks)
        return self._executor.run(tasks, at_once=at_once)

    def close(self) -> None:
        """Leave the other one as it is: it is its maker's."""


def finished_parts(services: Services) -> int:
    """How many parts are kept of computations that were not ended."""
    return len(list((services.scratch / "parts").rglob("*.values.arrow")))


def build_until(say: Connection, home: Path, dataset: Dataset, parts: int) -> None:
    """Build a dataset; say each part that is done, and stop after so many."""
    with open_services(home, actor="tester") as services:
        build(services, dataset, progress=_stopping(say, parts))
    say.send("done")


def backfill_until(
    say: Connection, home: Path, view: FeatureView, wanted: Wanted, parts: int
) -> None:
    """Backfill a view; say each part that is done, and stop after so many."""
    with open_services(home, actor="tester") as services:
        backfill(
            services.tables,
            services.locks,
            view,
            wanted,
            memory_bytes=services.features_memory_bytes,
            parts=parts_of(services, f"backfill/{view.name}"),
            progress=_stopping(say, parts),
        )
    say.send("done")


def score_until(say: Connection, home: Path, deployment: str, parts: int) -> None:
    """Score a deployment's new rows; say each part that is done, and stop after so many."""
    with open_services(home, actor="tester") as services:
        score_batch(services, deployment, progress=_stopping(say, parts))
    say.send("done")


def _stopping(say: Connection, parts: int) -> Callable[[str, float], None]:
    done: list[str] = []

    def report(what: str, _: float) -> None:
        if ": part " in what:
            done.append(what)
            say.send(what)
        if len(done) == parts:
            time.sleep(LONG_S)

    return report
