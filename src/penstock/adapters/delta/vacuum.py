"""Files of a Delta table that only old versions need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltalake import DeltaTable

from penstock.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from deltalake import CommitProperties

__all__ = ["remove_old", "vacuumed"]


def remove_old(
    folder: Path,
    keep: Collection[int],
    older_than_h: int,
    properties: CommitProperties,
    *,
    dry_run: bool,
) -> list[int]:
    """Remove files that neither the newest version nor those to keep need.

    Args:
        folder: The table's folder; nobody else compacts or vacuums it now.
        keep: Versions that stay readable; those that the table does not have are passed over.
        older_than_h: Hours that a file stays after it was written or taken out.
        properties: Of the commits that say what was done.
        dry_run: Only look.

    Returns:
        The sizes of the files, in bytes.
    """
    handle = DeltaTable(folder)
    kept = sorted({version for version in keep if 0 <= version <= handle.version()})

    def listed(*, dry_run: bool) -> list[str]:
        return handle.vacuum(
            older_than_h,
            dry_run=dry_run,
            enforce_retention_duration=False,
            commit_properties=properties,
            full=True,  # the short way misses what was taken out before the last checkpoint
            keep_versions=kept or None,
        )

    # The library also lists what it removed before.
    found = [folder / path for path in listed(dry_run=True)]
    sizes = [path.stat().st_size for path in found if path.exists()]
    if sizes and not dry_run:
        listed(dry_run=False)
    return sizes


def vacuumed(name: str, version: int) -> NotFoundError:
    """What is told of a version whose files are gone because nothing was to keep them."""
    message = (
        f"Version {version} of the table {name!r} was vacuumed: files that only it and others as "
        "old needed are gone. Read a newer version."
    )
    return NotFoundError(message, table=name, version=version)
