"""A process that launches workflows and runs until it is killed.

``python -m penstock.testing.workflows_child OPENER FOLDER EXECUTOR_ID``
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from penstock.testing.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.ports import Workflows

__all__ = ["open_workflows"]


def open_workflows(opener: str, place: Path, executor_id: str) -> Workflows:
    """Open workflows with a function named ``module:function``."""
    module, _, name = opener.partition(":")
    function = cast("Callable[[Path, str], Workflows]", getattr(import_module(module), name))
    return function(place, executor_id)


def main() -> None:
    """Launch, and wait to be killed."""
    opener, place, executor_id = sys.argv[1:]
    workflows = open_workflows(opener, Path(place), executor_id)
    workflows.launch(Journal(Path(place)).functions)
    threading.Event().wait()


if __name__ == "__main__":
    main()
