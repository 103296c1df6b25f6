"""When the small files of a growing table are merged, and which of them.

Each append is a file, and every scan opens all files, so they are merged now and then. Merging all
that is smaller than the largest file should be would rewrite the one that is being filled again and
again, and what it replaces stays on disk for as long as old versions do. So there are three sizes:
after 256 versions only files below the first are merged, after sixteen times as many those below
the second, and so on. A row is rewritten a few times in all, and a table has a few hundred small
files at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tables import Tables

__all__ = ["compact_grown", "merge_below"]

EVERY = 256
STEP = 16
SIZES_BYTES = (4 << 20, 32 << 20, 128 << 20)


def compact_grown(tables: Tables, name: str, *, since: int | None) -> None:
    """Merge the small files of a table where it has grown by so many versions that it is time to.

    Whoever appends calls it; a kill in the middle leaves the table as it was.

    Args:
        tables: The tables.
        name: The table; nothing happens where there is none.
        since: Its version before the caller's appends; None for no table.
    """
    now = tables.version(name)
    if now is not None:
        below = merge_below(since or 0, now)
        if below is not None:
            tables.compact(name, below_bytes=below)


def merge_below(before: int, after: int) -> int | None:
    """Below which size files are to be merged; None where it is not time to.

    Args:
        before: A version of the table.
        after: A later one.

    Returns:
        A size in bytes: smaller files become files of about that size.
    """
    found: int | None = None
    every = EVERY
    for size_bytes in SIZES_BYTES:
        if before // every == after // every:
            break
        found, every = size_bytes, every * STEP
    return found
