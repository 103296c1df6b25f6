"""Files that appear under their name only with their whole content."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["put_secret", "put_whole"]


def put_whole(path: Path, data: bytes) -> None:
    """Write a file that one thread at a time writes; whoever reads it sees the old or the new.

    It is not synced to the disk: what a power cut takes must be known elsewhere or be worth
    nothing.

    Args:
        path: The file.
        data: What it shall hold.
    """
    # The draft has the file's whole name: files beside it may differ in their suffix alone.
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(data)
    draft.replace(path)


def put_secret(path: Path, text: str) -> None:
    """Write a line that only the file's owner may read, and sync it to the disk.

    Several processes may do so at once: the last one's line stays.

    Args:
        path: The file.
        text: The line, in ASCII.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
