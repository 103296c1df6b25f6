"""A worker of a project in a process of its own, for tests that kill it and wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

__all__ = ["until", "working"]

PATIENCE_S = 120.0
PAUSE_S = 0.01


@contextmanager
def working(home: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run ``penstock worker`` until the block ends; killed then.

    What it says is added to ``worker.out`` in the project's folder; and, where the block fails,
    where its threads were then, or where it died.

    Args:
        home: The project's folder.

    Yields:
        The process, which may not be ready yet.
    """
    command = [sys.executable, "-m", "penstock.cli", "worker", "--home", str(home)]
    tells = os.environ | {"PYTHONFAULTHANDLER": "1"}
    with (
        (home / "worker.out").open("ab") as output,
        subprocess.Popen(command, env=tells, stdout=output, stderr=subprocess.STDOUT) as process,  # noqa: S603 - our own command
    ):
        try:
            yield process
        except BaseException as error:
            process.send_signal(signal.SIGABRT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            error.add_note((home / "worker.out").read_text(encoding="utf-8", errors="replace"))
            raise
        finally:
            process.kill()


def until(
    holds: Callable[[], bool], what: str = "It did not happen", *, patience_s: float = PATIENCE_S
) -> None:
    """Wait until something holds; looks a hundred times a second.

    Args:
        holds: What is to hold.
        what: What to say where it never does.
        patience_s: For how long to wait.

    Raises:
        TimeoutError: It does not hold in that time.
    """
    end_s = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > end_s:
            raise TimeoutError(f"{what} within {patience_s:g} s.")
        time.sleep(PAUSE_S)
