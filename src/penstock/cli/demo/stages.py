"""How the demonstration shows its stages: a line each, with a tick, its time and what it found."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
from rich.markup import escape

from penstock.errors import PenstockError

if TYPE_CHECKING:
    from collections.abc import Generator

    from penstock.cli.screen import Screen

__all__ = ["Stage", "Stages", "StepFailedError"]

NAME_WIDTH = 24
MEGA = 1_000_000


class StepFailedError(PenstockError):
    """A step of the demonstration did not do what it says."""


class Stage:
    """One stage while it happens.

    Attributes:
        detail: What it found, for the end of its line.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.detail = ""

    def expect(self, holds: bool, what: str) -> None:
        """Assert a part of what the stage says.

        Raises:
            StepFailedError: It does not hold.
        """
        if not holds:
            raise StepFailedError(f"The step {self.name!r} did not do what it says: {what}.")


class Stages:
    """All stages, in order.

    Args:
        screen: Where they are shown.

    Attributes:
        seconds: Time of each stage that is done.
        peak_bytes: Most memory that this process and all its children held at the end of a stage.
    """

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.seconds: dict[str, float] = {}
        self.peak_bytes = 0
        self.began = time.monotonic()

    @property
    def total_s(self) -> float:
        """Time since the start."""
        return time.monotonic() - self.began

    @contextmanager
    def stage(self, name: str) -> Generator[Stage]:
        """Show one stage: while it happens on a terminal, and its line when it is done."""
        stage = Stage(name)
        began = time.monotonic()
        try:
            if self.screen.err.is_terminal and not self.screen.as_json:
                with self.screen.err.status(f"{name} ..."):
                    yield stage
            else:
                yield stage
        except BaseException:
            self._line("[red]✗[/]", name, time.monotonic() - began, stage.detail)
            raise
        self.seconds[name] = time.monotonic() - began
        self.peak_bytes = max(self.peak_bytes, _memory_bytes())
        self._line("[green]✓[/]", name, self.seconds[name], stage.detail)

    def _line(self, sign: str, name: str, seconds: float, detail: str) -> None:
        text = f"{sign} {name:<{NAME_WIDTH}}{seconds:6.1f} s   {escape(detail)}"
        self.screen.err.print(text, soft_wrap=True) if not self.screen.as_json else None


def _memory_bytes() -> int:
    """Memory of this process and of everything it started, shared pages counted once each."""
    own = psutil.Process()
    total = 0
    for process in [own, *own.children(recursive=True)]:
        try:
            memory = process.memory_full_info()
            total += getattr(memory, "pss", 0) or memory.uss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total
