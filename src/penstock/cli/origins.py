"""The commands about origins: lineage and replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from penstock.control import lineage as lineage_of
from penstock.control import replay as replay_score
from penstock.runtime import open_services

if TYPE_CHECKING:
    from .screen import Screen

__all__ = ["lineage", "replay"]


def lineage(
    screen: Screen,
    identifier: str = typer.Argument(
        help="A prediction id, MODEL@VERSION, dataset id, batch id, run id or source file."
    ),
) -> None:
    """Show where something comes from and what was made of it."""
    with open_services(screen.home) as services:
        found = lineage_of(services, identifier)
    screen.show(found, found)


def replay(
    screen: Screen, prediction_id: str = typer.Argument(help="Id of the prediction.")
) -> None:
    """Compute a prediction again."""
    with open_services(screen.home) as services:
        found = replay_score(services, prediction_id)
    screen.show(found, found)
