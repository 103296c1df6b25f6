"""Columns of an Arrow stream as the values that a request needs: checked for types and nulls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

from penstock.errors import InputError
from penstock.spec import DType

from .serve_schema import EARLIEST_US, EXACT, LATEST_US

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .arrow_stream import Column

__all__ = ["ARROW", "AT", "arrow_asked", "arrow_bytes", "feature_values", "field_values",
           "key_values", "times_us"]  # fmt: skip

ARROW = b"application/vnd.apache.arrow.stream"
AT = "at"
JSON = b"application/json"
KINDS: Mapping[DType, Sequence[str]] = {
    DType.STRING: ("text",),
    DType.INT64: ("whole",),
    DType.FLOAT64: ("number", "whole"),
    DType.BOOLEAN: ("truth",),
}
WORDS: Mapping[DType, str] = {
    DType.STRING: "text",
    DType.INT64: "whole numbers",
    DType.FLOAT64: "numbers",
    DType.BOOLEAN: "booleans",
}


def arrow_asked(content_type: bytes, accept: bytes) -> tuple[bool, bool]:
    """Whether a request comes as an Arrow stream, and whether its answer is to be one.

    Args:
        content_type: Its header.
        accept: Its header; a client that sends Arrow takes it, unless it asks for JSON.
    """
    is_arrow = content_type.startswith(ARROW)
    return is_arrow, ARROW in accept or (is_arrow and JSON not in accept)


def arrow_bytes(columns: Sequence[pl.Series]) -> bytes:
    """Columns as a stream whose types every reader of Arrow knows."""
    return (
        pl.DataFrame(columns)
        .write_ipc_stream(None, compat_level=pl.CompatLevel.oldest())
        .getvalue()
    )


def key_values(column: Column, dtype: DType) -> list[Any]:
    """The keys of an entity.

    Raises:
        InputError: They are of another type, or one is null.
    """
    if column.kind != KINDS[dtype][0]:
        raise _misfit(column, dtype)
    _no_nulls(column)
    return column.values


def field_values(column: Column, dtype: DType) -> list[Any]:
    """The values of a request field; whole numbers are numbers too, and NaN is null.

    Raises:
        InputError: They are of another type, or infinite.
    """
    if column.kind == "null":
        return column.values
    if column.kind not in KINDS[dtype]:
        raise _misfit(column, dtype)
    if dtype is not DType.FLOAT64:
        return column.values
    if column.kind == "whole":
        return [None if value is None else float(value) for value in column.values]
    return feature_values(column, whole=False)


def feature_values(column: Column, *, whole: bool) -> list[float | None]:
    """The values of a feature; NaN is null.

    Args:
        column: The column. Frames turn whole numbers with nulls into floats, so floats will do.
        whole: Whether the feature counts.

    Raises:
        InputError: They are no numbers, infinite, or no whole ones where those are wanted.
    """
    if column.kind == "null":
        return column.values
    if column.kind == "whole" and not whole:
        return [None if value is None else float(value) for value in column.values]
    if column.kind not in {"whole", "number"}:
        raise _misfit(column, DType.FLOAT64)
    values = column.values
    if column.kind == "number":
        if not whole and _all_finite(values):
            return values
        values = [None if value is None or math.isnan(value) else value for value in values]
    for row, value in enumerate(values):
        if value is not None and (fault := _fault(value, whole=whole)):
            raise InputError(f"Column {column.name!r} has {value} in row {row}; {fault}.")
    return values


def times_us(column: Column) -> list[int]:
    """Times in microseconds since 1970 UTC.

    Raises:
        InputError: They are no times, have no zone, leave the calendar, or one is null.
    """
    if column.kind != "time" or not column.zone:
        raise InputError(
            f"Column {column.name!r} has no times with a zone. Send timestamps in UTC (Polars: "
            "pl.Datetime('us', 'UTC'))."
        )
    _no_nulls(column)
    for row, at_us in enumerate(column.values):
        if not EARLIEST_US <= at_us <= LATEST_US:
            raise InputError(f"Column {column.name!r} leaves the calendar in row {row}.")
    return column.values


def _all_finite(values: list[Any]) -> bool:
    """Whether there is certainly no null, NaN or infinity among numbers: their sum is quick."""
    return None not in values and math.isfinite(sum(values))


def _fault(value: float, *, whole: bool) -> str:
    if math.isinf(value):
        return "send finite numbers, or null"
    if whole and value != int(value):
        return "it counts, so send whole numbers"
    if whole and abs(value) > EXACT:
        return "send a number that a float64 holds"
    return ""


def _misfit(column: Column, dtype: DType) -> InputError:
    return InputError(f"Column {column.name!r} is no {WORDS[dtype]}. Cast it.")


def _no_nulls(column: Column) -> None:
    if None in column.values:
        row = column.values.index(None)
        raise InputError(f"Column {column.name!r} has a null in row {row}. Leave the row out.")
