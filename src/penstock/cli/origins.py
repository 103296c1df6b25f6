"""The commands about origins: lineage and replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.tree import Tree

from penstock.control import lineage as lineage_of
from penstock.control import replay as replay_score
from penstock.records import ALL_WITHHELD
from penstock.runtime import open_services

from .failures import FAILED
from .humanise import number, pairs
from .screen import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.control import Link, Replay

    from .screen import Screen

__all__ = ["grow", "lineage", "replay"]

SHOWN_LINKS = 12
DIGITS = 9


def lineage(
    screen: Screen,
    identifier: str = typer.Argument(
        help="A prediction id, MODEL@VERSION, dataset id, batch id, run id, view or source file."
    ),
) -> None:
    """Show where something comes from and what was made of it."""
    with open_services(screen.home) as services:
        found = lineage_of(services, identifier)
    tree = Tree(_label(found.kind, found.id, pairs(found.detail)))
    for heading, links in (("comes from", found.comes_from), ("leads to", found.leads_to)):
        if links:
            grow(tree.add(f"[dim]{heading}[/]"), links)
    screen.show(found, tree)


def replay(
    screen: Screen, prediction_id: str = typer.Argument(help="Id of the prediction.")
) -> None:
    """Compute a prediction again."""
    with open_services(screen.home) as services:
        found = replay_score(services, prediction_id)
    rows = [
        ("as it was answered", number(found.logged, DIGITS)),
        ("from the logged features", number(found.from_stored, DIGITS)),
        ("from raw data", number(found.from_raw, DIGITS)),
    ]
    rows += [(f"  {part.name}", number(part.again, DIGITS)) for part in found.parts]
    title = f"{found.prediction_id}  {found.version or 'a constant'}"
    screen.show(found, table(["", "prediction"], rows, title=title, right=["prediction"]))
    screen.hint(*_verdict(found), *_withheld(found), *_hidden(found))
    if not found.same:
        raise typer.Exit(FAILED)


def grow(tree: Tree, links: Sequence[Link]) -> None:
    """Add links with what is below them to a tree, the first of many alone."""
    for link in links[:SHOWN_LINKS]:
        grow(tree.add(_label(link.kind, link.id, pairs(link.detail))), link.links)
    if len(links) > SHOWN_LINKS:
        tree.add(f"[dim]and {len(links) - SHOWN_LINKS:,} more; --json shows all[/]")


def _label(kind: str, name: str, detail: str) -> str:
    return f"[bold]{kind}[/] {escape(name)}  [dim]{escape(detail)}[/]"


def _verdict(found: Replay) -> list[object]:
    if found.same:
        return ["[green]✓[/] The same again."]
    differing = [
        (feature.name, number(feature.logged, DIGITS), number(feature.raw, DIGITS))
        for feature in found.features
        if not feature.same
    ]
    causes = [(cause.kind, cause.reason) for cause in found.causes]
    shown: list[object] = ["[red]✗[/] It differs, because of:", table(["cause", "why"], causes)]
    if differing:
        columns = ["feature", "logged", "from raw data"]
        shown.append(table(columns, differing, right=columns[1:]))
    return shown


def _withheld(found: Replay) -> list[str]:
    """Say which features the score log does not store."""
    if not found.withheld:
        return []
    names = "The features" if found.withheld == ALL_WITHHELD else found.withheld.replace(",", ", ")
    return [f"[dim]{names} were not stored, as the deployment declares: see raw data alone.[/]"]


def _hidden(found: Replay) -> list[str]:
    """Say which features were compared and are not shown."""
    if not found.hidden:
        return []
    names = ", ".join(found.hidden)
    return [f"[dim]Compared, protected from you and not shown: {names}. See 'access list'.[/]"]
