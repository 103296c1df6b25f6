"""Work of numpy on as many cores as there are."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["side_by_side"]

T = TypeVar("T")

MOST = 8
"""Threads beyond this wait for memory more than they compute."""


def side_by_side(function: Callable[[T], object], things: Sequence[T]) -> None:
    """Call a function with each of several things, in threads where there are several cores.

    Raises:
        Exception: What the first failing call raised, when none is running any more.
    """
    threads = min(len(things), MOST, _cores())
    if threads <= 1:
        for thing in things:
            function(thing)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="features") as pool:
        for _ in pool.map(function, things):
            pass


def _cores() -> int:
    """How many cores this process may use; where the system does not say, those there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
