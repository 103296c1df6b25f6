"""What a feature service takes, and how what a user gives is told apart: by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from penstock.errors import InputError, nearest
from penstock.spec import DType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .frames import Row

__all__ = ["Takes"]

AT = "at"
TARGETS: Mapping[DType, pl.DataType] = {
    DType.STRING: pl.String(),
    DType.INT64: pl.Int64(),
    DType.FLOAT64: pl.Float64(),
    DType.BOOLEAN: pl.Boolean(),
}


class Takes(NamedTuple):
    """The keys and the request fields of a service. Their names are distinct.

    Attributes:
        service: Name of the service.
        keys: Type of the key of each entity, by the entity's name.
        request: Type of each request field, by its name.
    """

    service: str
    keys: Mapping[str, DType]
    request: Mapping[str, DType]

    def parted(self, row: Row) -> tuple[Row, Row]:
        """The keys and the request fields of a row; numbers and texts of numpy as Python's.

        Raises:
            InputError: It lacks one, or has another name.
        """
        names = [*self.keys, *self.request]
        for name in row:
            if name not in names:
                hint = nearest(str(name), names) or f"It takes {self._words()}."
                raise InputError(
                    f"The row has {name!r}, which {self.service!r} does not take. {hint}"
                )
        plain = {name: _plain(value) for name, value in row.items()}
        missing = [name for name in names if name not in row]
        if missing:
            raise InputError(
                f"The row lacks {missing[0]!r}. {self.service!r} takes {self._words()}; None for a "
                "request field without a value."
            )
        return (
            {name: plain[name] for name in self.keys},
            {name: plain[name] for name in self.request},
        )

    def columns(self, frame: pl.DataFrame, *, keyless: bool = False) -> pl.DataFrame:
        """The keys and the request fields of a frame, of their types, and ``at`` where it has it.

        Args:
            frame: The frame.
            keyless: Whether a key may be null.

        Raises:
            InputError: It lacks a column, has one of another type, or a null in a key.
        """
        found = [_column(frame, name, dtype, "key") for name, dtype in self.keys.items()]
        found += [
            _column(frame, name, dtype, "request field") for name, dtype in self.request.items()
        ]
        for column in found[: len(self.keys)]:
            if column.null_count() and not keyless:
                row = column.is_null().arg_true()[0]
                raise InputError(
                    f"Column {column.name!r} has a null in row {row}. Leave the row out."
                )
        return pl.DataFrame([*found, *([frame[AT]] if AT in frame.columns else [])])

    def _words(self) -> str:
        parts = (("", self.keys), ("of the request ", self.request))
        return " and ".join(what + ", ".join(names) for what, names in parts if names)


def _column(frame: pl.DataFrame, name: str, dtype: DType, what: str) -> pl.Series:
    if name not in frame.columns:
        near = nearest(name, frame.columns)
        raise InputError(f"The column {name!r}, a {what}, is missing. {near}", column=name)
    column, target = frame[name], TARGETS[dtype]
    if column.dtype == target:
        return column
    if _is_alike(column.dtype, dtype):
        try:
            return column.cast(target)
        except pl.exceptions.PolarsError as error:
            raise InputError(f"Column {name!r} is no {dtype.value}: {error}") from None
    raise InputError(
        f"Column {name!r} is {column.dtype}, and the {what} is {dtype.value}. Cast it.", column=name
    )


def _is_alike(given: pl.DataType, dtype: DType) -> bool:
    """Whether values of a column's type are values of that type, written otherwise."""
    if isinstance(given, pl.Null):
        return True
    if dtype is DType.STRING:
        return isinstance(given, pl.Categorical | pl.Enum)
    if dtype is DType.FLOAT64:
        return given.is_numeric()
    return dtype is DType.INT64 and given.is_integer()


def _plain(value: object) -> object:
    item = getattr(value, "item", None)
    return item() if callable(item) else value
