"""The first two pages of an LMDB file, read without LMDB."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cut_short"]

_MAGIC = 0xBEEFC0DE
# After the page's header: magic, version, address, size of the map; the size of a page; then, past
# the rest of two databases' roots, the last page in use and the transaction that wrote this.
_META = struct.Struct("=16xIIQQI92xQQ")


def cut_short(path: Path) -> bool:
    """Whether an LMDB file is shorter than the pages it says it has.

    LMDB itself does not look: it maps the file, and then a missing page is either a signal that
    kills the process or, worse, a search that finds nothing.

    Args:
        path: The file; a missing or empty one is not cut short, and junk is left to LMDB.
    """
    if not path.is_file():
        return False
    # The pages are read before the size is: a writer in between can only make the file longer.
    with path.open("rb") as file:
        head = file.read(_META.size)
        if len(head) < _META.size or _META.unpack(head)[0] != _MAGIC:
            return False
        page_size_bytes: int = _META.unpack(head)[4]
        file.seek(page_size_bytes)
        pages = [head, file.read(_META.size)]
    if len(pages[1]) < _META.size:
        return True
    # Of the two pages that describe the file, the one of the later transaction holds.
    last_page: int = max((fields[6], fields[5]) for fields in map(_META.unpack, pages))[1]
    return path.stat().st_size < (last_page + 1) * page_size_bytes
