"""The aggregates a feature view may ask for, a function each.

Each keeps a state of a fixed number of words (8 bytes each): in the online store for every tile of
an entity, a tile being one hop of the window, or the whole past without a window. ``State`` in
their docstrings says what the words are, ``Merge`` how two states become one, and ``Error`` how far
a value may be from the exact one, in training, batch and serving, with up to a million records in a
window.

``Removal`` says whether a record could be taken out of a state again. Penstock never does that with
what it stores: a window is merged from the states in it, not got from a difference of running sums,
where one outlier would destroy every later window; and after a deletion an entity is built anew
from the records that are left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import nearest

from .aggregates import Aggregate, AggregateOp
from .described import Shown, described_by
from .durations import duration_text, duration_us
from .expressions import as_expression

if TYPE_CHECKING:
    from typing import Unpack

__all__ = [
    "approx_distinct",
    "approx_quantile",
    "count",
    "decayed_mean",
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


class Window(Shown, total=False):
    """What every aggregate takes besides its column; see ``Aggregate``."""

    over: str
    hop: str
    where: object
    name: str


def count(column: str = "", **window: Unpack[Window]) -> Aggregate:
    """Count records, or the non-null values of a column.

    - State: 1 word: the count.
    - Merge: added.
    - Removal: by subtraction, exactly, as these are whole numbers; only the batch engine does so,
      with running counts over a whole table.
    - Error: none below 2**53.
    """
    return _aggregate("count", column, window)


def total(column: str, **window: Unpack[Window]) -> Aggregate:
    """Sum of a column; 0 with nothing to add. Published as ``penstock.sum``.

    - State: 1 word: the sum.
    - Merge: added.
    - Removal: only by subtraction, which leaves the rounding of the greatest sum there was; not
      used.
    - Error: at most 1e-9 of the sum of absolute values.
    """
    return _aggregate("sum", column, window)


def mean(column: str, **window: Unpack[Window]) -> Aggregate:
    """Arithmetic mean of a column.

    - State: 2 words: the count and the sum, shared with ``count`` and ``sum`` of the same values.
    - Merge: added.
    - Removal: as of ``sum``; not used.
    - Error: at most 1e-9 of the mean absolute value.
    """
    return _aggregate("mean", column, window)


def minimum(column: str, **window: Unpack[Window]) -> Aggregate:
    """Smallest value of a column. Published as ``penstock.min``.

    - State: 1 word: the value, infinite while there is none.
    - Merge: the smaller.
    - Removal: impossible, as the next smallest is not kept.
    - Error: none.
    """
    return _aggregate("min", column, window)


def maximum(column: str, **window: Unpack[Window]) -> Aggregate:
    """Largest value of a column. Published as ``penstock.max``.

    - State: 1 word: the value, minus infinite while there is none.
    - Merge: the larger.
    - Removal: impossible, as the next largest is not kept.
    - Error: none.
    """
    return _aggregate("max", column, window)


def std(column: str, **window: Unpack[Window]) -> Aggregate:
    """Sample standard deviation of a column (n - 1); null below two values.

    - State: 3 words: count, mean, and sum of squared deviations from it, shared with ``var``.
    - Merge: after Welford and Chan; a sum of squares would lose all digits where the mean is large.
    - Removal: only by subtraction, which loses digits as that of ``sum`` does; not used.
    - Error: at most 1e-9 of the root mean square of the values.
    """
    return _aggregate("std", column, window)


def var(column: str, **window: Unpack[Window]) -> Aggregate:
    """Sample variance of a column (n - 1); null below two values.

    - State: 3 words: those of ``std``.
    - Merge: as of ``std``.
    - Removal: as of ``std``; not used.
    - Error: at most 1e-9 of the mean square of the values.
    """
    return _aggregate("var", column, window)


def first(column: str, **window: Unpack[Window]) -> Aggregate:
    """Value of the oldest record that has one; of several at one time, the first to arrive.

    - State: 2 words: time and value.
    - Merge: the older; at one time the one that arrived earlier.
    - Removal: impossible, as the next oldest is not kept.
    - Error: none.
    """
    return _aggregate("first", column, window)


def last(column: str, **window: Unpack[Window]) -> Aggregate:
    """Value of the newest record that has one; of several at one time, the last to arrive.

    - State: 2 words: time and value.
    - Merge: the newer; at one time the one that arrived later.
    - Removal: impossible, as the one before is not kept.
    - Error: none.
    """
    return _aggregate("last", column, window)


def first_k(column: str, k: int, **window: Unpack[Window]) -> Aggregate:
    """Values of the k oldest records that have one, oldest first: k columns, null where fewer.

    - State: 2k words: the k times, then the k values.
    - Merge: the k oldest of both, at one time those that arrived earlier.
    - Removal: impossible, as the next oldest is not kept.
    - Error: none.
    """
    return _aggregate("first_k", column, window, k=k)


def last_k(column: str, k: int, **window: Unpack[Window]) -> Aggregate:
    """Values of the k newest records that have one, newest first: k columns, null where fewer.

    - State: 2k words: the k times, then the k values.
    - Merge: the k newest of both, at one time those that arrived later.
    - Removal: impossible, as the one before them is not kept.
    - Error: none.
    """
    return _aggregate("last_k", column, window, k=k)


def top_k(column: str, k: int, **window: Unpack[Window]) -> Aggregate:
    """The k largest values, largest first, equal ones repeated: k columns, null where fewer.

    - State: k words: the values, minus infinite where there are fewer.
    - Merge: the k largest of both.
    - Removal: impossible, as the next largest is not kept.
    - Error: none.
    """
    return _aggregate("top_k", column, window, k=k)


def decayed_mean(column: str, half_life: str, **window: Unpack[Window]) -> Aggregate:
    """Mean of a column in which a value counts ``2 ** -(age / half_life)``.

    - State: 3 words: time of the newest value, and as of then the sums of weights and of weighted
      values.
    - Merge: the sums of the older decay to the time of the newer, then they are added.
    - Removal: only by subtraction, which loses digits as that of ``sum`` does; not used.
    - Error: at most 1e-9 of the weighted mean absolute value.

    Args:
        column: The column.
        half_life: The age at which a value counts half, such as ``"1h"``.
        window: As for every aggregate.
    """
    return _aggregate("decayed_mean", column, window, half_life=half_life)


def approx_distinct(column: str, **window: Unpack[Window]) -> Aggregate:
    """About how many distinct values a column of any type has, as a whole number.

    HyperLogLog with 1,024 registers. The same values give the same number in training and in
    serving, exactly.

    - State: 128 words: 1,024 registers of a byte.
    - Merge: the greater of each register, so in any order the same.
    - Removal: impossible, as a register forgets what it held before.
    - Error: 3.3 % standard error. Where there are few values the number is exact, but for those
      that share a register: of two, one pair in 1,024 counts as one value.
    """
    return _aggregate("approx_distinct", column, window)


def approx_quantile(column: str, q: float, **window: Unpack[Window]) -> Aggregate:
    """About the value below which a share ``q`` of a column's values lies.

    Up to 128 buckets of values, as fine as they can be: each spans at most 0.8 % of its values
    while 128 suffice, and twice that each time they do not, which they do for a range of 1 to 2,
    1 to 4, 1 to 16 and so on. The same values give the same number in training and in serving,
    exactly.

    - State: 257 words: the level, 128 buckets and how many values each holds.
    - Merge: counts of a bucket are added at the coarser level; while more than 128 are filled, each
      two neighbours become one. The result depends on the values alone.
    - Removal: impossible, as buckets that became one cannot be parted.
    - Error: below 2 ** (level - 7) of the value up to level 7: 0.8 % at level 0.

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
