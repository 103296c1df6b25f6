"""Children that are forked ready-made, so that killing one costs no new start."""
# ruff: noqa: S101, S603 - a helper of tests asserts, and starts what a test names

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["fork_at_each_line", "kill_until_through"]


def fork_at_each_line(work: Callable[[], object]) -> None:
    """Start one child for each line on standard input; each works and ends with 0.

    The child's id is printed when it begins, its status when it has ended. Nothing that starts
    threads may run before.

    Args:
        work: What each child does.
    """
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            work()
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


def kill_until_through(
    command: Sequence[str],
    *,
    kills: int,
    longest_s: float,
    between: Callable[[int], object] = lambda _: None,
) -> int:
    """Let children work, killing the first ones and letting the last one end.

    Args:
        command: Python's arguments for the program that calls ``fork_at_each_line``.
        kills: How many are killed.
        longest_s: How long one lives at most.
        between: Called after each life that was cut short, with how many there have been.

    Returns:
        How many were killed at work.
    """
    dice, killed, status = random.Random(7), 0, -1  # noqa: S311 - when to kill, nothing secret
    zygote = subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with zygote:
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        for attempt in range(kills + 1):
            zygote.stdin.write("go\n")
            zygote.stdin.flush()
            child = int(zygote.stdout.readline())
            if attempt < kills:
                time.sleep(dice.uniform(0.05, longest_s))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            status = int(zygote.stdout.readline())
            killed += status == signal.SIGKILL
            if attempt < kills:
                between(attempt + 1)
        assert status == 0
        zygote.stdin.close()
    return killed
