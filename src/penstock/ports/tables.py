"""Tables: versioned, append-only frames that survive any crash whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import polars as pl

__all__ = ["Tables", "Vacuumed"]


class Vacuumed(msgspec.Struct, frozen=True, kw_only=True):
    """What a vacuum removed, or would remove.

    Attributes:
        files: How many files.
        size_bytes: Their size.
    """

    files: int
    size_bytes: int


class Tables(ABC):
    """Keeps tables by name, such as ``raw/candles``, ``quarantine/candles`` or ``scores/btc``.

    Atomic and durable: an append is wholly in one new version, or not at all. Exactly once: an
    append names its writer (``app``) and a number that grows with that writer's appends; a number
    that is in already is not written again, however often and from wherever it comes. Versions are
    numbered from 0 and immutable: a pinned version reads the same for ever, until it is vacuumed.
    Rows come back in no particular order; raw tables carry ``_batch`` and ``_row`` to sort by. Safe
    across threads and processes; one ``app`` is written by one process at a time (its lock is the
    caller's matter). A table whose files are damaged raises ``StateError``.
    """

    @abstractmethod
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
        """

    @abstractmethod
    def widen(self, name: str, columns: Mapping[str, pl.DataType]) -> None:
        """Add the columns that a table lacks, at its end; nothing where there is no table.

        They are null in the rows that are there. Older versions stay without them.

        Args:
            name: The table.
            columns: The columns it is to have, with their types; those it has are left as they are.
        """

    @abstractmethod
    def applied(self, name: str, app: str, *, version: int | None = None) -> int:
        """The greatest number that the writer has in the table; 0 for none or no table.

        Args:
            name: The table.
            app: Who writes.
            version: The version to look at; the newest when left out.

        Raises:
            NotFoundError: There is no such version.
        """

    @abstractmethod
    def version(self, name: str) -> int | None:
        """The newest version, or None when there is no such table."""

    @abstractmethod
    def scan(
        self, name: str, *, version: int | None = None, columns: Sequence[str] | None = None
    ) -> pl.LazyFrame:
        """The table as a lazy frame; filters on it are pushed down to the files.

        Args:
            name: The table.
            version: The version to read; the newest when left out.
            columns: Only these columns.

        Raises:
            NotFoundError: There is no such table or version.
        """

    @abstractmethod
    def names(self, prefix: str = "") -> list[str]:
        """Names of the tables that begin with the prefix, sorted."""

    @abstractmethod
    def compact(self, name: str, *, below_bytes: int | None = None) -> None:
        """Merge small files into large ones as a new version; readers of old ones go on.

        Args:
            name: The table.
            below_bytes: Only files smaller than that, into files of about that size; a size that
                reads fast when left out.
        """

    @abstractmethod
    def remove(self, name: str, column: str, *, below: int) -> int:
        """Remove the rows whose whole number in a column is below a bound, as a new version.

        Rows with null stay. Older versions, and the files behind them, stay until a vacuum; so do
        the numbers of writers, and writers go on meanwhile: what they append is not looked at.
        Killed anywhere, all of these rows are gone or none. Once more, it does nothing.

        Args:
            name: The table.
            column: A column of type Int64.
            below: The bound.

        Returns:
            How many rows were removed.

        Raises:
            NotFoundError: There is no such table or column.
            UnavailableError: The table was written all the time in a way that collides.
        """

    @abstractmethod
    def vacuum(
        self, name: str, *, keep: Collection[int], older_than_h: int, dry_run: bool = False
    ) -> Vacuumed:
        """Remove files that neither the newest version needs nor one of those to keep.

        A file stays for so many hours after it was written, and after it was taken out of the
        newest version: a reader may have it open, or a writer not committed it yet. Versions that
        lose a file read as ``NotFoundError`` from then on; all others, and the numbers of writers,
        stay as they are. Killed in the middle, it has removed some of the files.

        Args:
            name: The table.
            keep: Versions that stay readable beside the newest.
            older_than_h: Hours; with 0, nobody may be reading or writing.
            dry_run: Only say what would be removed.

        Raises:
            NotFoundError: There is no such table.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of every table; the object is not used afterwards."""
