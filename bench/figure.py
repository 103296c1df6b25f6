"""What a benchmark reports, and how it is measured and shown."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, ParamSpec, TypeVar

import msgspec
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

__all__ = [
    "Apart", "Figure", "Unit", "alternate", "apart", "compared", "peak_mb", "show",
    "timed",
]  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")
Unit = Literal["s", "ms", "us", "MB", "1/s", "rows/s", "values"]
RATES = frozenset({"1/s", "rows/s"})
"""Units of what is better when greater."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement beside its baseline.

    Attributes:
        what: What was measured.
        ours: Penstock's value.
        unit: Unit of both values; ``1/s`` and ``rows/s`` are better when greater, all others when
            smaller.
        baseline: The baseline's value; none where the budget is absolute.
        baseline_name: What the baseline is.
        budget: Bound on ``ours / baseline``, or on ``ours`` where it is absolute.
        absolute: Whether the budget is on ``ours`` although there is a baseline.
        spread: Smallest and greatest of the runs.
        note: What a reader should know.
        curve: What it is a point of, where many figures tell how one thing grows.
        at: Where it lies on that curve.
    """

    what: str
    ours: float
    unit: Unit
    baseline: float | None = None
    baseline_name: str = ""
    budget: float | None = None
    absolute: bool = False
    spread: tuple[float, float] | None = None
    note: str = ""
    curve: str = ""
    at: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over the baseline's."""
        return self.ours / self.baseline if self.baseline else None

    @property
    def holds(self) -> bool | None:
        """Whether the budget holds; none without a budget."""
        if self.budget is None:
            return None
        value = self.ours if self.ratio is None or self.absolute else self.ratio
        return value >= self.budget if self.unit in RATES else value <= self.budget


def timed(call: Callable[[], object]) -> float:
    """Seconds that one call takes, with the garbage collector held back."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    finally:
        gc.enable()


class Apart(NamedTuple, Generic[T]):
    """What was done in a process of its own.

    Attributes:
        found: What it returned.
        peak_mb: Greatest resident size of the process.
    """

    found: T
    peak_mb: float


def apart(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Apart[T]:
    """Call it once in a fresh process, so that its peak of memory is that of the call."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return Apart(pool.apply(call, args, kwargs), pool.apply(peak_mb))


def peak_mb(process: int | Literal["self"] = "self") -> float:
    """Greatest resident size of a process so far.

    What ``getrusage`` tells begins with what the parent had.
    """
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def alternate(
    ours: Callable[[], object], baseline: Callable[[], object], *, runs: int
) -> tuple[list[float], list[float]]:
    """Time two calls in turn, so that noise meets both alike; the first round warms up.

    Returns:
        Seconds of each run of ours, and of the baseline.
    """
    mine: list[float] = []
    theirs: list[float] = []
    for round_number in range(runs + 1):
        one, other = timed(ours), timed(baseline)
        if round_number:
            mine.append(one)
            theirs.append(other)
    return mine, theirs


def compared(  # noqa: PLR0913 - a row has that many cells
    what: str,
    times: tuple[Sequence[float], Sequence[float]],
    *,
    unit: Unit,
    scale: float,
    baseline_name: str,
    budget: float | None,
    note: str = "",
) -> Figure:
    """Make a figure of the medians of two lists of seconds.

    Args:
        what: What was measured.
        times: Seconds of ours and of the baseline.
        unit: The unit shown.
        scale: What a second is in that unit.
        baseline_name: What the baseline is.
        budget: Bound on the ratio.
        note: What a reader should know.
    """
    mine, theirs = times
    return Figure(
        what=what,
        ours=statistics.median(mine) * scale,
        unit=unit,
        baseline=statistics.median(theirs) * scale,
        baseline_name=baseline_name,
        budget=budget,
        spread=(min(mine) * scale, max(mine) * scale),
        note=note,
    )


def show(name: str, figures: Sequence[Figure], console: Console) -> None:
    """Print a row per figure."""
    table = Table(title=name, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("what", overflow="fold")
    for column in ("ours", "baseline"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("of", overflow="fold")
    for column in ("ratio", "budget"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("holds", justify="center")
    for figure in figures:
        table.add_row(*_cells(figure))
    console.print(table)
    for figure in figures:
        if figure.note:
            console.print(f"  {figure.what}: {figure.note}", style="dim")


def _cells(figure: Figure) -> tuple[str, ...]:
    bound = ">=" if figure.unit in RATES else "<="
    budget = ""
    if figure.budget is not None:
        kind = f" {figure.unit}" if figure.ratio is None or figure.absolute else " x"
        budget = f"{bound} {_number(figure.budget)}{kind}"
    verdict = {True: "yes", False: "[bold red]NO[/]", None: ""}[figure.holds]
    return (
        figure.what,
        f"{_number(figure.ours)} {figure.unit}",
        f"{_number(figure.baseline)} {figure.unit}" if figure.baseline is not None else "",
        figure.baseline_name,
        f"{figure.ratio:.2f} x" if figure.ratio is not None else "",
        budget,
        verdict,
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
