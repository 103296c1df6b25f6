"""CSV records: by Polars where the file is regular, line by line where it is not."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import polars as pl

from penstock.spec import DType

from .columns import POLARS_TYPES, Faults, mask
from .parsed import Cells, Texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["csv_cells", "rows_as_json"]

BOM = b"\xef\xbb\xbf"
NUMBERS = {dtype: POLARS_TYPES[dtype] for dtype in (DType.FLOAT64, DType.INT64)}


def csv_cells(data: bytes, wanted: Mapping[str, DType]) -> Cells:
    """Take a CSV file apart; its first line names the columns, a comma separates them.

    Numbers are read at once where all of a file can be; else every cell stays text, to be read one
    by one. Blank lines are no records. A record with more cells than the header is
    marked ``fields``, one that is not UTF-8 ``encoding``, one whose quotes do not close ``quotes``.

    Args:
        data: The file's bytes.
        wanted: The names of the columns that will be taken, and what they hold.
    """
    data = data.removeprefix(BOM)
    numbers = {name: NUMBERS[dtype] for name, dtype in wanted.items() if dtype in NUMBERS}
    for overrides in (numbers, {}):
        try:
            frame = _read(data, overrides)
        except pl.exceptions.NoDataError:
            return Cells({}, 0, {}, lambda _: [])
        except pl.exceptions.ComputeError:
            continue
        columns = {name: frame.get_column(name) for name in frame.columns}
        return Cells(columns, frame.height, {}, _texts(data, frame))
    return _patient_cells(data)


def _texts(data: bytes, frame: pl.DataFrame) -> Texts:
    """The records as they came, read again as text, since few are asked for if any."""

    def texts(places: Sequence[int]) -> list[str]:
        plain = _read(data, {})
        # A line of nothing but "" is a record of text but a blank one of numbers.
        return rows_as_json(plain if plain.height == frame.height else frame, places)

    return texts


def _read(data: bytes, overrides: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Read a regular file; columns without an override are text, blank lines left out.

    Raises:
        ComputeError: The file is not regular, or a number cannot be read.
        NoDataError: It is empty.
    """
    frame = pl.read_csv(data, infer_schema=False, schema_overrides=overrides)
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def rows_as_json(frame: pl.DataFrame, places: Sequence[int]) -> list[str]:
    """Rows of a frame as JSON objects; what JSON has no form for stands as text."""
    rows = frame[list(places)].iter_rows(named=True)
    return [json.dumps({k: _jsonable(v) for k, v in row.items()}, default=str) for row in rows]


def _jsonable(value: object) -> object:
    plain = not isinstance(value, float) or value - value == 0  # NaN and infinity are not JSON
    return value if plain else str(value)


def _patient_cells(data: bytes) -> Cells:
    """Read a file with irregular records, so that only those are lost."""
    text = data.decode("utf-8", "surrogateescape")
    rows, broken = _rows(text)
    header, rows = rows[0], rows[1:]
    kept = [place for place, row in enumerate(rows) if row]
    width = len(header)
    columns = {
        name: pl.Series(name, [_cell(rows[place], at) for place in kept], dtype=pl.String)
        for at, name in enumerate(header)
    }
    faults: Faults = {}
    for reason, places in (
        ("fields", [n for n, place in enumerate(kept) if len(rows[place]) > width]),
        ("encoding", [n for n, place in enumerate(kept) if _escaped(rows[place])]),
        ("quotes", [n for n, place in enumerate(kept) if place + 1 in broken]),
    ):
        if places:
            faults[reason] = mask(len(kept), places)

    def texts(places: Sequence[int]) -> list[str]:
        return [_row_text(header, rows[kept[place]]) for place in places]

    return Cells(columns, len(kept), faults, texts)


def _rows(text: str) -> tuple[list[list[str]], set[int]]:
    """Rows of cells, and the places of those whose quotes do not close.

    A quote that never closes would swallow the rest of the file; then each line stands for itself.
    """
    try:
        return list(csv.reader(io.StringIO(text, newline=""), strict=True)), set()
    except csv.Error:
        pass
    rows: list[list[str]] = []
    broken: set[int] = set()
    for place, line in enumerate(text.splitlines()):
        try:
            rows.append(next(csv.reader([line], strict=True), []))
        except csv.Error:
            rows.append([line])
            broken.add(place)
    return rows, broken


def _cell(row: list[str], at: int) -> str | None:
    if at >= len(row) or not row[at]:
        return None
    return None if _escaped([row[at]]) else row[at]


def _escaped(row: list[str]) -> bool:
    """Whether a cell holds bytes that are not UTF-8."""
    return any("\udc80" <= character <= "\udcff" for cell in row for character in cell)


def _row_text(header: list[str], row: list[str]) -> str:
    cells: dict[str, object] = dict(zip(header, row, strict=False))
    if len(row) > len(header):
        cells["_more"] = row[len(header) :]
    text = json.dumps(cells, ensure_ascii=False)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
