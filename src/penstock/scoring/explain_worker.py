"""What worker processes do for explanations: they hold the libraries that serving does without.

Plain JSON values in and out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import UnavailableError
from penstock.ports import Task
from penstock.registry import read_manifest

from .explain import Explanation, explain_rows
from .explain_steps import explain_steps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.ports import Executor

__all__ = ["explain_in_worker", "explain_package", "steps_in_worker", "steps_of_package"]

START_S, ROW_S = 30.0, 6.0
"""How long an explanation may take: to load what it needs, and for each row, of which an estimate
takes up to five seconds."""
FUNCTION = "penstock.scoring.explain_worker:explain_package"
STEPS = "penstock.scoring.explain_worker:steps_of_package"


def explain_package(*, package: str, rows: Sequence[Sequence[float | None]]) -> object:
    """Explain rows; see ``explain_rows``.

    Args:
        package: Path of the package.
        rows: The features of each.

    Returns:
        The explanations as plain values.
    """
    folder = Path(package)
    return msgspec.to_builtins(explain_rows(folder, read_manifest(folder), rows))


def steps_of_package(
    *, package: str, steps: Sequence[str], values: Sequence[float | None]
) -> object:
    """Explain steps of a graph for one row; see ``explain_steps``.

    Args:
        package: Path of the package.
        steps: The steps that explain.
        values: The features of the graph.

    Returns:
        The explanations as plain values.
    """
    folder = Path(package)
    return msgspec.to_builtins(explain_steps(folder, read_manifest(folder), steps, values))


def explain_in_worker(
    executor: Executor, folder: Path, rows: Sequence[Sequence[float | None]]
) -> list[Explanation]:
    """Let a worker process explain rows, and wait for it.

    Raises:
        PenstockError: What ``explain_rows`` raises.
        UnavailableError: The worker process died, or it took longer than half a minute and six
            seconds a row; it is ended then.
    """
    arguments = {"package": str(folder), "rows": [list(row) for row in rows]}
    return _asked(executor, FUNCTION, arguments, len(rows))


def steps_in_worker(
    executor: Executor, folder: Path, steps: Sequence[str], values: Sequence[float | None]
) -> list[Explanation]:
    """Let a worker process explain steps of a graph for one row, and wait for it.

    Raises:
        PenstockError: What ``explain_steps`` raises.
        UnavailableError: The worker process died, or it took longer than half a minute and six
            seconds a step; it is ended then.
    """
    arguments = {"package": str(folder), "steps": list(steps), "values": list(values)}
    return _asked(executor, STEPS, arguments, len(steps))


def _asked(
    executor: Executor, function: str, arguments: Mapping[str, object], count: int
) -> list[Explanation]:
    timeout_s = START_S + ROW_S * count
    task = Task(function=function, arguments=arguments, timeout_s=timeout_s)
    try:
        ((_, found),) = executor.run([task])
    except UnavailableError as error:
        if "timeout_s" not in error.facts:
            raise
        raise UnavailableError(
            f"The explanation took longer than {timeout_s:g} s and was ended. Ask for fewer rows "
            "at a time; where one row takes that long, the model hangs on it.",
            timeout_s=timeout_s,
            retry_after_s=1,
        ) from error
    return msgspec.convert(found, list[Explanation])
