"""Old versions of stored features and of raw tables, removed where nothing names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.errors import PenstockError, StateError, UnavailableError
from penstock.features import STORED, drop_old_parts
from penstock.ports import Audit
from penstock.records import ALIASES, Aliases, DatasetSnapshot, ModelVersion
from penstock.registry import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.ports import Services

__all__ = ["VacuumedTable", "pinned_versions", "vacuum_features", "vacuum_raw"]

HOUR_US = 3_600_000_000
RAW = ("raw/", "quarantine/")
RAW_STAY_H = 24
"""How long their files stay at least: nobody is kept from taking records in meanwhile, so there may
be one that no version has yet."""


class VacuumedTable(msgspec.Struct, frozen=True, kw_only=True):
    """What a vacuum did with one table.

    Attributes:
        table: The table.
        files: How many files it removed, or would remove.
        size_bytes: Their size.
        kept: The versions that datasets and models name, beside the newest.
        busy: Whether somebody was writing to it, so that it was left alone.
    """

    table: str
    files: int = 0
    size_bytes: int = 0
    kept: tuple[int, ...] = ()
    busy: bool = False


def vacuum_features(
    services: Services, *, older_than_h: int, dry_run: bool = False
) -> list[VacuumedTable]:
    """Remove files of stored features that no version needs which anything may read.

    What can be read afterwards is the newest version, each version that was the newest within the
    last hours, and each that a dataset or a model's manifest names. With them goes what
    computations left behind that were killed and never run again.

    Args:
        services: The ports.
        older_than_h: How many hours old versions stay, at least 1.
        dry_run: Only say what would be removed.

    Returns:
        What was done with each table that has something to remove or was busy.

    Raises:
        StateError: It is not known what a model in service names; nothing was removed.
    """
    found: list[VacuumedTable] = []
    for table in services.tables.names(STORED):
        try:
            with services.locks.hold(table_lock(table), wait_s=0):
                found += _vacuum(services, table, older_than_h, dry_run=dry_run)
        except UnavailableError:
            found.append(VacuumedTable(table=table, busy=True))
    if not dry_run:
        before_us = services.clock.now_us() - older_than_h * HOUR_US
        drop_old_parts(services.scratch, before_s=before_us / 1e6)
        _note(services, "vacuum features", found)
    return found


def vacuum_raw(
    services: Services, *, older_than_h: int, dry_run: bool = False
) -> list[VacuumedTable]:
    """Remove files of raw and quarantine tables that were merged into larger ones.

    No record goes: the newest version has all of them. What can be read afterwards is what
    ``vacuum_features`` leaves; old versions stay for a day at least.

    Args:
        services: The ports.
        older_than_h: How many hours old versions stay.
        dry_run: Only say what would be removed.

    Returns:
        What was done with each table that has something to remove.

    Raises:
        StateError: It is not known what a model in service names; nothing was removed.
    """
    stay_h = max(older_than_h, RAW_STAY_H)
    names = [name for prefix in RAW for name in services.tables.names(prefix)]
    found = [one for name in names for one in _vacuum(services, name, stay_h, dry_run=dry_run)]
    if not dry_run:
        _note(services, "vacuum raw", found)
    return found


def _vacuum(
    services: Services, table: str, older_than_h: int, *, dry_run: bool
) -> Iterator[VacuumedTable]:
    """Yield what was done with a table, if there was anything."""
    # Asked again for each: what is named may have changed meanwhile.
    kept = tuple(sorted(pinned_versions(services).get(table, ())))
    removed = services.tables.vacuum(table, keep=kept, older_than_h=older_than_h, dry_run=dry_run)
    if removed.files:
        yield VacuumedTable(
            table=table, files=removed.files, size_bytes=removed.size_bytes, kept=kept
        )


def table_lock(table: str) -> str:
    """The lock that whoever writes to a table of stored features holds."""
    return f"features/{table}"


def pinned_versions(services: Services) -> dict[str, set[int]]:
    """The versions of each table that datasets and models name.

    Args:
        services: The ports; uses metadata and artifacts.

    Raises:
        StateError: The manifest of a version in service cannot be read, nor its dataset's record.
    """
    pinned: dict[str, set[int]] = {}
    snapshots = {one.dataset_id: one.tables for one in services.metadata.find(DatasetSnapshot)}
    for tables in (*snapshots.values(), *_manifests(services, set(snapshots))):
        for table, version in tables.items():
            pinned.setdefault(table, set()).add(version)
    return pinned


def _manifests(services: Services, known: set[str]) -> Iterator[dict[str, int]]:
    """The tables of each model version whose dataset's record is not known."""
    live = {
        (one.model, int(getattr(one, alias)))
        for one in services.metadata.find(Aliases)
        for alias in ALIASES
    }
    for version in services.metadata.find(ModelVersion):
        if version.dataset_id in known:
            continue
        try:
            yield dict(read_manifest(services.artifacts.path(version.package)).tables)
        except PenstockError as error:
            if (version.model, version.version) in live:
                raise StateError(
                    f"It is not known which stored features {version.label} learned from, so none "
                    f"are removed: {error.message}",
                    version=version.label,
                ) from error


def _note(services: Services, action: str, found: list[VacuumedTable]) -> None:
    for one in found:
        if not one.busy:
            difference = {"files": one.files, "size_bytes": one.size_bytes, "kept": list(one.kept)}
            services.metadata.write(
                audit=Audit(
                    actor=services.actor,
                    action=action,
                    subject=f"table/{one.table}",
                    difference=difference,
                )
            )
