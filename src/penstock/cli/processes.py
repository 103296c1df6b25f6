"""The commands that run processes: api, worker, stream, serve, and up, which supervises them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import typer

from penstock.runtime import ProcessStatus, run_stream, run_worker
from penstock.runtime import up as supervise

from .screen import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .screen import Screen

__all__ = ["Board", "api", "serve", "stream", "up", "worker"]

HOST = typer.Option("", "--host", help="Address to bind to; loopback unless the settings say so.")
PORT = typer.Option(0, "--port", help="Port; the settings' when left out.", min=0, max=65535)
WORKERS = typer.Option(
    0,
    "--workers",
    help="Processes that share the port; the settings' when left out.",
    min=0,
    max=64,
)
DOORS = "penstock.http"  # one door does not import another: it starts it by name, as `up` does


def api(screen: Screen, host: str = HOST, port: int = PORT) -> None:
    """Run the control plane."""
    import_module(DOORS).api(screen.home, host=host or None, port=port or None)


def serve(screen: Screen, host: str = HOST, port: int = PORT, workers: int = WORKERS) -> None:
    """Run online scoring."""
    import_module(DOORS).serve(
        screen.home, host=host or None, port=port or None, workers=workers or None
    )


def worker(screen: Screen) -> None:
    """Run workflows."""
    run_worker(screen.home)


def stream(screen: Screen) -> None:
    """Take events in."""
    run_stream(screen.home)


def up(screen: Screen) -> None:
    """Start and supervise all processes."""
    supervise(screen.home, on_change=Board(screen))


class Board:
    """One screen saying what runs where; each later change on a line of its own.

    Args:
        screen: Where it is shown; as JSON, every change is a line with all statuses.
    """

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.shown = False
        self.states: dict[str, str] = {}

    def __call__(self, statuses: Sequence[ProcessStatus]) -> None:
        """Show what has changed."""
        if self.screen.as_json:
            self.screen.line(list(statuses))
            return
        changed = [one for one in statuses if self.states.get(one.name) != one.state]
        self.states |= {one.name: one.state for one in statuses}
        if not self.shown and all(status.state == "ready" for status in statuses):
            self.shown = True
            self._board(statuses)
            return
        for status in changed:
            self._change(status)

    def _board(self, statuses: Sequence[ProcessStatus]) -> None:
        rows = [(s.name, s.state, s.process_id, s.address or "-") for s in statuses]
        self.screen.out.print(table(["process", "state", "pid", "address"], rows, right=["pid"]))
        where = self.screen.home / ".penstock"
        self.screen.out.print(f"Token: {where / 'token'}   Logs: {where / 'logs'}   Stop: Ctrl-C")

    def _change(self, status: ProcessStatus) -> None:
        """Tell what goes otherwise than it should, and the end."""
        if status.state == "restarting":
            self.screen.err.print(f"[red]✗[/] {status.name} died: {status.detail}")
        elif self.shown and status.state in {"ready", "stopped"}:
            self.screen.err.print(f"{status.name} {status.state}")
