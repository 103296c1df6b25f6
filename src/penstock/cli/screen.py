"""What commands write to: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from penstock.records import to_plain

__all__ = ["Report", "Screen", "table"]

Report = Callable[[str, float], None]
"""(what is being done, share done from 0 to 1)."""

PLAIN_EVERY_S = 1.0
SAME_STAGE_EVERY_S = 10.0
PIPE_WIDTH = 160


class Screen:
    """Where a command finds its options and writes its answer.

    Attributes:
        home: The project folder.
        home_given: Whether it was named; else it is the current folder.
        as_json: Whether the answer is JSON.
        traceback: Whether an unexpected error shows its traceback.
        out: Standard output: the answer, nothing else.
        err: Standard error: progress, hints, errors.
    """

    def __init__(self, *, home: str = "", as_json: bool = False, traceback: bool = False) -> None:
        self.home_given = bool(home)
        self.home = Path(home).expanduser().absolute()
        self.as_json = as_json
        self.traceback = traceback
        self.out = Console(width=_width(sys.stdout), highlight=False)
        self.err = Console(width=_width(sys.stderr), highlight=False, stderr=True)

    def show(self, value: object, *shown: object) -> None:
        """Give the answer: ``value`` as JSON when that was asked for, else what is ``shown``.

        Args:
            value: Plain JSON values, records or frozen values.
            shown: Texts and rich renderables, one after the other.
        """
        if self.as_json:
            text = json.dumps(to_plain(value), indent=2, ensure_ascii=False)
            self.out.file.write(text + "\n")
            self.out.file.flush()
            return
        for item in shown:
            self.out.print(item)

    def hint(self, *shown: object) -> None:
        """Add to the answer what is for people only; silent when the answer is JSON."""
        if not self.as_json:
            for item in shown:
                self.out.print(item)

    def line(self, value: object) -> None:
        """Give one of several JSON answers, on a line of its own."""
        self.out.file.write(json.dumps(to_plain(value), ensure_ascii=False) + "\n")
        self.out.file.flush()

    def say(self, text: str) -> None:
        """Say something in passing, on standard error; silent when the answer is JSON."""
        if not self.as_json:
            self.err.print(text, soft_wrap=True)

    @contextmanager
    def progress(self, title: str) -> Generator[Report]:
        """Show how far work has come: a bar on a terminal, else lines."""
        if self.as_json:
            yield _silent
        elif self.err.is_terminal:
            with _bar(self.err) as bar:
                task = bar.add_task(escape(title), total=1.0)
                yield lambda what, share: bar.update(
                    task, description=escape(f"{title}: {what}"), completed=share
                )
        else:
            yield _Lines(self.err, title)


class _Lines:
    """Progress without a terminal: a line for a new stage, and now and then in a long one."""

    def __init__(self, console: Console, title: str) -> None:
        self.console, self.title = console, title
        self.began = self.last = time.monotonic()
        self.stage = ""

    def __call__(self, what: str, share: float) -> None:
        now = time.monotonic()
        quiet_s = PLAIN_EVERY_S if what != self.stage else SAME_STAGE_EVERY_S
        if now - self.last >= quiet_s:
            self.last, self.stage = now, what
            self.console.print(
                f"{self.title}: {share:4.0%} {what} ({now - self.began:.0f} s)", markup=False
            )


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str = "",
    right: Sequence[str] = (),
) -> Table:
    """A table in the one style of all commands.

    Args:
        columns: Headings.
        rows: Cells; shown as text, those of rich's ``Text`` in their own style.
        title: Above the table.
        right: Columns whose cells are numbers.
    """
    made = Table(
        title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False,
        header_style="dim", padding=(0, 2, 0, 0),
    )  # fmt: skip
    for name in columns:
        made.add_column(
            name, justify="right" if name in right else "left", overflow="fold", no_wrap=False
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else escape(str(cell)) for cell in row))
    return made


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _silent(what: str, share: float) -> None:
    del what, share


def _width(stream: object) -> int | None:
    """Rich asks a terminal for its width; a file or pipe gets a fixed, roomy one."""
    terminal = getattr(stream, "isatty", lambda: False)()
    return None if terminal else PIPE_WIDTH
