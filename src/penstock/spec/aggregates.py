"""Aggregates over an entity's records, with or without a window."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Literal

import msgspec

from penstock.errors import nearest

from .described import Described, Shown, described_by
from .durations import DAY_US, HOUR_US, MINUTE_US, duration_text, duration_us
from .expressions import (
    Column,
    Constant,
    Expression,
    as_expression,
    expression_text,
    is_condition,
    leads_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

__all__ = [
    "Aggregate",
    "AggregateOp",
    "approx_distinct",
    "approx_quantile",
    "count",
    "decayed_mean",
    "default_hop_us",
    "first",
    "first_k",
    "last",
    "last_k",
    "maximum",
    "mean",
    "minimum",
    "std",
    "top_k",
    "total",
    "var",
]

AggregateOp = Literal[
    "count", "sum", "mean", "min", "max", "std", "var", "first", "last", "first_k", "last_k",
    "top_k", "decayed_mean", "approx_distinct", "approx_quantile",
]  # fmt: skip

ANY_TYPE = frozenset({"count", "approx_distinct"})
EXACT_HOP_US = 1
ROUNDED = frozenset({"sum", "mean", "std", "var", "decayed_mean"})
FROM_ZERO = ANY_TYPE | {"sum"}
MOST_K = 100

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


class Aggregate(Described, frozen=True, omit_defaults=True):
    """One feature: an operator over a column of the view's records up to a time.

    Attributes:
        op: What is computed; the function of that name says what it means. Nulls are skipped; with
            nothing to aggregate, ``count``, ``sum`` and ``approx_distinct`` are 0 and every other
            operator is null.
        column: The source's or derived column; empty for ``count`` of records.
        over: Length of the window, such as ``"6h"``; empty for the whole past.
        hop: What the window's far end is rounded down to; empty for the default of its length.
            ``"0s"`` rounds nothing: the window is exact, and online every distinct time of a record
            within it is kept, instead of a tile for each hop.
        where: Only records for which this is true count.
        name: The feature's name; made from the rest when empty.
        k: How many values ``first_k``, ``last_k`` and ``top_k`` give, a column each.
        q: Which quantile ``approx_quantile`` gives, above 0 and below 1.
        half_life: After how long a value counts half in ``decayed_mean``.

    What readers are told of it besides is in ``Described``.
    """

    op: AggregateOp
    column: str = ""
    over: str = ""
    hop: str = ""
    where: Expression | None = None
    name: str = ""
    k: int = 0
    q: float = 0.0
    half_life: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            msgspec.structs.force_setattr(self, "name", self._default_name())
        super().__post_init__()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the feature's columns: its own, or one per value with ``_1``, ``_2`` ... ."""
        if not self.k:
            return (self.name,)
        return tuple(f"{self.name}_{place}" for place in range(1, self.k + 1))

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.op in ANY_TYPE

    @property
    def takes_any_type(self) -> bool:
        """Whether the column may be of any type; otherwise it holds numbers or booleans."""
        return self.op in ANY_TYPE

    @property
    def is_from_zero(self) -> bool:
        """Whether it is 0 with nothing to aggregate, and not null."""
        return self.op in FROM_ZERO

    @property
    def is_exact(self) -> bool:
        """Whether every way to a value gives it to the last bit; otherwise to 1e-9."""
        return self.op not in ROUNDED

    @property
    def half_life_us(self) -> int:
        """After how long a value counts half, in microseconds; 0 where it does not decay."""
        return duration_us(self.half_life) if self.half_life else 0

    @property
    def over_us(self) -> int:
        """Length of the window in microseconds; 0 for the whole past."""
        return duration_us(self.over) if self.over else 0

    @property
    def hop_us(self) -> int:
        """What the far end of the window is rounded down to, in microseconds; 0 without window."""
        if self.hop:
            # Times are whole microseconds, so a hop of one rounds nothing.
            return max(duration_us(self.hop), EXACT_HOP_US)
        return default_hop_us(self.over_us) if self.over else 0

    def _subject(self) -> str:
        return f"feature {self.name!r}"

    def _default_name(self) -> str:
        parts = [*self._operator_name(), str(self.column), str(self.over)]
        if self.where is not None:
            text = expression_text(self.where)
            for symbol, word in WORDS.items():
                text = text.replace(symbol, f" {word} ")
            slug = SLUG.sub("_", text.lower()).strip("_")
            if len(slug) > LONGEST_SLUG:
                slug = hashlib.sha256(slug.encode()).hexdigest()[:8]
            parts += ["where", slug]
        return "_".join(part for part in parts if part)

    def _operator_name(self) -> list[str]:
        """The operator with what it is given besides: ``last_3``, ``p90``, ``decayed_mean_1h``."""
        if self.k:
            return [self.op.removesuffix("_k"), str(self.k)]
        if self.op == "approx_quantile":
            return [f"p{self.q * 100:g}".replace(".", "_")]
        return [self.op, self.half_life]

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if not self.column and self.op != "count":
            yield f"{self.op} needs a column"
        yield from self._parameter_faults()
        yield from self._window_faults()
        if self.where is None:
            return
        if not is_condition(self.where):
            yield f"where={expression_text(self.where)} is no condition; {_condition(self.where)}"
        if leads_of(self.where):
            yield "where looks ahead with lead(); only a label may"

    def _parameter_faults(self) -> Iterator[str]:
        if self.k and not self.op.endswith("_k"):
            yield f"k is for first_k, last_k and top_k; {self.op} gives one value"
        if self.op.endswith("_k") and not 1 <= self.k <= MOST_K:
            yield f"k={self.k!r} is out of range; {self.op} gives 1 to {MOST_K} values"
        if self.op == "approx_quantile" and not 0 < self.q < 1:
            yield f"q={self.q!r} is no quantile; take a number between 0 and 1, such as 0.5"
        if self.op == "decayed_mean":
            try:
                if self.half_life_us <= 0:
                    yield 'decayed_mean needs a half_life above zero, such as "1h"'
            except ValueError as error:
                yield f"half_life: {error}"

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
        if over and hop > over:
            yield f"hop={self.hop!r} is longer than over={self.over!r}; take a shorter hop"


def _condition(where: Expression) -> str:
    """How to write a condition instead of what is none."""
    match where:
        case Constant(bool()):
            return "two expressions are compared by .eq() and .ne(), not by '=='"
        case Column(name):
            return f"compare something, as in ps.col({name!r}).eq(True)"
        case _:
            return "compare something"


def default_hop_us(over: int) -> int:
    """The hop of a window that declares none: 5 min up to 12 h, 1 h up to 12 d, else 1 d.

    A window shorter than five minutes takes its own length, so that it is never rounded away.

    Args:
        over: Length of the window in microseconds.
    """
    if over <= 12 * HOUR_US:
        return min(5 * MINUTE_US, over)
    return HOUR_US if over <= 12 * DAY_US else DAY_US


class Window(Shown, total=False):
    """What every aggregate takes besides its column; see ``Aggregate``."""

    over: str
    hop: str
    where: object
    name: str


def count(column: str = "", **window: Unpack[Window]) -> Aggregate:
    """Count records, or the non-null values of a column."""
    return _aggregate("count", column, window)


def total(column: str, **window: Unpack[Window]) -> Aggregate:
    """Sum of a column; 0 with nothing to add. Published as ``penstock.sum``."""
    return _aggregate("sum", column, window)


def mean(column: str, **window: Unpack[Window]) -> Aggregate:
    """Arithmetic mean of a column."""
    return _aggregate("mean", column, window)


def minimum(column: str, **window: Unpack[Window]) -> Aggregate:
    """Smallest value of a column. Published as ``penstock.min``."""
    return _aggregate("min", column, window)


def maximum(column: str, **window: Unpack[Window]) -> Aggregate:
    """Largest value of a column. Published as ``penstock.max``."""
    return _aggregate("max", column, window)


def std(column: str, **window: Unpack[Window]) -> Aggregate:
    """Sample standard deviation of a column (n - 1); null below two values."""
    return _aggregate("std", column, window)


def var(column: str, **window: Unpack[Window]) -> Aggregate:
    """Sample variance of a column (n - 1); null below two values."""
    return _aggregate("var", column, window)


def first(column: str, **window: Unpack[Window]) -> Aggregate:
    """Value of the oldest record that has one; of several at one time, the first to arrive."""
    return _aggregate("first", column, window)


def last(column: str, **window: Unpack[Window]) -> Aggregate:
    """Value of the newest record that has one; of several at one time, the last to arrive."""
    return _aggregate("last", column, window)


def first_k(column: str, k: int, **window: Unpack[Window]) -> Aggregate:
    """Values of the k oldest records that have one, oldest first: k columns, null where fewer.

    Online, each tile keeps 2k words.
    """
    return _aggregate("first_k", column, window, k=k)


def last_k(column: str, k: int, **window: Unpack[Window]) -> Aggregate:
    """Values of the k newest records that have one, newest first: k columns, null where fewer.

    Online, each tile keeps 2k words.
    """
    return _aggregate("last_k", column, window, k=k)


def top_k(column: str, k: int, **window: Unpack[Window]) -> Aggregate:
    """The k largest values, largest first, equal ones repeated: k columns, null where fewer.

    Online, each tile keeps k words.
    """
    return _aggregate("top_k", column, window, k=k)


def decayed_mean(column: str, half_life: str, **window: Unpack[Window]) -> Aggregate:
    """Mean of a column in which a value counts ``2 ** -(age / half_life)``.

    Args:
        column: The column.
        half_life: The age at which a value counts half, such as ``"1h"``.
        window: As for every aggregate.
    """
    return _aggregate("decayed_mean", column, window, half_life=half_life)


def approx_distinct(column: str, **window: Unpack[Window]) -> Aggregate:
    """About how many distinct values a column of any type has, as a whole number.

    HyperLogLog with 1,024 registers: the standard error is 3.3 %, and less than one value where
    there are few. The same values give the same number in training and in serving, exactly.
    Online, each tile keeps 128 words.
    """
    return _aggregate("approx_distinct", column, window)


def approx_quantile(column: str, q: float, **window: Unpack[Window]) -> Aggregate:
    """About the value below which a share ``q`` of a column's values lies.

    Up to 128 buckets of values, as fine as they can be: each spans at most 0.8 % of its values
    while 128 suffice, and twice that each time they do not, which they do for a range of 1 to 2,
    1 to 4, 1 to 16 and so on. The same values give the same number in training and in serving,
    exactly. Online, each tile keeps 257 words.

    Args:
        column: The column.
        q: The share, above 0 and below 1.
        window: As for every aggregate.
    """
    return _aggregate("approx_quantile", column, window, q=q)


def _aggregate(  # noqa: PLR0913 - what a feature is made of
    op: AggregateOp,
    column: str,
    window: Window,
    *,
    k: int = 0,
    q: float = 0.0,
    half_life: str = "",
) -> Aggregate:
    for given in window:
        if given not in Window.__annotations__:
            raise TypeError(f"{op} takes no {given!r}. {nearest(given, Window.__annotations__)}")
    where, over = window.get("where"), window.get("over", "")
    return Aggregate(
        op=op,
        column=column,
        over=_plain(over) if over else over,
        hop=window.get("hop", ""),
        where=None if where is None else as_expression(where),
        name=window.get("name", ""),
        k=k,
        q=q,
        half_life=half_life,
        **described_by(window),
    )


def _plain(over: str) -> str:
    try:
        return duration_text(duration_us(over))
    except ValueError:
        return over  # the aggregate itself reports it, together with its other faults
