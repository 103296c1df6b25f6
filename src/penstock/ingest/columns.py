"""Cells to declared types, one column at a time; what does not fit is marked, never guessed.

A cell that cannot be read becomes null and its row is marked with a reason, so that one bad cell
costs one record and not the file. The reasons:

* ``dtype(column)``: the cell is no value of the column's type;
* ``timestamp_zone(column)``: a time without a zone, which could mean any of two dozen moments.

Text is read as people write it: numbers with blanks around them, whole numbers as ``5.0``, booleans
as ``true``/``false``/``1``/``0``, times as ``2026-01-31T14:00:00Z`` or with an offset; digits finer
than a microsecond are cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import polars as pl

from penstock.spec import DType

__all__ = ["POLARS_TYPES", "Faults", "holds", "mask", "merged", "typed"]

Faults: TypeAlias = dict[str, pl.Series]
"""Reason to a boolean series that is true in the rows it was found in."""

POLARS_TYPES: Mapping[DType, pl.DataType] = {
    DType.STRING: pl.String(),
    DType.INT64: pl.Int64(),
    DType.FLOAT64: pl.Float64(),
    DType.BOOLEAN: pl.Boolean(),
    DType.TIMESTAMP: pl.Datetime("us", "UTC"),
}

ZONED = "%Y-%m-%d %H:%M:%S%.f%#z"
ZONED_SHORT = "%Y-%m-%d %H:%M%#z"
UNZONED = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
LARGEST_EXACT = 2**53


def typed(cells: pl.Series, dtype: DType) -> tuple[pl.Series, Faults]:
    """Read a column's cells as the declared type.

    Args:
        cells: Text, or values of a type that holds the declared one.
        dtype: The declared type.

    Returns:
        The values, null where there is none or it cannot be read; and the faults.
    """
    if cells.dtype == pl.Null:
        return cells.cast(POLARS_TYPES[dtype]), {}
    if cells.dtype == pl.String:
        values = TEXT_READERS[dtype](cells)
        return _retried(cells, values, dtype)
    values = _converted(cells, dtype)
    return values, _faults(cells.name, cells.is_not_null() & values.is_null())


def holds(found: pl.DataType, dtype: DType) -> bool:
    """Whether values of the found type can stand for the declared one."""
    if found in {pl.Null(), pl.String()}:
        return True
    if dtype is DType.STRING:
        return isinstance(found, (pl.Categorical, pl.Enum))
    if dtype is DType.BOOLEAN:
        return found == pl.Boolean()
    if dtype is DType.TIMESTAMP:
        return isinstance(found, pl.Datetime)
    return found.is_numeric()


def mask(height: int, places: Sequence[int] | pl.Series) -> pl.Series:
    """A boolean series that is true at the given places."""
    return pl.repeat(value=False, n=height, eager=True).scatter(places, True)  # noqa: FBT003


def merged(*parts: Faults) -> Faults:
    """Faults of several columns or checks as one; a reason found twice covers both."""
    result: Faults = {}
    for part in parts:
        for reason, rows in part.items():
            result[reason] = result[reason] | rows if reason in result else rows
    return result


def _faults(column: str, rows: pl.Series, reason: str = "dtype") -> Faults:
    return {f"{reason}({column})": rows} if rows.any() else {}


def _retried(cells: pl.Series, values: pl.Series, dtype: DType) -> tuple[pl.Series, Faults]:
    """Give the few cells that the fast reader refused a second, more patient reading."""
    failed = cells.is_not_null() & values.is_null()
    if not failed.any():
        return values, {}
    places = failed.arg_true()
    texts = cells.gather(places).str.strip_chars()
    again = PATIENT_READERS[dtype](texts)
    values = values.scatter(places, again)
    refused = again.is_null() & (texts != "")  # an empty cell has no value; it is not a wrong one
    unzoned = refused & _without_zone(texts) if dtype is DType.TIMESTAMP else refused & False
    wrong = refused & ~unzoned
    return values, _spread(cells, places, {"dtype": wrong, "timestamp_zone": unzoned})


def _spread(cells: pl.Series, places: pl.Series, found: Faults) -> Faults:
    result: Faults = {}
    for reason, rows in found.items():
        result |= _faults(cells.name, mask(len(cells), places.filter(rows)), reason)
    return result


def _text(cells: pl.Series) -> pl.Series:
    return cells


def _int64(cells: pl.Series) -> pl.Series:
    return cells.cast(pl.Int64, strict=False)


def _patient_int64(cells: pl.Series) -> pl.Series:
    return _whole(_int64(cells), cells.cast(pl.Float64, strict=False))


def _whole(exact: pl.Series, floats: pl.Series) -> pl.Series:
    """Whole numbers from the exact reading, else from floats that have no fraction."""
    fits = floats.is_finite() & (floats.floor() == floats) & (floats.abs() <= LARGEST_EXACT)
    rounded = floats.set(~fits.fill_null(value=False), None).cast(pl.Int64, strict=False)
    return exact.zip_with(exact.is_not_null(), rounded)


def _float64(cells: pl.Series) -> pl.Series:
    return cells.cast(pl.Float64, strict=False)


def _boolean(cells: pl.Series) -> pl.Series:
    words = {"true": True, "false": False, "1": True, "0": False}
    lower = cells.str.to_lowercase()
    return lower.replace_strict(words, default=None, return_dtype=pl.Boolean)


def _timestamp(cells: pl.Series) -> pl.Series:
    return _parsed_times(_plain(cells), ZONED)


def _patient_timestamp(cells: pl.Series) -> pl.Series:
    plain = _plain(cells.str.to_uppercase().str.replace(r"\s*UTC$", "Z"))
    long, short = _parsed_times(plain, ZONED), _parsed_times(plain, ZONED_SHORT)
    return long.zip_with(long.is_not_null(), short)


def _plain(cells: pl.Series) -> pl.Series:
    """``2026-01-31T14:00:00Z`` as ``2026-01-31 14:00:00+00:00``."""
    return cells.str.replace("T", " ", literal=True).str.replace("Z", "+00:00", literal=True)


def _parsed_times(cells: pl.Series, pattern: str) -> pl.Series:
    return cells.str.to_datetime(pattern, time_unit="us", time_zone="UTC", strict=False)


def _without_zone(cells: pl.Series) -> pl.Series:
    """Which texts would be times if they said in which zone."""
    plain = _plain(cells.str.to_uppercase())
    found = pl.repeat(value=False, n=len(cells), eager=True)
    for pattern in UNZONED:
        found |= plain.str.to_datetime(pattern, time_unit="us", strict=False).is_not_null()
    return found


def _converted(cells: pl.Series, dtype: DType) -> pl.Series:
    """Values of another type as the declared one; see ``holds``."""
    if dtype is DType.INT64 and not cells.dtype.is_integer():
        floats = cells.cast(pl.Float64, strict=False)
        return _whole(pl.Series([None], dtype=pl.Int64).new_from_index(0, len(cells)), floats)
    return cells.cast(POLARS_TYPES[dtype], strict=False)


Reader: TypeAlias = Callable[[pl.Series], pl.Series]

TEXT_READERS: Mapping[DType, Reader] = {
    DType.STRING: _text,
    DType.INT64: _int64,
    DType.FLOAT64: _float64,
    DType.BOOLEAN: _boolean,
    DType.TIMESTAMP: _timestamp,
}

PATIENT_READERS: Mapping[DType, Reader] = {
    **TEXT_READERS,
    DType.INT64: _patient_int64,
    DType.TIMESTAMP: _patient_timestamp,
}
