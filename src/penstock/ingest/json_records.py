"""JSON records, from the lines of a file or the messages of a topic.

JSON has types of its own, so a text is no number here and a number no text: ``"12"`` in a float
column is a fault. Times are texts with a zone.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import polars as pl

from penstock.spec import DType

from .columns import POLARS_TYPES, Faults, mask
from .parsed import Cells

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

__all__ = ["json_cells"]

Record: TypeAlias = dict[str, object]
INT64_LIMIT = 2**63


def json_cells(
    payloads: Sequence[bytes], wanted: Mapping[str, DType], *, optional: Collection[str]
) -> Cells:
    """Take JSON records apart.

    Args:
        payloads: One JSON object each.
        wanted: The names of the columns to take, and what they hold.
        optional: Those among them that records may leave out.

    Returns:
        Cells of every column that is optional or that at least one record names. A payload that is
        not JSON is marked ``json``, one that is no object ``object``.
    """
    records, faults = _decoded(payloads)
    columns: dict[str, pl.Series] = {}
    for name, dtype in wanted.items():
        if name in optional or any(name in record for record in records):
            columns[name], wrong = _column(name, dtype, records)
            if wrong:
                faults[f"dtype({name})"] = mask(len(payloads), wrong)

    def texts(places: Sequence[int]) -> list[str]:
        return [payloads[place].decode("utf-8", "backslashreplace") for place in places]

    return Cells(columns, len(payloads), faults, texts)


def _decoded(payloads: Sequence[bytes]) -> tuple[list[Record], Faults]:
    decoder = msgspec.json.Decoder()
    records: list[Record] = []
    places: dict[str, list[int]] = {"json": [], "object": []}
    for place, payload in enumerate(payloads):
        try:
            value = decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            places["json"].append(place)
            value = {}
        if not isinstance(value, dict):
            places["object"].append(place)
            value = {}
        records.append(value)
    return records, {reason: mask(len(payloads), at) for reason, at in places.items() if at}


def _column(name: str, dtype: DType, records: list[Record]) -> tuple[pl.Series, list[int]]:
    """The cells of a column, null where there is none, and the places of those of another type."""
    cells = [record.get(name) for record in records]
    kind = pl.String() if dtype is DType.TIMESTAMP else POLARS_TYPES[dtype]
    if set(map(type, cells)) <= PLAIN[dtype]:  # nearly always: nothing to look at one by one
        with suppress(TypeError, OverflowError):  # of an integer that is too great
            return pl.Series(name, cells, dtype=kind), []
    read = READERS[dtype]
    values = [None if cell is None else read(cell) for cell in cells]
    wrong = [
        place
        for place, (cell, value) in enumerate(zip(cells, values, strict=True))
        if value is None and cell is not None
    ]
    return pl.Series(name, values, dtype=kind), wrong


def _text(cell: object) -> str | None:
    return cell if isinstance(cell, str) else None


def _boolean(cell: object) -> bool | None:
    return cell if isinstance(cell, bool) else None


def _float64(cell: object) -> float | None:
    if isinstance(cell, bool) or not isinstance(cell, (int, float)):
        return None
    try:
        return float(cell)
    except OverflowError:
        return math.inf  # refused later as not finite, which is what is wrong with it


def _int64(cell: object) -> int | None:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, bool) or not isinstance(cell, int):
        return None
    return cell if -INT64_LIMIT <= cell < INT64_LIMIT else None


READERS: Mapping[DType, Callable[[object], object]] = {
    DType.STRING: _text,
    DType.INT64: _int64,
    DType.FLOAT64: _float64,
    DType.BOOLEAN: _boolean,
    DType.TIMESTAMP: _text,
}

PLAIN: Mapping[DType, frozenset[type]] = {
    DType.STRING: frozenset({str, type(None)}),
    DType.INT64: frozenset({int, type(None)}),
    DType.FLOAT64: frozenset({float, type(None)}),
    DType.BOOLEAN: frozenset({bool, type(None)}),
    DType.TIMESTAMP: frozenset({str, type(None)}),
}
