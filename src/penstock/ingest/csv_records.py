"""CSV records: by Polars where the file is regular, line by line where it is not."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import polars as pl

from .columns import Faults, mask
from .parsed import Cells

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["csv_cells", "rows_as_json"]

BOM = b"\xef\xbb\xbf"


def csv_cells(data: bytes) -> Cells:
    """Take a CSV file apart; its first line names the columns, a comma separates them.

    Every cell stays text. Blank lines are no records. A record with more cells than the header is
    marked ``fields``, one that is not UTF-8 ``encoding``, one whose quotes do not close ``quotes``.
    """
    data = data.removeprefix(BOM)
    try:
        frame = pl.read_csv(data, infer_schema=False)
    except pl.exceptions.NoDataError:
        return Cells({}, 0, {}, lambda _: [])
    except pl.exceptions.ComputeError:
        return _patient_cells(data)
    if frame.width:
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    return Cells(_columns(frame), frame.height, {}, lambda places: rows_as_json(frame, places))


def rows_as_json(frame: pl.DataFrame, places: Sequence[int]) -> list[str]:
    """Rows of a frame as JSON objects; what JSON has no form for stands as text."""
    rows = frame[list(places)].iter_rows(named=True)
    return [json.dumps({k: _jsonable(v) for k, v in row.items()}, default=str) for row in rows]


def _jsonable(value: object) -> object:
    plain = not isinstance(value, float) or value - value == 0  # NaN and infinity are not JSON
    return value if plain else str(value)


def _columns(frame: pl.DataFrame) -> dict[str, pl.Series]:
    return {name: frame.get_column(name) for name in frame.columns}


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
