"""The commands that write what is deployed to a file, and bring a project to what a file says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from penstock.access import require_role
from penstock.control import deploy_run
from penstock.deployment import (
    begin_rollout,
    change_routes,
    deployed_state,
    get_rollout,
    plan_state,
    point_alias,
    read_state,
)
from penstock.errors import GateError, InputError
from penstock.runtime import open_services

from .failures import UsageError
from .follow import follow
from .screen import table

if TYPE_CHECKING:
    from penstock.deployment import StateChange
    from penstock.runtime import LocalServices

    from .screen import Screen

__all__ = ["deployments_apply", "deployments_export"]


def deployments_export(
    screen: Screen,
    file: str = typer.Argument("", help="Where to; standard output when left out."),
) -> None:
    """Write what is deployed."""
    with open_services(screen.home) as services:
        content = deployed_state(services)
    if not file:
        screen.out.file.write(content.decode())
        return
    try:
        Path(file).write_bytes(content)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.", path=file) from error
    screen.show({"file": file}, f"[green]✓[/] {file} says what is deployed.")


def deployments_apply(
    screen: Screen,
    file: str = typer.Argument(help="What 'penstock deployments export' wrote."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show the plan; change nothing."),
) -> None:
    """Bring what is deployed to what a file says."""
    try:
        wanted = read_state(Path(file).read_bytes())
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.", path=file) from error
    with open_services(screen.home) as services:
        planned = plan_state(services, wanted)
        value = {"changes": [{"deployment": p.deployment, "change": p.text} for p in planned]}
        rows = [(one.deployment, one.text) for one in planned]
        shown = table(["deployment", "change"], rows, title="Plan") if rows else ""
        if dry_run or not planned:
            said = "Nothing was changed." if planned else "Everything is as the file says."
            screen.show({**value, "applied": False}, shown, said)
            return
        require_role(services.caller, "admin")
        screen.hint(shown)
        for one in planned:
            _apply(screen, services, one)
    screen.show({**value, "applied": True}, f"[green]✓[/] everything is as {file} says.")


def _apply(screen: Screen, services: LocalServices, change: StateChange) -> None:
    if change.edit is not None:
        change_routes(services, change.deployment, change.edit, reason="as the file says")
        return
    if change.alias:
        point_alias(services, change.model, change.alias, change.version, reason="as the file says")
        return
    rollout = begin_rollout(services, change.deployment, version=change.version)
    follow(screen, services, deploy_run(rollout.rollout_id, change.deployment))
    ended = get_rollout(services.metadata, rollout.rollout_id)
    if ended.state != "done":
        raise GateError(
            f"{ended.label} is {ended.state} on {ended.deployment!r}"
            f"{f': {ended.reason}' if ended.reason else ''}. What follows was not applied; when it "
            "is done, run the command again.",
            rollout_id=ended.rollout_id,
        )
