"""The commands about graphs: list, show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from penstock.control import graph_names, graph_state
from penstock.runtime import open_services

from .screen import Screen, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.control import GraphState, GraphStepState

__all__ = ["graphs_list", "graphs_show"]

GRAPH = typer.Argument(help="GRAPH, or GRAPH@VERSION, GRAPH@candidate and the other aliases.")


def graphs_list(screen: Screen) -> None:
    """List graphs."""
    with open_services(screen.home) as services:
        found = [graph_state(services, name) for name in graph_names(services.metadata)]
    rows = [
        (
            one.name,
            one.version or "-",
            ", ".join(one.roles) or "-",
            len(one.steps),
            ", ".join(dict.fromkeys(step.pinned for step in one.steps if step.pinned)) or "-",
            ", ".join(one.moved) or "-",
        )
        for one in found
    ]
    columns = ["graph", "version", "alias", "steps", "pinned to", "moved"]
    empty = "No graph is declared. See docs/guides/graphs.md."
    screen.show(found, table(columns, rows, right=["steps"]) if rows else empty)


def graphs_show(screen: Screen, graph: str = GRAPH) -> None:
    """Show the steps of a graph."""
    with open_services(screen.home) as services:
        found = graph_state(services, graph)
    by_name = {step.name: step for step in found.steps}
    told: set[str] = set()
    # What leads to no other stands beside the answer: it explains a step.
    ends = [found.output, *(step.name for step in found.steps if step.name in found.explainers)]
    rows = [row for name in ends for row in _rows(by_name, name, "", "", told)]
    title = found.version or f"{found.name}, without a version yet"
    if found.roles:
        title += f"  {', '.join(found.roles)}"
    screen.show(found, table(["step", "what", "pinned", "now"], rows, title=title))
    screen.hint(*_hints(found))


def _rows(
    steps: Mapping[str, GraphStepState], name: str, first: str, rest: str, told: set[str]
) -> Iterator[tuple[str, str, str, str]]:
    """A row for a step and for each below it, in the lines of a tree; what it reads only once."""
    step = steps[name]
    # Square brackets in a condition are no markup, and blanks at the beginning hold the tree.
    label = f"{first}{name}"
    if name in told:
        yield label, "see above", "", ""
        return
    told.add(name)
    newer = step.now if step.now != step.pinned else ""
    yield label, escape(step.what), step.pinned or ("-" if step.now else ""), newer
    below = [one for one in step.reads if one in steps]
    for one in below:
        last = one == below[-1]
        yield from _rows(
            steps, one, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), told
        )


def _hints(found: GraphState) -> list[str]:
    train = f"'penstock train {found.name}' makes a version"
    if not found.version:
        before = [f"'penstock train {name}'" for name in found.lacking]
        first = f"First {' and '.join(before)}; then {train}." if before else f"{train}."
        return [f"[dim]{first}[/]"]
    hints: list[str] = []
    if found.changed:
        hints.append(f"[yellow]![/] The graph is declared otherwise now; {train} of it.")
    if found.moved:
        names = ", ".join(dict.fromkeys(s.now for s in found.steps if s.name in found.moved))
        hints.append(f"[yellow]![/] Its models have moved to {names}; {train} with that.")
    return hints
