"""The command about what happened: the events of the platform, and those to come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NoReturn, get_args

import typer
from rich.text import Text

from penstock.control import happened_after, newest_happened
from penstock.errors import nearest
from penstock.records import EventKind
from penstock.runtime import open_services

from .failures import UsageError
from .humanise import ago, pairs
from .screen import Screen, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.control import Happened
    from penstock.ports import EventLog

__all__ = ["events"]

POLL_S = 0.5
PAGE = 1_000
KINDS = get_args(EventKind)


def events(
    screen: Screen,
    kind: str = typer.Option("", "--kind", help="Only these, such as scores.ready."),
    after: int | None = typer.Option(
        None, "--after", min=0, help="Those after this cursor; the newest when left out."
    ),
    limit: int = typer.Option(20, "--limit", min=1, max=1000, help="At most so many."),
    follow: bool = typer.Option(
        False, "--follow", help="Go on with each that comes; without --after, new ones alone."
    ),
) -> None:
    """List events, or follow them."""
    if kind and kind not in KINDS:
        raise UsageError(f"There is no kind {kind!r}. {nearest(kind, KINDS)}", kind=kind)
    with open_services(screen.home) as services:
        if follow:
            _follow(screen, services.log, kind, after)
        if after is None:
            page = newest_happened(services.log, limit=limit, kind=kind)
        else:
            page = happened_after(services.log, after=after, limit=limit, kind=kind)
        now = services.clock.now()
    rows = [
        (one.cursor, ago(one.at, now), one.kind, one.subject, pairs(one.ids)) for one in page.events
    ]
    columns = ["cursor", "when", "kind", "about", "ids"]
    more = f"[dim]There is more: --after {page.next}[/]" if page.next < page.end else ""
    shown = table(columns, rows, right=["cursor"]) if rows else "No such event yet."
    screen.show(page, shown, *([more] if more else []))


def _follow(screen: Screen, log: EventLog, kind: str, after: int | None) -> NoReturn:
    """Show each event as it comes, until the command is interrupted."""
    place = newest_happened(log, limit=1).end if after is None else after
    while True:
        page = happened_after(log, after=place, limit=PAGE, kind=kind)
        place = page.next
        _lines(screen, page.events)
        if place == page.end:
            time.sleep(POLL_S)


def _lines(screen: Screen, found: Sequence[Happened]) -> None:
    for one in found:
        if screen.as_json:
            screen.line(one)
        else:
            at = one.at.isoformat(timespec="milliseconds")
            text = f"{one.cursor}  {at}  {one.kind}  {one.subject}  {pairs(one.ids)}"
            screen.out.print(Text(text), soft_wrap=True)
            screen.out.file.flush()
