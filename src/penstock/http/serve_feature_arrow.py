"""Requests and answers of a feature service as Arrow streams."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from penstock.errors import InputError, nearest
from penstock.spec import DType

from .arrow_stream import read_stream
from .serve_feature_schema import MOST_ROWS, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.algebra import IntArray
    from penstock.features import Reading
    from penstock.spec import FeatureService

    from .arrow_stream import Column
    from .serve_feature_schema import FeatureSchema

__all__ = ["ARROW", "arrow_answer", "arrow_wanted"]

ARROW = b"application/vnd.apache.arrow.stream"
AT = "at"
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
EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999


def arrow_wanted(schema: FeatureSchema, body: bytes, now_us: int) -> Wanted:
    """What an Arrow stream asks for: columns by the names of the keys and the request fields.

    A column ``at`` says the time of each row.

    Args:
        schema: Of the service.
        body: The stream.
        now_us: The time where it has no ``at``.

    Raises:
        InputError: It is no such stream, lacks a column, or has another, one of another type, or
            nulls in keys or times.
    """
    columns = {column.name: column for column in read_stream(body, most_rows=MOST_ROWS)}
    takes = {**schema.body.keys, **schema.body.request}
    for name in columns:
        if name not in takes and name != AT:
            raise InputError(f"The stream has the column {name!r}. {nearest(name, [*takes, AT])}")
    for name in takes:
        if name not in columns:
            what = "the key" if name in schema.body.keys else "a request field"
            raise InputError(f"The stream lacks the column {name!r}, {what} of the features.")
    keys = [_keys(columns[name], dtype) for name, dtype in schema.body.keys.items()]
    request = {name: _values(columns[name], dtype) for name, dtype in schema.body.request.items()}
    times = _times(columns[AT]) if AT in columns else now_us
    rows = len(columns[next(iter(takes))].values)
    return Wanted("columns", rows, schema.keys_by(keys), times, request)


def arrow_answer(service: FeatureService, found: Reading) -> bytes:
    """The features as a stream: a column each in the service's order, then ``as_of``."""
    columns = [
        _column(name, dtype, found.values[:, place])
        for place, (name, dtype) in enumerate(service.dtypes.items())
    ]
    columns.append(pl.Series("as_of", found.as_of_us).cast(pl.Datetime("us", "UTC")))
    target = io.BytesIO()
    pl.DataFrame(columns).write_ipc_stream(target)
    return target.getvalue()


def _keys(column: Column, dtype: DType) -> list[Any]:
    if column.kind != KINDS[dtype][0]:
        raise _misfit(column, dtype)
    _no_nulls(column)
    return column.values


def _values(column: Column, dtype: DType) -> list[Any]:
    """The values of a request field; whole numbers are numbers too."""
    if column.kind not in KINDS[dtype]:
        raise _misfit(column, dtype)
    if dtype is DType.FLOAT64 and column.kind == "whole":
        return [None if value is None else float(value) for value in column.values]
    return column.values


def _misfit(column: Column, dtype: DType) -> InputError:
    return InputError(f"Column {column.name!r} is no {WORDS[dtype]}. Cast it.")


def _column(name: str, dtype: DType, values: Any) -> pl.Series:  # noqa: ANN401 - an array of floats
    series = pl.Series(name, np.ascontiguousarray(values), nan_to_null=True)
    return series.cast(pl.Int64) if dtype is DType.INT64 else series


def _times(column: Column) -> IntArray:
    if column.kind != "time" or not column.zone:
        raise InputError(
            "Column 'at' has no times with a zone. Send timestamps in UTC (Polars: "
            "pl.Datetime('us', 'UTC'))."
        )
    _no_nulls(column)
    for row, at_us in enumerate(column.values):
        if not EARLIEST_US <= at_us <= LATEST_US:
            raise InputError(f"Column 'at' leaves the calendar in row {row}.")
    return np.array(column.values, dtype=np.int64)


def _no_nulls(column: Column) -> None:
    if None in column.values:
        row = column.values.index(None)
        raise InputError(f"Column {column.name!r} has a null in row {row}. Leave the row out.")
