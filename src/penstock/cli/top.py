"""The command ``penstock top``: what serves, live."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING

import psutil
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from penstock.runtime import living_processes, open_services, read_boards

from .humanise import number, size, span
from .screen import table
from .top_figures import Figures, Reading, Usage, figures

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from rich.table import Table

    from penstock.runtime import LocalServices

    from .screen import Screen
    from .top_figures import DeploymentFigures, ProcessFigures, RouteFigures

__all__ = ["top"]

EVERY_S = 1.0
WINDOW_S = 2.5  # processes tell of themselves once a second
HISTORY = 30
BARS = "▁▂▃▄▅▆▇█"
SLOW_MS = 100.0
BUSY = 0.9
LAGGING_S = 30.0
SORTS: Mapping[str, tuple[str, Callable[[RouteFigures], object]]] = {
    "n": ("name", lambda one: (one.deployment, one.route, one.version)),
    "r": ("rate", lambda one: -one.per_s),
    "p": ("p99", lambda one: -(one.p99_ms or 0.0)),
    "e": ("errors", lambda one: -one.errors_per_s),
}
KEYS = "[dim]sort by[/] n[dim]ame[/] r[dim]ate[/] p[dim]99[/] e[dim]rrors[/]   q[dim]uit[/]"


def top(
    screen: Screen,
    once: bool = typer.Option(False, "--once", help="Show one frame and end."),
    every: float = typer.Option(
        EVERY_S, "--every", min=0.2, max=60, help="Seconds between frames."
    ),
) -> None:
    """Show what serves, live."""
    with open_services(screen.home) as services:
        if once or screen.as_json or not screen.out.is_terminal:
            before = _read(services)
            time.sleep(WINDOW_S)
            found = figures(before, _read(services))
            screen.show(found, *_parts(found, "n", {}))
            return
        _live(screen, services, every)


def _live(screen: Screen, services: LocalServices, every_s: float) -> None:
    readings = deque([_read(services)])
    history: dict[tuple[str, str, int], deque[float]] = {}
    sort = "n"
    with (
        _keys() as pressed,
        Live(console=screen.out, screen=True, auto_refresh=False) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        wait_s = min(every_s, EVERY_S)
        while True:
            key = pressed(wait_s)
            if key == "q":
                return
            if key in SORTS:
                sort = key
            wait_s = every_s
            now = _read(services)
            while len(readings) > 1 and readings[1].at_s <= now.at_s - WINDOW_S:
                readings.popleft()
            found = figures(readings[0], now)
            readings.append(now)
            for one in found.routes:
                kept = history.setdefault(_key(one), deque(maxlen=HISTORY))
                kept.append(one.per_s)
            live.update(Group(*_parts(found, sort, history), "", KEYS), refresh=True)


@contextlib.contextmanager
def _keys() -> Generator[Callable[[float], str]]:
    """Wait for a key, or so many seconds; keys arrive as they are pressed, and are not shown."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    tty.setcbreak(handle)

    def pressed(wait_s: float) -> str:
        ready, _, _ = select.select([handle], [], [], wait_s)
        return os.read(handle, 1).decode("latin-1").lower() if ready else ""

    try:
        yield pressed
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def _no_key(wait_s: float) -> str:
    time.sleep(wait_s)
    return ""


def _read(services: LocalServices) -> Reading:
    """What there is to see now."""
    serving = read_boards(services.layout.serving)
    told = {one.process_id for one in serving}
    others: list[Usage] = []
    for one in living_processes(services):
        if one.process_id in told or one.process_id == os.getpid():
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(one.process_id)
            times = process.cpu_times()
            others.append(
                Usage(
                    kind=one.kind,
                    process_id=one.process_id,
                    address=one.address,
                    started_at_s=one.started_at.timestamp(),
                    cpu_s=times.user + times.system,
                    memory_bytes=process.memory_info().rss,
                )
            )
    return Reading(services.clock.now_us() / 1e6, serving, others)


def _parts(
    found: Figures, sort: str, history: Mapping[tuple[str, str, int], Sequence[float]]
) -> list[RenderableType]:
    """The frame, from above to below."""
    if not found.processes:
        return ["Nothing runs on this project. Start it with 'penstock up'."]
    serving = [one for one in found.processes if one.kind == "serve"]
    rate = sum(one.per_s for one in found.routes if one.route != "shadow")
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    head = f"[bold]penstock top[/]  {now}   [bold]{_rate(rate)}[/] answers/s"
    parts: list[RenderableType] = [head, ""]
    if found.routes:
        ordered = sorted(found.routes, key=lambda one: (SORTS[sort][1](one), _key(one)))
        parts += [_routes(ordered, history), "", _deployments(found.deployments), ""]
    elif serving:
        parts += ["[dim]Nothing is deployed: penstock deploy NAME[/]", ""]
    return [*parts, _processes(found.processes)]


def _routes(
    rows: Sequence[RouteFigures], history: Mapping[tuple[str, str, int], Sequence[float]]
) -> Table:
    right = ["answers/s", "p50 ms", "p99 ms", "batch", "queue", "errors/s"]
    names = ["deployment", "route", "version", "engine", "answers/s", "", "p50 ms", "p99 ms"]
    made = table([*names, "batch", "queue", "errors/s", "circuit"], [], right=right)
    for one in rows:
        quiet = "" if one.per_s or one.errors_per_s else "dim"
        made.add_row(
            one.deployment,
            Text(one.route, style=_ROUTES.get(one.route, "")),
            f"{one.model}@{one.version}" if one.version else "constant",
            one.engine,
            Text(_rate(one.per_s), style="bold"),
            Text(_spark(history.get(_key(one), ())), style="cyan"),
            number(one.p50_ms, 2),
            Text(number(one.p99_ms, 2), style="yellow" if (one.p99_ms or 0) > SLOW_MS else ""),
            number(one.batch_rows, 1),
            str(one.queue_rows),
            Text(_rate(one.errors_per_s), style="bold red" if one.errors_per_s else ""),
            Text("open", style="bold red") if one.is_open else Text("closed", style="green"),
            style=quiet,
        )
    return made


_ROUTES = {"champion": "green", "challenger": "magenta", "shadow": "blue", "fallback": "yellow"}


def _deployments(rows: Sequence[DeploymentFigures]) -> Table:
    right = ["score log waiting", "lag"]
    made = table(["deployment", "score log waiting", "lag", "fallbacks/s"], [], right=right)
    for one in rows:
        causes = ", ".join(
            f"{cause.replace('_', ' ')} {_rate(rate)}"
            for cause, rate in one.fallbacks_per_s.items()
        )
        made.add_row(
            one.deployment,
            size(one.log_waiting_bytes),
            Text(span(one.log_lag_s), style="yellow" if one.log_lag_s > LAGGING_S else ""),
            Text(causes or "-", style="yellow" if causes else "dim"),
        )
    return made


def _processes(rows: Sequence[ProcessFigures]) -> Table:
    right = ["pid", "up", "cpu", "memory", "requests/s", "refused/s"]
    names = ["process", "pid", "address", "up", "cpu", "memory", "requests/s", "refused/s"]
    made = table(names, [], right=right)
    for one in rows:
        refused = one.refused_per_s or 0.0
        made.add_row(
            one.kind if one.worker is None else f"{one.kind} {one.worker}",
            str(one.process_id),
            one.address,
            span(one.up_s),
            Text(f"{one.cpu:.0%}", style="yellow" if one.cpu > BUSY else ""),
            size(one.memory_bytes),
            "-" if one.requests_per_s is None else _rate(one.requests_per_s),
            Text(
                "-" if one.refused_per_s is None else _rate(refused), style="red" if refused else ""
            ),
        )
    return made


def _key(one: RouteFigures) -> tuple[str, str, int]:
    return one.deployment, one.route, one.version


def _rate(value: float) -> str:
    """A rate: with a digit where it is small, without where it is not."""
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"  # noqa: PLR2004


def _spark(values: Sequence[float]) -> str:
    """The rates of the last frames as bars, the newest at the right."""
    most = max(values, default=0.0)
    if not most:
        return " " * HISTORY if values else ""
    bars = [BARS[min(len(BARS) - 1, int(value / most * len(BARS)))] for value in values]
    return "".join(bars).rjust(HISTORY)
