"""What worker processes do for explanations: they hold the libraries that serving does without.

Plain JSON values in and out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.ports import Task
from penstock.registry import read_manifest

from .explain import Explanation, explain_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ports import Executor

__all__ = ["explain_in_worker", "explain_package"]

FUNCTION = "penstock.scoring.explain_worker:explain_package"


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


def explain_in_worker(
    executor: Executor, folder: Path, rows: Sequence[Sequence[float | None]]
) -> list[Explanation]:
    """Let a worker process explain rows, and wait for it.

    Raises:
        PenstockError: What ``explain_rows`` raises.
        UnavailableError: The worker process died.
    """
    arguments = {"package": str(folder), "rows": [list(row) for row in rows]}
    ((_, found),) = executor.run([Task(function=FUNCTION, arguments=arguments)])
    return msgspec.convert(found, list[Explanation])
