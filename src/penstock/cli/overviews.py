"""The command that shows all that is known of a view, a feature or a feature service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.tree import Tree

from penstock.control import overview
from penstock.runtime import open_services

from .catalogue import online_text
from .humanise import plural
from .origins import grow
from .profiles import by_column, days_table, newest_table
from .screen import Screen, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.control import Overview, Usage
    from penstock.plan import FeatureEntry

__all__ = ["features_show"]

VERSIONS = 10


def features_show(
    screen: Screen,
    name: str = typer.Argument(help="A view, VIEW.FEATURE, or a feature service."),
    service: bool = typer.Option(
        False, "--service", help="Of a view and a service of one name, the service."
    ),
) -> None:
    """Show what is known of a view or feature: meaning, profile, versions, users, origins."""
    with open_services(screen.home) as services:
        found = overview(services, name, service=service)
    title = f"[bold]{escape(found.feature or found.name)}[/]  [dim]{_kind(found)}[/]"
    shown: list[object] = [title, table(["", ""], list(_facts(found)))]
    if not found.feature:
        shown += ["", _features(found)]
    shown += [*_profiled(found), "", *_used(found), "", *_versions(found), "", _origins(found)]
    screen.show(found, *shown)


def _kind(found: Overview) -> str:
    kind = found.kind.replace("_", " ")
    return f"feature of the {kind} {found.name}" if found.feature else kind


def _facts(found: Overview) -> Iterator[tuple[str, str]]:
    """What is said of it, without what is not."""
    facts = _feature_facts(found.features[0]) if found.feature else _own_facts(found)
    shared = {
        "about": ", ".join(found.entities),
        "source": found.source,
        "views": ", ".join(found.views),
        "request": ", ".join(f"{name} ({dtype})" for name, dtype in found.request.items()),
        "time to live": found.ttl,
        "online": online_text(found.state) if found.state else "",
        "fresh while younger than": found.freshness,
        "id": found.service_id,
    }
    for name, text in (facts | shared).items():
        if text:
            yield name, text


def _own_facts(found: Overview) -> dict[str, str]:
    return {
        "description": found.description,
        "owner": found.owner,
        "tags": ", ".join(found.tags),
        "deprecated": _deprecated(found.deprecated, found.instead),
        "derived": "\n".join(f"{name} = {text}" for name, text in found.derive.items()),
    }


def _feature_facts(one: FeatureEntry) -> dict[str, str]:
    return {
        "what it is": one.meaning,
        "where": "\n".join(f"{name} = {text}" for name, text in one.derived.items()),
        "description": one.description or one.view_description,
        "type": one.dtype,
        "columns": ", ".join(one.columns) if len(one.columns) > 1 else "",
        "unit": one.unit,
        "owner": one.owner,
        "tags": ", ".join(one.tags),
        "deprecated": _deprecated(one.deprecated, one.instead),
    }


def _deprecated(day: str, instead: str) -> str:
    return f"from {day} on{f', use {instead}' if instead else ''}" if day else ""


def _features(found: Overview) -> object:
    columns = ["feature", "type", "unit", "what it is", "description", "owner", "tags", "used by"]
    rows = [
        (
            one.name,
            one.dtype,
            one.unit,
            one.meaning,
            one.description,
            one.owner,
            ", ".join(one.tags),
            len(one.used_by),
        )
        for one in found.features
    ]
    return table(columns, rows, right=["used by"])


def _profiled(found: Overview) -> Iterator[object]:
    """How it lay on the newest days: a feature by day, a view's columns on the last."""
    if found.kind == "feature_service":
        return
    yield ""
    for why in dict.fromkeys(found.unprofiled.values()):
        names = ", ".join(name for name, said in found.unprofiled.items() if said == why)
        yield f"[dim]{names}: no profile, since {why}[/]"
    if found.hidden:
        yield f"[dim]how {', '.join(found.hidden)} lies is protected[/]"
    if found.profiles and found.feature:
        yield from map(days_table, by_column(found.profiles).values())
    elif found.profiles:
        yield newest_table(found.profiles)
    elif len(found.hidden) + len(found.unprofiled) < sum(
        len(one.columns) for one in found.features
    ):
        yield f"[dim]not profiled yet: penstock features profile {found.name}[/]"


def _used(found: Overview) -> Iterator[object]:
    total = sum(len(one.columns) for one in found.features)
    rows = [
        (one.kind.replace("_", " "), one.name, _reads(one, total), _standing(one))
        for one in found.used_by
    ]
    if rows:
        yield table(["what", "name", "reads", ""], rows, title="Used by")
    else:
        yield "[bold]Used by[/] nobody"
    if found.unread:
        yield f"[dim]not known of {', '.join(found.unread)}: the manifest cannot be read[/]"


def _reads(one: Usage, total: int) -> str:
    count = len(one.columns)
    return "all columns" if count == total and total > 1 else plural(count, "column")


def _standing(one: Usage) -> str:
    earlier = "learned from an earlier meaning" if one.definition == "earlier" else ""
    return ", ".join([*one.aliases, *([earlier] if earlier else [])])


def _versions(found: Overview) -> Iterator[object]:
    rows = [
        (
            one.version,
            one.applied_at.strftime("%Y-%m-%d %H:%M"),
            one.applied_by,
            f"{one.commit[:8]}{' with changes' if one.dirty else ''}",
            "\n".join(one.changes) or "first that is kept",
        )
        for one in found.versions[:VERSIONS]
    ]
    columns = ["version", "applied", "by", "commit", "what changed"]
    yield table(columns, rows, title="Versions", right=["version"])
    rest = len(found.versions) - VERSIONS
    if rest > 0:
        yield f"[dim]and {rest:,} earlier; --json shows all[/]"


def _origins(found: Overview) -> Tree:
    tree = Tree("[bold]Comes from[/]")
    grow(tree, found.comes_from)
    return tree
