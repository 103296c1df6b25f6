"""The command that checks a whole project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from penstock.runtime import open_services

from .checks import examine
from .failures import FAILED
from .screen import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .checks import Verdict
    from .screen import Screen

__all__ = ["doctor"]

SIGNS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "failed": "[red]✗[/]"}


def doctor(screen: Screen) -> None:
    """Check everything."""
    with open_services(screen.home) as services:
        found = examine(services)
    shown = table(["", "check", "found", "what to do"], [])
    for verdict in found:
        shown.add_row(SIGNS[verdict.state], verdict.check, verdict.found, verdict.remedy)
    screen.show(found, shown, _sum(found))
    if any(verdict.state == "failed" for verdict in found):
        raise typer.Exit(FAILED)


def _sum(found: Sequence[Verdict]) -> str:
    failed = sum(verdict.state == "failed" for verdict in found)
    warned = sum(verdict.state == "warning" for verdict in found)
    if not failed and not warned:
        return "[green]All is well.[/]"
    return f"{failed} failed, {warned} to look at, {len(found) - failed - warned} well."
