"""A source's schema and expectations as a dataframely contract, and its verdict on records.

The reasons it gives, beside those of reading: ``required(column)``: no value where there has to be
one; ``finite(column)``: NaN or infinity; ``key_length(column)``: an entity's key that is longer
than every online store takes; and an expectation's own name, such as ``positive(close)``. A rule
over a value that is missing holds. ``unique`` is judged with what is stored already, in
``penstock.ingest.repeats``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dataframely as dy
import polars as pl

from penstock.spec import DType, Expectation, Source

from .columns import Faults, mask, merged

if TYPE_CHECKING:
    from .parsed import Parsed

__all__ = ["Verdict", "judge"]

COLUMN_REASONS: Mapping[str, str] = {
    "nullability": "required",
    "nan": "finite",
    "inf": "finite",
}
LONGEST_KEY_BYTES = 500
"""A longer key would be stored, and no view of the source could be brought online any more."""

WHOLE_RECORD = frozenset({"json", "object", "fields", "encoding", "quotes"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the contract says of a batch.

    Attributes:
        good: The records that keep it, as ``Parsed.frame``.
        faults: Reason to the records that break it, over all records read.
    """

    good: pl.DataFrame
    faults: Faults


def judge(source: Source, parsed: Parsed) -> Verdict:
    """Part the records that keep the source's schema and expectations from those that do not."""
    frame = _without_nan(source, parsed.frame)
    # Lazily, so that only the failing rows are ever copied out.
    _, failure = _contract(source).filter(frame.lazy(), cast=False)
    faults = merged(parsed.faults, _long_keys(source, frame))
    details = failure.details()
    rules = [name for name in details.columns if name not in frame.columns]
    names = {f"rule_{n}": rule.name for n, rule in enumerate(source.expect)}
    for rule in rules:
        places = details.filter(pl.col(rule) == "invalid").get_column("_row")
        if places.len():
            faults = merged(faults, {_reason(rule, names): mask(frame.height, places)})
    faults = _without_consequences(faults)
    bad = mask(frame.height, [])
    for rows in faults.values():
        bad |= rows
    return Verdict(frame.filter(~bad) if faults else frame, faults)


def _long_keys(source: Source, frame: pl.DataFrame) -> Faults:
    key = frame.get_column(source.entity.name)
    if key.dtype != pl.String():
        return {}
    long = (key.str.len_bytes() > LONGEST_KEY_BYTES).fill_null(value=False)
    return {f"key_length({key.name})": long} if long.any() else {}


def _without_nan(source: Source, frame: pl.DataFrame) -> pl.DataFrame:
    """NaN in a nullable column means that there is no value."""
    floats = [name for name in source.nullable if source.schema[name] is DType.FLOAT64]
    return frame.with_columns(pl.col(floats).fill_nan(None)) if floats else frame


def _reason(rule: str, names: Mapping[str, str]) -> str:
    if rule in names:
        return names[rule]
    column, _, check = rule.rpartition("|")
    return f"{COLUMN_REASONS[check]}({column})"


def _without_consequences(faults: Faults) -> Faults:
    """Leave out reasons that only follow from another.

    A record that could not be taken apart has no further faults, and a value that could not be read
    is not missing as well.
    """
    whole = [rows for reason, rows in faults.items() if reason in WHOLE_RECORD]
    result: Faults = {}
    for reason, found in faults.items():
        kind, _, column = reason.partition("(")
        unread = [f"dtype({column}", f"timestamp_zone({column}"] if kind == "required" else []
        causes = [] if reason in WHOLE_RECORD else whole
        rows = found
        for cause in [*causes, *(faults[name] for name in unread if name in faults)]:
            rows = rows & ~cause
        if rows.any():
            result[reason] = rows
    return result


def _contract(source: Source) -> type[dy.Schema]:
    """The dataframely schema of a source.

    Columns go by alias, since a column may be called like something a schema has itself.
    """
    body: dict[str, object] = {
        f"column_{n}": COLUMNS[dtype](name, name in source.nullable)
        for n, (name, dtype) in enumerate(source.schema.items())
    }
    body["column_row"] = dy.Int64(alias="_row", nullable=False)
    for n, rule in enumerate(source.expect):
        if rule.rule in CONDITIONS:
            body[f"rule_{n}"] = dy.rule()(_constant(CONDITIONS[rule.rule](rule)))
    return type("Contract", (dy.Schema,), body)


def _constant(condition: pl.Expr) -> Callable[[object], pl.Expr]:
    return lambda _: condition


def _positive(rule: Expectation) -> pl.Expr:
    return pl.col(rule.columns[0]) > 0


def _between(rule: Expectation) -> pl.Expr:
    value = pl.col(rule.columns[0])
    conditions = [pl.lit(value=True)]
    if rule.low is not None:
        conditions.append(value >= _bound(rule.low))
    if rule.high is not None:
        conditions.append(value <= _bound(rule.high))
    return pl.all_horizontal(conditions)


def _bound(bound: float | str) -> pl.Expr:
    return pl.col(bound) if isinstance(bound, str) else pl.lit(bound)


def _one_of(rule: Expectation) -> pl.Expr:
    return pl.col(rule.columns[0]).is_in(list(rule.options))


def _matches(rule: Expectation) -> pl.Expr:
    return pl.col(rule.columns[0]).str.contains(rule.pattern)


CONDITIONS: Mapping[str, Callable[[Expectation], pl.Expr]] = {
    "positive": _positive,
    "between": _between,
    "one_of": _one_of,
    "matches": _matches,
}

ColumnMaker = Callable[[str, bool], dy.Column]

COLUMNS: Mapping[DType, ColumnMaker] = {
    DType.STRING: lambda name, nullable: dy.String(alias=name, nullable=nullable),
    DType.INT64: lambda name, nullable: dy.Int64(alias=name, nullable=nullable),
    DType.FLOAT64: lambda name, nullable: dy.Float64(
        alias=name, nullable=nullable, allow_nan=False, allow_inf=False
    ),
    DType.BOOLEAN: lambda name, nullable: dy.Bool(alias=name, nullable=nullable),
    DType.TIMESTAMP: lambda name, nullable: dy.Datetime(
        alias=name, nullable=nullable, time_zone="UTC", time_unit="us"
    ),
}
