"""The commands that look into the feature catalogue: list and search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from penstock.control import list_features
from penstock.plan import ServiceEntry, search
from penstock.records import to_plain
from penstock.runtime import open_services

from .failures import UsageError
from .humanise import plural, span
from .screen import Screen, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from penstock.control import Listing, ViewState
    from penstock.plan import FeatureEntry, Found

__all__ = ["features_list", "features_search", "online_text"]

SHOWN = 20


def features_list(  # noqa: PLR0913, PLR0917 - one parameter for each option
    screen: Screen,
    tag: list[str] = typer.Option([], "--tag", help="With this tag; may be given several times."),
    owner: str = typer.Option("", "--owner", help="That they answer for."),
    view: str = typer.Option("", "--view", help="Of this view."),
    unused: bool = typer.Option(False, "--unused", help="That nobody reads."),
    deprecated: bool = typer.Option(False, "--deprecated", help="That are deprecated."),
) -> None:
    """List every feature and feature service, with who answers for it and how many use it."""
    with open_services(screen.home) as services:
        everything = list_features(services)
    found = everything.where(tags=tag, owner=owner, view=view, unused=unused, deprecated=deprecated)
    shown: list[object] = [_features(found)] if found.features else []
    if found.services:
        shown += [_services(found.services)]
    screen.show(to_plain(found), *(shown or ["There is none."]))
    screen.hint(_counted(found, everything))
    if found.unread:
        screen.say(
            f"What {', '.join(found.unread)} reads is not counted: its manifest cannot be read."
        )


def features_search(
    screen: Screen,
    words: list[str] = typer.Argument(help="What to look for; slips of the hand are forgiven."),
    limit: int = typer.Option(SHOWN, "--limit", min=1, help="At most so many."),
) -> None:
    """Find features and feature services by words of all that is said of them, the best first."""
    question = " ".join(words)
    if not any(letter.isalnum() for letter in question):
        raise UsageError(f"{question!r} has no word to look for. Give one, such as 'price'.")
    with open_services(screen.home) as services:
        everything = list_features(services)
    found = search([*everything.features, *everything.services], question)
    if not found:
        screen.show([], f"Nothing is said of {question!r}. 'penstock features list' shows all.")
        return
    screen.show(to_plain(found[:limit]), _hits(found[:limit]))
    if len(found) > limit:
        screen.hint(f"[dim]and {len(found) - limit:,} more; --limit shows them[/]")


def online_text(state: ViewState | None) -> str:
    """How a view stands online, in words: ``"fresh, 5 min"``."""
    if state is None:
        return "on demand"
    age = "" if state.age_us is None else f", {span(state.age_us / 1e6)}"
    return f"{state.state}{age}"


def _features(found: Listing) -> Table:
    states = {state.view: state for state in found.states}
    columns = ["feature", "type", "unit", "owner", "tags", "online", "used by", "deprecated"]
    rows = [
        (
            one.name,
            one.dtype,
            one.unit,
            one.owner,
            ", ".join(one.tags),
            online_text(states.get(one.view)),
            len(one.used_by),
            _deprecated(one),
        )
        for one in found.features
    ]
    return table(columns, rows, right=["used by"])


def _services(services: Sequence[ServiceEntry]) -> Table:
    columns = ["service", "features", "owner", "tags", "used by"]
    rows = [
        (one.name, len(one.features), one.owner, ", ".join(one.tags), len(one.used_by))
        for one in services
    ]
    return table(columns, rows, title="Feature services", right=["features", "used by"])


def _deprecated(one: FeatureEntry) -> str:
    instead = f", use {one.instead}" if one.instead else ""
    return f"{one.deprecated}{instead}"


def _counted(found: Listing, everything: Listing) -> str:
    some, every = len(found.features), len(everything.features)
    if some == every:
        return f"[dim]{plural(every, 'feature')} of {plural(len(_views(everything)), 'view')}[/]"
    return f"[dim]{some:,} of {plural(every, 'feature')}[/]"


def _views(found: Listing) -> Mapping[str, None]:
    return dict.fromkeys(one.view for one in found.features)


def _hits(found: Sequence[Found]) -> Table:
    columns = ["", "what it is", "description", "unit", "owner", "tags", "found in"]
    rows = [
        (
            one.entry.name,
            _meaning(one.entry),
            one.entry.description,
            "" if isinstance(one.entry, ServiceEntry) else one.entry.unit,
            one.entry.owner,
            ", ".join(one.entry.tags),
            ", ".join(dict.fromkeys(one.places.values())),
        )
        for one in found
    ]
    return table(columns, rows)


def _meaning(entry: FeatureEntry | ServiceEntry) -> str:
    if isinstance(entry, ServiceEntry):
        return f"service of {plural(len(entry.features), 'feature')}"
    return entry.meaning
