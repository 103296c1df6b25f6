"""The command that removes old versions of stored features and of raw tables."""

from __future__ import annotations

import typer

from penstock.control import VacuumedTable, vacuum_features, vacuum_raw
from penstock.spec import duration_us

from .failures import UsageError
from .humanise import count, size
from .opening import opened_as
from .screen import Screen, table

__all__ = ["features_vacuum"]

HOUR_US = 3_600_000_000
SHOWN = 8


def features_vacuum(
    screen: Screen,
    older_than: str = typer.Option(
        "",
        "--older-than",
        help="How long versions stay that nothing names, such as 7d; at least 1h. "
        "By default as features_retention_hours says.",
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would be removed."),
) -> None:
    """Remove files of stored features and raw tables that only old versions need."""
    hours = _hours(older_than)
    with opened_as(screen, "reader" if dry_run else "admin") as services:
        older_than_h = hours or services.settings.features_retention_hours
        found = [
            *vacuum_features(services, older_than_h=older_than_h, dry_run=dry_run),
            *vacuum_raw(services, older_than_h=older_than_h, dry_run=dry_run),
        ]
    value = {"dry_run": dry_run, "older_than_h": older_than_h, "tables": found}
    if not found:
        screen.show(
            value, f"✓ Nothing to remove: no version has been out of use for {_age(older_than_h)}."
        )
        return
    title = "files to remove" if dry_run else "files removed"
    columns = ["table", title, "size", "kept for datasets and models"]
    screen.show(value, table(columns, [_row(one) for one in found], right=columns[1:3]))
    if dry_run:
        screen.hint("Nothing was removed. Leave out --dry-run to remove them.")


def _age(hours: int) -> str:
    return f"{hours} h" if hours % 24 else f"{hours // 24} d"


def _row(one: VacuumedTable) -> list[str]:
    if one.busy:
        return [one.table, "-", "-", "somebody writes to it; it was left alone"]
    versions = [f"{version}" for version in one.kept]
    more = f" and {len(versions) - SHOWN} more" if len(versions) > SHOWN else ""
    kept = f"versions {', '.join(versions[:SHOWN])}{more}" if versions else "none"
    return [one.table, count(one.files), size(one.size_bytes), kept]


def _hours(text: str) -> int:
    """Whole hours; 0 where nothing was said."""
    if not text:
        return 0
    try:
        hours, rest = divmod(duration_us(text), HOUR_US)
    except ValueError as error:
        raise UsageError(f"--older-than: {error}", older_than=text) from None
    if not hours or rest:
        raise UsageError(
            f"--older-than {text!r} is no whole number of hours, 1 or more. Give one such as 7d.",
            older_than=text,
        )
    return hours
