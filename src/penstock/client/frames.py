"""Frames as users have them, and Polars between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import polars as pl

from penstock.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Row", "as_given", "as_polars", "rows_of"]

Row: TypeAlias = "dict[str, Any]"
F = TypeVar("F")
NUMPY_KINDS = "iufbM"


def as_polars(frame: object) -> pl.DataFrame:
    """The frame in Polars; a pandas index is left behind.

    Args:
        frame: A Polars or pandas frame.

    Raises:
        InputError: It is neither.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if not _is_pandas(frame):
        raise InputError(
            f"{type(frame).__name__} is no frame. Give a Polars or pandas frame, a dictionary of "
            "one row, or a list of such."
        )
    columns = cast("Mapping[str, Any]", frame)
    return pl.DataFrame([_column(str(name), columns[name]) for name in columns])


def rows_of(rows: Sequence[Row]) -> pl.DataFrame:
    """A list of dictionaries as a frame.

    Raises:
        InputError: They are not alike.
    """
    try:
        return pl.DataFrame(rows, infer_schema_length=None)
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise InputError(
            f"The list does not make a frame: {error}. Give dictionaries of the same keys, with "
            "values of the same types."
        ) from None


def as_given(frame: F, found: pl.DataFrame) -> F:
    """What was found as a frame of the kind that was handed in.

    Args:
        frame: What was handed in.
        found: Its rows with more columns.

    Returns:
        For pandas the frame itself with its index and its columns, and those that were found.
    """
    if not _is_pandas(frame):
        return cast("F", found)
    given = cast("Any", frame)
    known = {str(name) for name in given.columns}
    new = {one.name: one for one in found.iter_columns() if one.name not in known}
    made = given.assign(**{name: one.to_numpy() for name, one in new.items()})
    for name, one in new.items():
        if isinstance(one.dtype, pl.Datetime):  # all that are found are in UTC; numpy has no zones
            made[name] = made[name].dt.tz_localize("UTC")
    return cast("F", made)


def _is_pandas(frame: object) -> bool:
    """Whether it is a pandas frame; pandas is not loaded to find out."""
    kind = type(frame)
    return kind.__name__ == "DataFrame" and kind.__module__.partition(".")[0] == "pandas"


def _column(name: str, values: Any) -> pl.Series:  # noqa: ANN401 - a pandas series
    zone = getattr(values.dtype, "tz", None)
    if zone is not None:
        plain = values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
        return pl.Series(name, plain).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if getattr(values.dtype, "kind", "O") in NUMPY_KINDS and not values.hasnans:
        return pl.Series(name, values.to_numpy())
    nulls = values.isna()
    return pl.Series(name, [None if null else v for v, null in zip(values, nulls, strict=True)])
