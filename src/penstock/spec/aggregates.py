"""Aggregates over an entity's records, with or without a window."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Literal

import msgspec

from .base import Value
from .durations import DAY_US, HOUR_US, MINUTE_US, duration_text, duration_us
from .expressions import Expression, as_expression, expression_text, is_condition, leads_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Aggregate",
    "AggregateOp",
    "count",
    "default_hop_us",
    "last",
    "maximum",
    "mean",
    "minimum",
    "std",
    "total",
]

AggregateOp = Literal["count", "sum", "mean", "min", "max", "std", "last"]

LONGEST_SLUG = 40  # a longer condition is named by its hash
SLUG = re.compile(r"[^a-z0-9]+")
WORDS = {
    ">=": "ge",
    "<=": "le",
    "==": "eq",
    "!=": "ne",
    ">": "gt",
    "<": "lt",
    "&": "and",
    "|": "or",
}


class Aggregate(Value, frozen=True, omit_defaults=True):
    """One feature: an operator over a column of the view's records up to a time.

    Attributes:
        op: What is computed. Nulls are skipped; with nothing to aggregate, ``count`` and ``sum``
            are 0 and every other operator is null. ``std`` is the sample deviation (n - 1), null
            below two values. ``last`` is the value of the newest record that has one.
        column: The source's or derived column; empty for ``count`` of records.
        over: Length of the window, such as ``"6h"``; empty for the whole past.
        hop: What the window's far end is rounded down to; empty for the default of its length.
        where: Only records for which this is true count.
        name: The feature's name; made from the rest when empty.
    """

    op: AggregateOp
    column: str = ""
    over: str = ""
    hop: str = ""
    where: Expression | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            msgspec.structs.force_setattr(self, "name", self._default_name())
        super().__post_init__()

    @property
    def over_us(self) -> int:
        """Length of the window in microseconds; 0 for the whole past."""
        return duration_us(self.over) if self.over else 0

    @property
    def hop_us(self) -> int:
        """What the far end of the window is rounded down to, in microseconds; 0 without window."""
        if self.hop:
            return duration_us(self.hop)
        return default_hop_us(self.over_us) if self.over else 0

    def _subject(self) -> str:
        return f"feature {self.name!r}"

    def _default_name(self) -> str:
        parts = [self.op, self.column, self.over]
        if self.where is not None:
            text = expression_text(self.where)
            for symbol, word in WORDS.items():
                text = text.replace(symbol, f" {word} ")
            slug = SLUG.sub("_", text.lower()).strip("_")
            if len(slug) > LONGEST_SLUG:
                slug = hashlib.sha256(slug.encode()).hexdigest()[:8]
            parts += ["where", slug]
        return "_".join(part for part in parts if part)

    def _faults(self) -> Iterator[str]:
        if not self.column and self.op != "count":
            yield f"{self.op} needs a column"
        yield from self._window_faults()
        if self.where is None:
            return
        if not is_condition(self.where):
            yield f"where={expression_text(self.where)} is no condition; compare something"
        if leads_of(self.where):
            yield "where looks ahead with lead(); only a label may"

    def _window_faults(self) -> Iterator[str]:
        try:
            over, hop = self.over_us, self.hop_us
        except ValueError as error:
            yield f"over or hop: {error}"
            return
        if self.over and over == 0:
            yield "over is zero; leave it out for the whole past"
        if self.hop and not self.over:
            yield "hop is given without over; it rounds the far end of a window"
        if self.hop and hop == 0:
            yield "hop is zero; exact windows are not built, the smallest hop is '1us'"
        if over and hop > over:
            yield f"hop={self.hop!r} is longer than over={self.over!r}; take a shorter hop"


def default_hop_us(over: int) -> int:
    """The hop of a window that declares none: 5 min up to 12 h, 1 h up to 12 d, else 1 d.

    A window shorter than five minutes takes its own length, so that it is never rounded away.

    Args:
        over: Length of the window in microseconds.
    """
    if over <= 12 * HOUR_US:
        return min(5 * MINUTE_US, over)
    return HOUR_US if over <= 12 * DAY_US else DAY_US


def count(
    column: str = "", *, over: str = "", hop: str = "", where: object = None, name: str = ""
) -> Aggregate:
    """Count records, or the non-null values of a column."""
    return _aggregate("count", column, over, hop, where, name)


def total(
    column: str, *, over: str = "", hop: str = "", where: object = None, name: str = ""
) -> Aggregate:
    """Sum of a column; 0 with nothing to add. Published as ``penstock.sum``."""
    return _aggregate("sum", column, over, hop, where, name)


def mean(
    column: str, *, over: str = "", hop: str = "", where: object = None, name: str = ""
) -> Aggregate:
    """Arithmetic mean of a column."""
    return _aggregate("mean", column, over, hop, where, name)


def minimum(
    column: str, *, over: str = "", hop: str = "", where: object = None, name: str = ""
) -> Aggregate:
    """Smallest value of a column. Published as ``penstock.min``."""
    return _aggregate("min", column, over, hop, where, name)


def maximum(
    column: str, *, over: str = "", hop: str = "", where: object = None, name: str = ""
) -> Aggregate:
    """Largest value of a column. Published as ``penstock.max``."""
    return _aggregate("max", column, over, hop, where, name)


def std(
    column: str, *, over: str = "", hop: str = "", where: object = None, name: str = ""
) -> Aggregate:
    """Sample standard deviation of a column (n - 1); null below two values."""
    return _aggregate("std", column, over, hop, where, name)


def last(
    column: str, *, over: str = "", hop: str = "", where: object = None, name: str = ""
) -> Aggregate:
    """Value of the newest record that has one; of several at one time, the last to arrive."""
    return _aggregate("last", column, over, hop, where, name)


def _aggregate(  # noqa: PLR0913, PLR0917 - the six things a feature is made of
    op: AggregateOp, column: str, over: str, hop: str, where: object, name: str
) -> Aggregate:
    condition = None if where is None else as_expression(where)
    if over:
        over = _plain(over)
    return Aggregate(op=op, column=column, over=over, hop=hop, where=condition, name=name)


def _plain(over: str) -> str:
    try:
        return duration_text(duration_us(over))
    except ValueError:
        return over  # the aggregate itself reports it, together with its other faults
