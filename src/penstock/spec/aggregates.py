"""What an aggregate over an entity's records is, with or without a window."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Literal, cast

import msgspec

from .described import Described
from .durations import DAY_US, HOUR_US, MINUTE_US, duration_us
from .expressions import Column, Constant, Expression, expression_text, is_condition, leads_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Aggregate", "AggregateOp", "default_hop_us"]

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
        given = cast("object", self.over)  # a project is not type-checked
        if isinstance(given, (list, tuple, set)):
            yield (
                f"over={given!r} are several durations; a feature has one, such as '6h': declare a "
                "feature for each, they share what they store"
            )
            return
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
