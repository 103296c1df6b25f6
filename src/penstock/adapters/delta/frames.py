"""Which frames fit into which tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
from deltalake import Schema

from penstock.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltalake import DeltaTable, Field
    from polars._typing import PolarsDataType

__all__ = ["checked_schema", "conformed", "missing_fields", "schema_of"]

_PLAIN: frozenset[PolarsDataType] = frozenset(
    {
        pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Float32, pl.Float64, pl.String,
        pl.Binary, pl.Date,
    }
)  # fmt: skip
_STORED = (
    "booleans, signed integers, floats, decimals, text, bytes, dates, Datetime('us', 'UTC'), "
    "and lists and structs of these"
)


def checked_schema(name: str, frame: pl.DataFrame) -> pl.Schema:
    """The frame's schema, when a table can be made from it and gives the same types back.

    Raises:
        InputError: The frame has no column, or columns whose type the table cannot keep as it is.
    """
    schema = frame.schema
    faults = [f"{column!r} is {dtype}" for column, dtype in schema.items() if not _storable(dtype)]
    if schema and not faults:
        return schema
    message = (
        f"No table {name!r} can be made from this frame: {'; '.join(faults) or 'it has no column'}."
        f" A table keeps {_STORED}; cast the columns first."
    )
    raise InputError(message, table=name, faults=tuple(faults))


def conformed(name: str, frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """The frame with its columns in the table's order; columns of nothing but null take its types.

    Raises:
        InputError: The frame's columns or types are not the table's; says all that differ.
    """
    faults = [f"column {column!r} is missing" for column in schema if column not in frame.schema]
    for column, dtype in frame.schema.items():
        if column not in schema:
            faults.append(f"column {column!r} is not in the table")
        elif dtype not in (schema[column], pl.Null):
            faults.append(f"column {column!r} is {dtype}, expected {schema[column]}")
    if faults:
        message = (
            f"The frame does not fit the table {name!r}: {'; '.join(faults)}. "
            "Nothing was written; give it exactly the table's columns and types."
        )
        raise InputError(message, table=name, faults=tuple(faults))
    nulls = [column for column, dtype in frame.schema.items() if dtype == pl.Null]
    return frame.select(
        pl.col(column).cast(schema[column]) if column in nulls else pl.col(column)
        for column in schema
    )


def schema_of(handle: DeltaTable) -> pl.Schema:
    """The table's columns."""
    return pl.Schema(handle.schema().to_arrow())


def missing_fields(handle: DeltaTable, columns: Mapping[str, pl.DataType]) -> list[Field]:
    """The columns that the table lacks, as its format writes them."""
    known = schema_of(handle)
    missing = {name: dtype for name, dtype in columns.items() if name not in known}
    return list(Schema.from_arrow(pl.Schema(missing)).fields)


def _storable(dtype: PolarsDataType) -> bool:
    if isinstance(dtype, pl.List):
        return _storable(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return all(_storable(field.dtype) for field in dtype.fields)
    if isinstance(dtype, pl.Datetime):
        return dtype.time_unit == "us" and dtype.time_zone == "UTC"
    return isinstance(dtype, pl.Decimal) or dtype in _PLAIN
