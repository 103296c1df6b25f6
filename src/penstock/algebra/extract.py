"""From a source's records to arrays of event times and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from .arrays import FloatArray, IntArray, order_of
from .expressions import tidy, to_polars
from .registers import marks_of

if TYPE_CHECKING:
    from .program import Input, Program

__all__ = ["Events", "event_times", "extract", "in_order", "is_stored", "sorting"]


@dataclass(frozen=True, kw_only=True)
class Events:
    """Events as arrays of one length.

    Attributes:
        codes: The entity of each, as a whole number >= 0.
        times: When each is known, int64 microseconds.
        values: One float64 array per input of the program, NaN for null.
    """

    codes: IntArray
    times: IntArray
    values: tuple[FloatArray, ...]


def extract(program: Program, records: pl.DataFrame, codes: IntArray) -> Events:
    """Compute what a program aggregates from records.

    Args:
        program: The compiled view.
        records: Records in the order of arrival, with the source's timestamp
            (``Datetime("us", "UTC")``) and the program's ``columns``.
        codes: The entity of each record, int64.

    Returns:
        The events in the order of the records.

    Raises:
        UserCodeError: A function of the user failed.
        DeclarationError: A function of the user cannot be found again.
    """
    view = program.view
    found = {place: _stored(program, each, records) for place, each in enumerate(program.inputs)}
    rest = [place for place, values in found.items() if values is None]
    if rest:
        frame = tidy(
            records.select(view.source.timestamp, view.source.entity.name, *program.columns)
        )
        for name in program.derived:
            frame = frame.with_columns(to_polars(view.derive[name]).alias(name))
        computed = frame.with_columns(
            _value(program.inputs[place]).alias(f"_{place}") for place in rest
        )
        for place in rest:
            found[place] = computed[f"_{place}"].fill_null(np.nan).to_numpy()
    values = tuple(each for each in found.values() if each is not None)
    return Events(codes=codes, times=event_times(program, records), values=values)


def event_times(program: Program, records: pl.DataFrame) -> IntArray:
    """When records are known, int64 microseconds.

    Args:
        program: The compiled view.
        records: Records with the source's timestamp (``Datetime("us", "UTC")``).
    """
    source = program.view.source
    return records[source.timestamp].cast(pl.Int64).to_numpy() + source.known_after_us


def is_stored(program: Program, each: Input) -> bool:
    """Whether an input is the numbers of a column of the source as they are.

    Args:
        program: The compiled view.
        each: The input.
    """
    plain = each.kind == "number" and each.where is None and each.column
    return bool(plain) and each.column not in program.view.derive


def _stored(program: Program, each: Input, records: pl.DataFrame) -> FloatArray | None:
    """An input that is a stored column as it is, without a copy; None where it is not."""
    if not is_stored(program, each):
        return None
    column = records[each.column]
    if column.dtype != pl.Float64 or column.null_count():
        return None
    values = column.to_numpy()
    return values if np.isfinite(values).all() else None


def _value(each: Input) -> pl.Expr:
    if not each.column:
        value = pl.lit(1.0)
    elif each.kind == "number":
        value = pl.col(each.column).cast(pl.Float64)
    elif each.kind == "mark":
        value = pl.col(each.column).map_batches(_marks, return_dtype=pl.Float64)
    else:
        value = pl.when(pl.col(each.column).is_not_null()).then(1.0)
    return value if each.where is None else pl.when(to_polars(each.where)).then(value)


def _marks(values: pl.Series) -> pl.Series:
    return pl.Series(values.name, marks_of(values), nan_to_null=True)


def in_order(events: Events) -> Events:
    """Sort events by entity and time; those of one time stay in the order given."""
    order = sorting(events)
    if order is None:
        return events
    return Events(
        codes=events.codes[order],
        times=events.times[order],
        values=tuple(value[order] for value in events.values),
    )


def sorting(events: Events) -> IntArray | None:
    """What sorts events as ``in_order`` does; None where they are in order already."""
    codes, times = events.codes, events.times
    if (codes[1:] >= codes[:-1]).all():
        same = codes[1:] == codes[:-1]
        if (~same | (times[1:] >= times[:-1])).all():
            return None
    return order_of(codes, times)
