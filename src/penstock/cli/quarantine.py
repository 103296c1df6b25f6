"""The command that shows the records that broke a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from penstock.ingest import quarantined_records
from penstock.plan import Catalogue

from .humanise import ago, plural
from .opening import opened_as
from .screen import Screen, table

if TYPE_CHECKING:
    from penstock.ingest import QuarantinedRecord

__all__ = ["data_quarantine"]

SHOWN = 20
LONGEST = 400


def data_quarantine(
    screen: Screen,
    source: str = typer.Argument(help="The source."),
    reason: str = typer.Option(
        "", "--reason", help="Only those that broke this rule, such as positive or dtype(close)."
    ),
    batch: str = typer.Option("", "--batch", help="Only those of this batch.", metavar="ID"),
    limit: int = typer.Option(SHOWN, "--limit", min=1, help="At most so many."),
) -> None:
    """Show the records that broke a rule, as they came; for admins."""
    with opened_as(screen, "admin") as services:  # they are raw, with what is protected in them
        declared = Catalogue.load(services.metadata).source(source)
        found = quarantined_records(services, declared, reason=reason, batch_id=batch, limit=limit)
        now = services.clock.now()
    if not found.records:
        of = f" for {reason!r}" if reason else ""
        of += f" of batch {batch!r}" if batch else ""
        screen.show([], f"No record of {source!r} is in quarantine{of}.")
        return
    rows = [
        (_from(one), one.row, ago(one.arrived_at, now), ", ".join(one.reasons), _text(one))
        for one in found.records
    ]
    columns = ["from", "row", "came", "why", "record"]
    screen.show(found.records, table(columns, rows, right=["row"]))
    rest = found.total - len(found.records)
    if rest:
        screen.hint(f"[dim]and {rest:,} more; --limit shows them[/]")
    why = ", ".join(f"{name}: {count:,}" for name, count in found.reasons.items())
    screen.hint(f"[dim]{plural(found.total, 'record')}: {why}[/]")


def _from(one: QuarantinedRecord) -> str:
    return one.origin.removeprefix("file:") or one.batch_id


def _text(one: QuarantinedRecord) -> str:
    """The record; a long one is cut, and whole in JSON."""
    return one.record if len(one.record) <= LONGEST else f"{one.record[:LONGEST]}…"
