"""Requests and answers of a feature service as Arrow streams."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from penstock.errors import InputError, nearest
from penstock.spec import DType

from .arrow_columns import AT, field_values, key_values, times_us
from .arrow_stream import read_stream
from .serve_feature_schema import MOST_ROWS, Wanted

if TYPE_CHECKING:
    from penstock.features import Reading
    from penstock.spec import FeatureService

    from .serve_feature_schema import FeatureSchema

__all__ = ["arrow_answer", "arrow_wanted"]


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
    keys = [key_values(columns[name], dtype) for name, dtype in schema.body.keys.items()]
    request = {
        name: field_values(columns[name], dtype) for name, dtype in schema.body.request.items()
    }
    times = np.array(times_us(columns[AT]), np.int64) if AT in columns else now_us
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


def _column(name: str, dtype: DType, values: Any) -> pl.Series:  # noqa: ANN401 - an array of floats
    series = pl.Series(name, np.ascontiguousarray(values), nan_to_null=True)
    return series.cast(pl.Int64) if dtype is DType.INT64 else series
