"""How far the scores table is behind the write-ahead files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .score_log import segments

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Backlog", "note_drained", "read_backlog"]

DRAINED = "drained.json"
LINE_BYTES = 1 << 16


class Backlog(msgspec.Struct, frozen=True):
    """What is in the files of a deployment and not in its table.

    Attributes:
        size_bytes: How many bytes.
        oldest_us: When the oldest of these scores was made, in microseconds since 1970 UTC; 0 where
            there are none.
    """

    size_bytes: int = 0
    oldest_us: int = 0


class _Line(msgspec.Struct):
    """What is read of a score."""

    scored_at_us: int


OFFSETS = msgspec.json.Decoder(dict[str, int])
LINE = msgspec.json.Decoder(_Line)


def note_drained(folder: Path, offsets: Mapping[str, int]) -> None:
    """Leave word of how far each file has come to the table, for whoever has no table at hand.

    Args:
        folder: The folder of the deployment's files.
        offsets: Bytes of each file that are in the table, by the file's name.
    """
    path = folder / DRAINED
    data = msgspec.json.encode(offsets)
    if path.exists() and path.read_bytes() == data:
        return
    draft = path.with_suffix(".draft")
    draft.write_bytes(data)
    draft.replace(path)


def read_backlog(folder: Path) -> Backlog:
    """What is in a deployment's files and not in its table yet.

    Args:
        folder: The folder of the deployment's files; it need not exist.
    """
    done = _offsets(folder)
    size_bytes, oldest_us = 0, 0
    for path in segments(folder):
        offset = done.get(path.name, 0)
        try:
            with path.open("rb") as file:
                waiting = file.seek(0, 2) - offset
                file.seek(offset)
                line = file.readline(LINE_BYTES) if waiting > 0 else b""
        except FileNotFoundError:  # it has just come to the table
            continue
        if waiting <= 0:
            continue
        size_bytes += waiting
        at_us = _made_us(line)
        if at_us and (not oldest_us or at_us < oldest_us):
            oldest_us = at_us
    return Backlog(size_bytes, oldest_us)


def _offsets(folder: Path) -> Mapping[str, int]:
    try:
        return OFFSETS.decode((folder / DRAINED).read_bytes())
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return {}


def _made_us(line: bytes) -> int:
    """When the score of a line was made; 0 where it is only half written."""
    try:
        return LINE.decode(line).scored_at_us
    except msgspec.DecodeError:
        return 0
