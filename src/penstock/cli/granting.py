"""The commands about access to protected features: grant, revoke, list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from penstock.access import Permissions, denials_of, grants_of, user_of
from penstock.access import grant as grant_access
from penstock.access import revoke as revoke_access
from penstock.runtime import open_services

from .failures import UsageError
from .humanise import ago, plural
from .screen import Screen, table

if TYPE_CHECKING:
    from datetime import datetime

    from rich.table import Table

    from penstock.access import Granted
    from penstock.records import Denial, Grant, Identity

__all__ = ["grant", "list_access", "revoke"]

SHOWN = 20
USER = typer.Argument(help="The user; 'penstock users list' shows them.")
TAG = typer.Option([], "--tag", help="A protected tag; may be given several times.")
VIEW = typer.Option([], "--view", help="A view, for all of its features; several times too.")


def grant(screen: Screen, user: str = USER, tag: list[str] = TAG, view: list[str] = VIEW) -> None:
    """Let a user read what a tag or a view protects."""
    _check_named(tag, view)
    with open_services(screen.home) as services:
        done = grant_access(services, user, tags=tag, views=view)
    _show(screen, done, f"[green]✓[/] Granted to {user}:", f"{user} had it already:")


def revoke(screen: Screen, user: str = USER, tag: list[str] = TAG, view: list[str] = VIEW) -> None:
    """Take a grant back."""
    _check_named(tag, view)
    with open_services(screen.home) as services:
        done = revoke_access(services, user, tags=tag, views=view)
    _show(screen, done, f"[green]✓[/] Taken from {user}:", f"{user} was never granted it:")


def list_access(
    screen: Screen,
    user: str = typer.Argument("", help="Only of this user; of all when left out."),
) -> None:
    """List what is protected, who was granted it, and who was refused."""
    with open_services(screen.home) as services:
        permissions = Permissions.load(services.metadata)
        grants, denials = grants_of(services, user), denials_of(services, user)
        now, caller = services.clock.now(), services.caller
        if user and not grants and not denials:
            user_of(services.metadata, user)
    protected = permissions.behind()
    names = ["protected by", "features"]
    rows = [(lock, ", ".join(features)) for lock, features in protected.items()]
    shown: list[object] = ["Nothing is protected. Declare a ps.Protection and apply."]
    if permissions.protections:
        shown = [table(names, rows, title="Protected")]
    shown.append(_grants(grants, now) if grants else _nobody(caller, user))
    if denials:
        shown.append(_denials(denials, now))
    value = {"protected": protected, "grants": grants, "denials": denials}
    screen.show(value, *shown)


def _check_named(tags: list[str], views: list[str]) -> None:
    if not tags and not views:
        raise UsageError("Name what: --tag TAG or --view VIEW, each once or several times.")


def _show(screen: Screen, done: Granted, changed: str, unchanged: str) -> None:
    shown = [f"{changed} {', '.join(done.changed)}."] if done.changed else []
    shown += [f"{unchanged} {', '.join(done.unchanged)}."] if done.unchanged else []
    screen.show(done, *shown)


def _grants(grants: list[Grant], now: datetime) -> Table:
    rows = [
        (one.user, f"{one.what} {one.name}", one.granted_by, ago(one.granted_at, now))
        for one in grants
    ]
    columns = ["user", "was granted", "by", "when"]
    return table(columns, rows, title=plural(len(grants), "grant"))


def _denials(denials: list[Denial], now: datetime) -> Table:
    rows = [
        (one.user, one.subject.replace("_", " ").replace("/", " ", 1), ago(one.told_at, now))
        for one in denials[:SHOWN]
    ]
    return table(["user", "was refused", "last"], rows, title="Refused")


def _nobody(caller: Identity, user: str) -> str:
    if caller.role != "admin":
        return "You were not granted anything; an admin reads everything."
    who = f"{user} was not" if user else "Nobody was"
    return f"{who} granted anything; an admin reads everything."
