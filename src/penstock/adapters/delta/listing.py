"""The files of one version of a Delta table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import polars as pl

from .frames import schema_of

if TYPE_CHECKING:
    from pathlib import Path

    from deltalake import DeltaTable

__all__ = ["Listing", "list_files", "size_on_disk"]


class Listing(msgspec.Struct, frozen=True):
    """The files of one version.

    Attributes:
        version: The version.
        schema: Its columns.
        files: Path and size in bytes of each file.
    """

    version: int
    schema: pl.Schema
    files: tuple[tuple[str, int], ...]


def list_files(handle: DeltaTable, folder: Path) -> Listing:
    """The files of the version that a handle is at.

    Args:
        handle: The table.
        folder: Where its files are.
    """
    actions = pl.DataFrame(handle.get_add_actions().select(["path", "size_bytes"]))
    files = tuple((f"{folder}/{path}", size) for path, size in actions.iter_rows())
    return Listing(handle.version(), schema_of(handle), files)


def size_on_disk(path: Path) -> int | None:
    """Size of a file in bytes; None where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
