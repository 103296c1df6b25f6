"""The command that says how two versions of a view differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from penstock.plan import compare_versions, view_kind
from penstock.records import to_plain
from penstock.runtime import open_services

from .failures import UsageError
from .screen import table

if TYPE_CHECKING:
    from penstock.plan import VersionDifference
    from penstock.records import DeclarationVersion

    from .screen import Screen

__all__ = ["features_diff", "value_text"]


def features_diff(
    screen: Screen,
    view: str = typer.Argument(help="The view; it need not be declared any more."),
    first: int = typer.Option(
        0, "--from", help="The older version; the one before by default.", show_default=False
    ),
    last: int = typer.Option(
        0, "--to", help="The newer version; the newest by default.", show_default=False
    ),
) -> None:
    """Show how two versions of a view differ, with who applied them and when."""
    for option, number in (("--from", first), ("--to", last)):
        if number < 0:
            raise UsageError(f"{option} {number} is no version. They are numbered from 1.")
    with open_services(screen.home) as services:
        kind = view_kind(services.metadata, view)
        found = compare_versions(services.metadata, kind, view, first=first, last=last)
    before, after = f"version {found.before.version}", f"version {found.after.version}"
    rows = [
        (field.path, value_text(field.before), value_text(field.after)) for field in found.fields
    ]
    shown: list[object] = [f"[bold]{escape(view)}[/]", _applied(found.before)]
    if found.after != found.before:
        shown.append(_applied(found.after))
    if rows:
        shown += ["", table(["what", before, after], rows), ""]
    screen.show(to_plain(found), *shown, _verdict(found))


def value_text(value: object) -> str:
    """A value of a document for people: a dash for none, members on lines of their own."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        told = {name: item for name, item in value.items() if item not in ("", None, 0)}
        return "\n".join(f"{name}: {value_text(item)}" for name, item in told.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(value_text(item) for item in value) or "-"
    return str(value)


def _applied(version: DeclarationVersion) -> str:
    when = version.applied_at.strftime("%Y-%m-%d %H:%M:%S")
    commit = f", commit {version.commit[:12]}" if version.commit else ""
    changed = " with changes" if version.dirty else ""
    return (
        f"  version {version.version}  [dim]applied {when} by {escape(version.applied_by)}"
        f"{commit}{changed}[/]"
    )


def _verdict(found: VersionDifference) -> str:
    if found.before == found.after:
        return f"Version {found.after.version} is the first that is kept; none is before it."
    if not found.fields:
        return "They say the same."
    if found.meaning and found.declaration.startswith("on_demand_view/"):
        return "What it means has changed: what is computed on demand has other values since."
    if found.meaning:
        return "What it means has changed: its values were computed anew."
    return "Only what is said of it has changed; its values are the same."
