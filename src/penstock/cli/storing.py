"""The command that stores features at many times."""

from __future__ import annotations

import typer

from penstock.features import Wanted, backfill, known_span, parts_of
from penstock.plan import Catalogue
from penstock.spec import duration_us

from .failures import UsageError
from .humanise import count
from .opening import opened_as
from .screen import Screen, table
from .times import time_us

__all__ = ["features_backfill"]


def features_backfill(
    screen: Screen,
    view: str = typer.Argument(help="The feature view."),
    start: str = typer.Option(
        "", "--from", help="From this time on, such as 2024-03-01; the first record by default."
    ),
    end: str = typer.Option("", "--to", help="Before this time; just after the last by default."),
    every: str = typer.Option(
        "", "--every", help="At each multiple of this, such as 1h; at each record by default."
    ),
) -> None:
    """Store a view's features as of many times, and again only what new records change."""
    every_us = _every(every)
    start_us, end_us = time_us("--from", start), time_us("--to", end)
    with opened_as(screen, "writer") as services:
        found = Catalogue.load(services.metadata).view(view)
        first_us, last_us = known_span(services.tables, found)
        wanted = Wanted(
            from_us=first_us if start_us is None else start_us,
            until_us=last_us + 1 if end_us is None else end_us,
            every_us=every_us,
        )
        with screen.progress("backfill") as report:
            result = backfill(
                services.tables,
                services.locks,
                found,
                wanted,
                memory_bytes=services.features_memory_bytes,
                parts=parts_of(services, f"backfill/{found.name}"),
                progress=report,
            )
    columns = ["view", "table", "last batch", "computed", "recomputed", "kept"]
    row = [
        result.view,
        result.table,
        *(count(n) for n in (result.last_batch, result.computed, result.recomputed, result.kept)),
    ]
    screen.show(result, table(columns, [row], right=columns[2:]))


def _every(text: str) -> int:
    try:
        every_us = duration_us(text) if text else 0
    except ValueError as error:
        raise UsageError(f"--every: {error}", every=text) from None
    if text and every_us <= 0:
        raise UsageError(f"--every {text!r} is no time. Give one such as 1h.", every=text)
    return every_us
