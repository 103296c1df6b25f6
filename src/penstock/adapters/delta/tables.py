"""Tables as Delta Lake folders under one root."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from penstock.errors import InputError, NotFoundError
from penstock.ports import Tables, Vacuumed

from .table import OneTable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = ["DeltaTables"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_LOG_FOLDER = "_delta_log"


class DeltaTables(Tables):
    """Each table is the Delta Lake table in ``<root>/<name>``; any Delta reader can open it.

    A lazy frame reads the files of its version when it is collected, so it goes on reading that
    version while others append or compact.

    Args:
        root: The folder; made with the first table.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(root)
        self._lock = threading.Lock()
        self._tables: dict[str, OneTable] = {}

    def append(self, name: str, frame: pl.DataFrame, *, app: str, number: int) -> bool:
        """Append a frame, creating the table from its schema when there is none.

        Args:
            name: The table.
            frame: The rows; may be empty, and then only the number is recorded.
            app: Who writes, such as ``"raw/candles"``.
            number: The writer's number of this append, from 1, growing.

        Returns:
            Whether it was written now; False when the number was in already.

        Raises:
            InputError: The frame's columns or types are not the table's; nothing was written.
            StateError: The table is damaged or cannot be written.
            UnavailableError: Another process kept writing as the same ``app``.
        """
        if number < 1:
            message = f"Number {number} of writer {app!r} is wrong: appends count from 1."
            raise InputError(message, table=name, app=app, number=number)
        return self._table(name).append(frame, app, number)

    def widen(self, name: str, columns: Mapping[str, pl.DataType]) -> None:
        """Add the columns that a table lacks, at its end; nothing where there is no table.

        Args:
            name: The table.
            columns: The columns it is to have, with their types; those it has are left as they are.

        Raises:
            StateError: The table is damaged or cannot be written.
        """
        self._table(name).widen(columns)

    def applied(self, name: str, app: str, *, version: int | None = None) -> int:
        """The greatest number that the writer has in the table; 0 for none or no table.

        Args:
            name: The table.
            app: Who writes.
            version: The version to look at; the newest when left out.

        Raises:
            NotFoundError: There is no such version.
            StateError: The table is damaged.
        """
        table = self._table(name)
        if version is None:
            return table.applied(app)
        self._check_version(name, version, table.version())
        return table.applied(app, version)

    def version(self, name: str) -> int | None:
        """The newest version, or None when there is no such table."""
        return self._table(name).version()

    def scan(
        self, name: str, *, version: int | None = None, columns: Sequence[str] | None = None
    ) -> pl.LazyFrame:
        """The table as a lazy frame; filters on it are pushed down to the files.

        Args:
            name: The table.
            version: The version to read; the newest when left out.
            columns: Only these columns.

        Raises:
            NotFoundError: There is no such table, version or column.
            StateError: The table is damaged.
        """
        table = self._table(name)
        newest = table.version()
        if newest is None:
            raise NotFoundError.of("table", name, self.names())
        if version is not None:
            self._check_version(name, version, newest)
        listing = table.listing(newest if version is None else version)
        for column in columns or ():
            if column not in listing.schema:
                hint = f"It was looked for in the table {name!r}."
                raise NotFoundError.of("column", column, listing.schema, hint=hint)
        paths = [path for path, _ in listing.files]
        frame = (
            pl.scan_parquet(
                paths,
                schema=listing.schema,
                missing_columns="insert",  # files from before the table was widened
                glob=False,
                hive_partitioning=False,
            )
            if paths
            else pl.LazyFrame(schema=listing.schema)
        )
        return frame if columns is None else frame.select(columns)

    def names(self, prefix: str = "") -> list[str]:
        """Names of the tables that begin with the prefix, sorted."""
        found: list[str] = []
        for folder, inner, _ in os.walk(self._root / prefix.rpartition("/")[0]):
            if _LOG_FOLDER in inner:
                inner.clear()
                found.append(Path(folder).relative_to(self._root).as_posix())
        return sorted(name for name in found if name.startswith(prefix))

    def compact(self, name: str, *, below_bytes: int | None = None) -> None:
        """Merge small files into large ones as a new version; readers of old ones go on.

        Args:
            name: The table.
            below_bytes: Only files smaller than that, into files of about that size; the library's
                own size, 100 MB, when left out.

        Raises:
            NotFoundError: There is no such table.
        """
        if self._table(name).version() is None:
            raise NotFoundError.of("table", name, self.names())
        self._table(name).compact(below_bytes)

    def remove(self, name: str, column: str, *, below: int) -> int:
        """Remove the rows whose whole number in a column is below a bound, as a new version.

        Waits while another process compacts or vacuums the table.

        Args:
            name: The table.
            column: A column of type Int64; null stays.
            below: The bound.

        Returns:
            How many rows were removed.

        Raises:
            NotFoundError: There is no such table or column.
            UnavailableError: The table was written all the time in a way that collides.
        """
        self.scan(name, columns=[column])  # says what there is not
        return self._table(name).remove(column, below)

    def vacuum(
        self, name: str, *, keep: Collection[int], older_than_h: int, dry_run: bool = False
    ) -> Vacuumed:
        """Remove files that neither the newest version needs nor one of those to keep.

        Does nothing while another process compacts or vacuums the table.

        Args:
            name: The table.
            keep: Versions that stay readable beside the newest.
            older_than_h: How many hours a file stays after it was written or taken out of the
                newest version; with 0, nobody may be reading or writing.
            dry_run: Only say what would be removed.

        Raises:
            NotFoundError: There is no such table.
        """
        if self._table(name).version() is None:
            raise NotFoundError.of("table", name, self.names())
        sizes = self._table(name).vacuum(keep, older_than_h, dry_run=dry_run)
        return Vacuumed(files=len(sizes), size_bytes=sum(sizes))

    def close(self) -> None:
        """Let go of every table; the object is not used afterwards."""
        with self._lock:
            self._tables.clear()

    def _check_version(self, name: str, version: int, newest: int | None) -> None:
        if newest is None:
            raise NotFoundError.of("table", name, self.names())
        if not 0 <= version <= newest:
            hint = f"The table {name!r} has versions 0 to {newest}."
            raise NotFoundError.of("version", str(version), hint=hint)

    def _table(self, name: str) -> OneTable:
        with self._lock:
            if name not in self._tables:
                if _NAME.fullmatch(name) is None:
                    message = (
                        f"{name!r} is no name of a table: expected parts of letters, digits, '.', "
                        "'_' and '-', joined by '/', such as 'raw/candles'."
                    )
                    raise InputError(message, table=name)
                self._tables[name] = OneTable(name, self._root / name)
            return self._tables[name]
