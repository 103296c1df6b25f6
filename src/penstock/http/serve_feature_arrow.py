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
    from penstock.algebra import IntArray
    from penstock.features import Reading
    from penstock.spec import FeatureService

    from .arrow_stream import Column
    from .serve_feature_schema import FeatureSchema

__all__ = ["ARROW", "arrow_answer", "arrow_wanted"]

ARROW = b"application/vnd.apache.arrow.stream"
AT = "at"
EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999


def arrow_wanted(schema: FeatureSchema, body: bytes, now_us: int) -> Wanted:
    """What an Arrow stream asks for: a column of keys, and one of times where it has ``at``.

    Args:
        schema: Of the service.
        body: The stream.
        now_us: The time where it has no ``at``.

    Raises:
        InputError: It is no such stream, or lacks the keys, or has other columns or nulls.
    """
    columns = {column.name: column for column in read_stream(body, most_rows=MOST_ROWS)}
    known = [schema.key, AT]
    for name in columns:
        if name not in known:
            raise InputError(f"The stream has the column {name!r}. {nearest(name, known)}")
    keys = columns.get(schema.key)
    if keys is None:
        raise InputError(f"The stream lacks the column {schema.key!r}, the key of the features.")
    kind = "whole" if schema.key_type is int else "text"
    if keys.kind != kind:
        words = {"whole": "whole numbers", "text": "text"}
        raise InputError(f"Column {schema.key!r} is no {words[kind]}. Cast it.")
    _no_nulls(keys)
    return Wanted("columns", keys.values, _times(columns[AT]) if AT in columns else now_us)


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
