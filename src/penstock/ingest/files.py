"""Files of records: found, opened, recognised and read as a source's columns."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from penstock.errors import InputError
from penstock.spec import Files, Source

from .columns import Faults, holds, merged, typed
from .csv_records import csv_cells, rows_as_json
from .json_records import json_cells
from .parsed import Cells, Parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

__all__ = ["FileContent", "find_files", "has_files", "open_file", "parse_file"]

LONGEST_NAME, MOST_NAMES = 40, 20  # of a file's columns in messages
GZIP_MAGIC = b"\x1f\x8b"
ENDINGS: Mapping[str, str] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file as it was read, once, into memory.

    Attributes:
        path: Where it is.
        shown: How origins and messages call it: relative to the project folder where it is inside.
        data: Its bytes, decompressed.
        sha256: Hash (hex) of its bytes on disk.
    """

    path: Path
    shown: str
    data: bytes
    sha256: str


def find_files(home: Path, files: Files) -> list[Path]:
    """The files that a source's pattern names, sorted.

    Raises:
        InputError: There is none.
    """
    found = _matching(home, files)
    if not found:
        base = Path(files.pattern).anchor or str(home)
        raise InputError(
            f"No file matches {files.pattern!r} in {base!r}. Put the files there, or name "
            "files in the command.",
            pattern=files.pattern,
        )
    return found


def has_files(home: Path, source: Source) -> bool:
    """Whether a source says where its files are, and there are some."""
    return source.batch is not None and bool(_matching(home, source.batch))


def _matching(home: Path, files: Files) -> list[Path]:
    pattern = Path(files.pattern)
    base = Path(pattern.anchor) if pattern.anchor else home
    relative = pattern.relative_to(pattern.anchor) if pattern.anchor else pattern
    return sorted(path for path in base.glob(str(relative)) if path.is_file())


def open_file(home: Path, path: Path) -> FileContent:
    """Read a file into memory.

    Args:
        home: The project folder; a relative path starts there.
        path: The file.

    Raises:
        InputError: It is missing, cannot be read, is empty, or its compression is damaged.
    """
    full = (home / path).resolve()
    inside = full.is_relative_to(home.resolve())
    shown = full.relative_to(home.resolve()).as_posix() if inside else full.as_posix()
    try:
        packed = full.read_bytes()
    except FileNotFoundError:
        raise _no_file(full, shown) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"The file {shown!r} cannot be read: {reason}.", path=shown) from error
    data = _unpacked(packed, shown)
    if not data:
        raise InputError(
            f"The file {shown!r} is empty. It was expected to hold records; bring it again, or "
            "leave it out.",
            path=shown,
        )
    return FileContent(full, shown, data, hashlib.sha256(packed).hexdigest())


def _no_file(full: Path, shown: str) -> InputError:
    """The error for a file that is missing, with the name that was probably meant."""
    known = [path.name for path in full.parent.glob("*") if path.is_file()]
    close = difflib.get_close_matches(full.name, known, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else "Give the path of a file that is there."
    return InputError(f"There is no file {shown!r}. {hint}", path=shown)


def parse_file(source: Source, content: FileContent, arrived_at: datetime) -> Parsed:
    """Read a file's records as the source's columns.

    The whole file is held in memory, which suits files of up to about ten million records. Columns
    that the source does not declare are left out.

    Raises:
        InputError: The file is no such file, has no records, lacks a column, has a column of a type
            that cannot be the declared one, or has a time column without any zone.
    """
    files = source.batch or Files(pattern="")
    names = {name: files.columns.get(name, name) for name in source.schema}
    names.pop(files.name_as, None)
    cells = _cells(source, content, files, names)
    if not cells.height:
        raise InputError(
            f"The file {content.shown!r} has no records. It was expected to hold at least one; "
            "bring it again, or leave it out.",
            path=content.shown,
        )
    columns: dict[str, pl.Series] = {}
    faults: list[Faults] = [cells.faults]
    for name, dtype in source.schema.items():
        found = _column(source, content, cells, name, names)
        columns[name], more = typed(found.alias(name), dtype)
        _check_zone(content, found, more)
        faults.append(more)
    places = pl.int_range(cells.height, dtype=pl.Int64, eager=True)
    arrived = pl.lit(arrived_at).cast(pl.Datetime("us", "UTC")).alias("_arrived_at")
    frame = pl.DataFrame([*columns.values(), places.alias("_row")]).with_columns(arrived)
    return Parsed(frame, merged(*faults), cells.texts)


def _unpacked(packed: bytes, shown: str) -> bytes:
    if not packed.startswith(GZIP_MAGIC):
        return packed
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"The file {shown!r} cannot be decompressed: {error}. It is damaged or was not copied "
            "whole; bring it again.",
            path=shown,
        ) from error


def _cells(source: Source, content: FileContent, files: Files, names: Mapping[str, str]) -> Cells:
    kind = files.format or _format_of(content)
    optional = [names[name] for name in source.nullable if name in names]
    wanted = {column: source.schema[name] for name, column in names.items()}
    readers: Mapping[str, Callable[[], Cells]] = {
        "csv": lambda: csv_cells(content.data, wanted),
        "parquet": lambda: _parquet_cells(content),
        "jsonl": lambda: json_cells(_lines(content.data), wanted, optional=optional),
    }
    return readers[kind]()


def _format_of(content: FileContent) -> str:
    path = content.path.with_suffix("") if content.path.suffix == ".gz" else content.path
    if path.suffix in ENDINGS:
        return ENDINGS[path.suffix]
    raise InputError(
        f"The file {content.shown!r} does not say by its ending what it holds. Known: "
        f"{', '.join(ENDINGS)}, each also with .gz; or set Files(format=...) of the source.",
        path=content.shown,
    )


def _lines(data: bytes) -> list[bytes]:
    return [line for line in data.splitlines() if line.strip()]


def _parquet_cells(content: FileContent) -> Cells:
    try:
        frame = pl.read_parquet(io.BytesIO(content.data))
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"The file {content.shown!r} cannot be read as Parquet: {reason}. It is damaged or no "
            "Parquet file; bring it again, or set Files(format=...) of the source.",
            path=content.shown,
        ) from error
    columns = {name: frame.get_column(name) for name in frame.columns}
    return Cells(columns, frame.height, {}, lambda places: rows_as_json(frame, places))


def _column(
    source: Source, content: FileContent, cells: Cells, name: str, names: Mapping[str, str]
) -> pl.Series:
    """The cells of one of the source's columns.

    Raises:
        InputError: They are missing, or of a type that cannot be the declared one.
    """
    if name not in names:  # filled with the file's name
        stem = content.path.name.partition(".")[0]
        return pl.repeat(stem, cells.height, dtype=pl.String, eager=True)
    column = names[name]
    if column not in cells.columns:
        raise _missing(source, content, cells.columns, names)
    found, dtype = cells.columns[column], source.schema[name]
    if not holds(found.dtype, dtype):
        raise InputError(
            f"Column {column!r} of {content.shown!r} holds {found.dtype}, but source "
            f"{source.name!r} declares {name!r} as {dtype.value}. Change the file or the schema.",
            path=content.shown,
            column=column,
        )
    if isinstance(found.dtype, pl.Datetime) and found.dtype.time_zone is None:
        raise _without_zone(content, column, _first(found))
    return found


def _missing(
    source: Source, content: FileContent, found: Iterable[str], names: Mapping[str, str]
) -> InputError:
    known = list(found)
    missing = [column for column in names.values() if column not in known]
    shown = [name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..." for name in known]
    has = f"It has {', '.join(map(repr, shown[:MOST_NAMES]))}." if known else "It has no column."
    expected = ", ".join(repr(column) for column in names.values())
    return InputError(
        f"The file {content.shown!r} lacks {', '.join(repr(column) for column in missing)}. "
        f"Source {source.name!r} expects {expected}. {has} Where a column only has another name, "
        "set Files(columns={'ours': 'theirs'}).",
        path=content.shown,
        missing=missing,
        found=known,
    )


def _check_zone(content: FileContent, cells: pl.Series, faults: Faults) -> None:
    """Refuse a file none of whose times has a zone: that is how it was written, not a bad record.

    Raises:
        InputError: No time in the column has a zone.
    """
    for reason, rows in faults.items():
        if reason.startswith("timestamp_zone(") and rows.sum() == cells.count():
            raise _without_zone(content, cells.name, _first(cells))


def _first(times: pl.Series) -> str:
    """The first time of a column, as an example in messages."""
    return repr(str(next(iter(times.drop_nulls()), "")))


def _without_zone(content: FileContent, column: str, example: str) -> InputError:
    return InputError(
        f"No time in column {column!r} of {content.shown!r} has a zone, such as {example}: it "
        "could be any of two dozen moments. Write times like '2026-01-31T14:00:00Z' or "
        "'2026-01-31 14:00:00+01:00'.",
        path=content.shown,
        column=column,
    )
