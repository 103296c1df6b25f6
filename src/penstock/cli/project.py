"""The commands that make a project and say what is in it: init, plan, apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from penstock.plan import apply as apply_project
from penstock.plan import preview
from penstock.records import AppliedProject
from penstock.runtime import code_version, init_project, load_project, open_services

from .opening import opened_as
from .screen import Screen, table

if TYPE_CHECKING:
    from rich.table import Table

    from penstock.plan import Plan

__all__ = ["apply", "init", "plan"]

SIGNS = {
    "create": "[green]+ create[/]",
    "change": "[yellow]~ change[/]",
    "remove": "[red]- remove[/]",
    "stale": "[cyan]! stale[/]",
}


def init(screen: Screen) -> None:
    """Make the folder a project."""
    token = init_project(screen.home)
    made = {"home": str(screen.home), "token": str(token)}
    screen.show(
        made,
        f"[green]✓[/] {screen.home} is a project folder.",
        f"  The local administrator's token is in {token}; the commands use it by themselves.",
        "  Next: declare what it is made of in its project.py, then 'penstock plan' and "
        "'penstock apply'.",
    )


def plan(screen: Screen) -> None:
    """Show what applying would do."""
    project = load_project(screen.home)
    with open_services(screen.home) as services:
        found = preview(services.metadata, project, now=services.clock.now())
    nothing = f"Project {found.project!r} is applied as declared; nothing to do."
    shown = [nothing] if found.is_empty else [_steps(found), "Apply it with 'penstock apply'."]
    screen.show(found.as_document(), *shown, *_warnings(found))


def apply(screen: Screen) -> None:
    """Apply the declarations."""
    project = load_project(screen.home)
    commit, difference = code_version(screen.home)
    with opened_as(screen, "admin") as services:
        done = apply_project(
            services.metadata,
            project,
            actor=services.actor,
            now=services.clock.now(),
            commit=commit,
            dirty=bool(difference),
        )
        applied = services.metadata.read(AppliedProject, "project")
    revision = applied.revision if applied else 0
    document = done.as_document() | {"revision": revision}
    if done.is_empty:
        text = f"Nothing changed; project {done.project!r} stays at revision {revision}."
        screen.show(document, text, *_warnings(done))
    else:
        text = f"[green]✓[/] Project {done.project!r} is applied, revision {revision}."
        screen.show(document, _steps(done), text, *_warnings(done))


def _steps(found: Plan) -> Table:
    made = table(["", "kind", "name", "what"], [])
    for row in found.as_rows():
        kind = row["kind"].replace("_", " ")
        made.add_row(SIGNS.get(row["step"], row["step"]), kind, row["name"], row["detail"])
    return made


def _warnings(found: Plan) -> list[str]:
    return [f"[yellow]![/] {escape(warning)}" for warning in found.warnings]
