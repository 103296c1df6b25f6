"""Rows taken out of a Delta table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from penstock.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from deltalake import CommitProperties

__all__ = ["RACES", "remove_below"]

RACES = (
    "Concurrent transaction failed",
    "Metadata changed",
    "added new data",
    "concurrent transaction deleted data",
)
"""What the library says when, since the handle was read, the writer's number was committed, the
table widened, or rows came in or went; the last it tells appends too, though they read no rows."""
_ATTEMPTS = 200


def remove_below(
    name: str, folder: Path, column: str, below: int, properties: CommitProperties
) -> int:
    """Remove the rows whose number in a column is below a bound; null stays.

    Args:
        name: The table.
        folder: Its folder; nobody else compacts or vacuums it now.
        column: The column.
        below: The bound.
        properties: Of the commit.

    Returns:
        How many.

    Raises:
        UnavailableError: Others kept writing to it.
    """
    for _ in range(_ATTEMPTS):
        # A handle of its own, without the table's lock: reading and appending go on meanwhile.
        handle = DeltaTable(folder)
        try:
            removed = handle.delete(f'"{column}" < {int(below)}', commit_properties=properties)
        except CommitFailedError as error:
            if not any(race in str(error) for race in RACES):
                raise
        else:
            return int(removed["num_deleted_rows"] or 0)
    message = f"The table {name!r} is being changed all the time. Try again."
    raise UnavailableError(message, table=name)
