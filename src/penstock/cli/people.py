"""The commands about users: add, list, token, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

import typer

from penstock.access import add_user, remove_user, renew_token, users
from penstock.errors import nearest
from penstock.records import Role
from penstock.runtime import open_services

from .failures import UsageError
from .humanise import ago, plural
from .screen import Screen, table

if TYPE_CHECKING:
    from penstock.records import Identity

__all__ = ["add", "list_users", "remove", "token"]

NAME = typer.Argument(help="The user.")
ROLES = get_args(Role)


def add(
    screen: Screen,
    name: str = NAME,
    role: str = typer.Option(
        "reader",
        "--role",
        help="reader looks; writer also sends data and asks for scores; admin does all.",
    ),
) -> None:
    """Add a user."""
    if role not in ROLES:
        near = nearest(role, ROLES)
        raise UsageError(f"There is no role {role!r}. {near}", role=role)
    with open_services(screen.home) as services:
        made = add_user(services, name, cast("Role", role))
    screen.show(
        {"name": name, "role": role, "token": made},
        f"[green]✓[/] {name} is {role}. Their token, which is not shown again:",
        made,
    )
    screen.hint("They send it as 'Authorization: Bearer TOKEN', or set PENSTOCK_TOKEN to it.")


def list_users(screen: Screen) -> None:
    """List users."""
    with open_services(screen.home) as services:
        found = users(services.metadata)
        now = services.clock.now()
        caller = services.caller
    rows = [("*" if one.name == caller.name else "", one.name, one.role, ago(one.created_at, now))
            for one in found]  # fmt: skip
    screen.show([_plain(one) for one in found], table(["", "user", "role", "since"], rows))
    if caller not in found:
        screen.hint(f"You are {caller.name!r}, who is no user: you read what is not protected.")


def token(screen: Screen, name: str = NAME) -> None:
    """Give a user a new token."""
    with open_services(screen.home) as services:
        made = renew_token(services, name)
    said = f"[green]✓[/] The new token of {name}, which is not shown again; the old one has ended:"
    screen.show({"name": name, "token": made}, said, made)


def remove(screen: Screen, name: str = NAME) -> None:
    """Remove a user."""
    with open_services(screen.home) as services:
        gone = remove_user(services, name)
    lost = f", and {plural(len(gone), 'grant')} with them" if gone else ""
    value = {"name": name, "grants": [f"{one.what} {one.name}" for one in gone]}
    screen.show(value, f"[green]✓[/] {name} is removed{lost}; their token has ended.")


def _plain(user: Identity) -> dict[str, object]:
    return {"name": user.name, "role": user.role, "created_at": user.created_at}
