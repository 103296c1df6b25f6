"""Whether a function of the user computes row by row, tried on some rows.

A value must not depend on the rows beside it: a record is folded in a batch of thousands, a request
asks for one row, and a dataset for all at once. Nobody can prove that of a function. It is tried: a
few rows are computed among all, together, in halves, in another order and one by one, and have to
give the same. So what looks at other rows is found where it does among few: a mean, a running sum,
a rank, a shift, a random number. What looks at others only for values that are not among those
tried, or changes a value by less than a millionth, is not found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import UserCodeError
from penstock.spec import expression_text

from .functions import call_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from penstock.spec import Function

    from .arrays import BoolArray, FloatArray, IntArray

__all__ = ["RowCheck", "require_by_row"]

ROWS = 8
"""How many rows are tried."""

AMONG = 1_000
"""They are taken from so many at the most."""

TOLERANCE = 1e-6
"""How far two values of a row may lie apart, of the greater one and of what is usual: products of
matrices add up in another order for another number of rows, and in float32 in the seventh digit."""


class RowCheck:
    """Tries a function once, with the first rows it is called for that are not all alike.

    Args:
        node: The function as it was declared.
        body: What ``load_function`` returned for it.
    """

    def __init__(self, node: Function, body: Callable[..., object]) -> None:
        self._node = node
        self._body = body
        self._is_due = True

    def see(self, arrays: Sequence[FloatArray], result: FloatArray) -> None:
        """Try the function, unless that has been done.

        Args:
            arrays: What it was called with.
            result: What it returned.

        Raises:
            UserCodeError: It does not compute row by row, or fails for fewer rows.
        """
        if not self._is_due or len(result) < 2:  # noqa: PLR2004 - one row has none beside it
            return
        places = _unlike(arrays)
        if len(places) > 1:
            sample = [array[places] for array in arrays]
            require_by_row(self._node, self._body, sample, result[places], len(result))
            self._is_due = False


def require_by_row(
    node: Function,
    body: Callable[..., object],
    sample: Sequence[FloatArray],
    result: FloatArray,
    among: int,
) -> None:
    """Make sure that a function gives for some rows what it gave for them among others.

    Args:
        node: The function as it was declared; errors name it.
        body: What ``load_function`` returned for it.
        sample: The rows, one array for each argument.
        result: What it gave for them.
        among: How many rows it was called with then.

    Raises:
        UserCodeError: It does not compute row by row, or fails for fewer rows.
    """
    alone = _by(node, body, sample, [slice(n, n + 1) for n in range(len(result))])
    for how, other in [(f"among {among:,} rows", result), *_tried(node, body, sample)]:
        differing = np.flatnonzero(~_same(alone, other))
        if len(differing):
            row = int(differing[0])
            given = ", ".join(
                f"{expression_text(arg)}={array[row]:.17g}"
                for arg, array in zip(node.args, sample, strict=True)
            )
            name = f"{node.module}.{node.qualname}"
            what = f"The function {name!r} does not compute row by row"
            raise UserCodeError(
                f"{what}: for {given} it gives {alone[row]:.17g} alone and {other[row]:.17g} "
                f"{how}. A request asks for one row, training for many, and both have to get the "
                "same: let each value depend on its own row only.",
                function=name,
                plain=f"{what}.",
            )


def _tried(
    node: Function, body: Callable[..., object], sample: Sequence[FloatArray]
) -> Iterator[tuple[str, FloatArray]]:
    rows = len(sample[0])
    halves = [slice(0, rows // 2), slice(rows // 2, rows)]
    yield f"among {rows}", _by(node, body, sample, [slice(0, rows)])
    yield f"among half of {rows}", _by(node, body, sample, halves)
    backwards = [array[::-1].copy() for array in sample]
    yield "in another order", _by(node, body, backwards, [slice(0, rows)])[::-1]


def _by(
    node: Function,
    body: Callable[..., object],
    sample: Sequence[FloatArray],
    slices: Sequence[slice],
) -> FloatArray:
    """What it gives for the rows, so many at a time; on copies, in case it writes into them."""
    parts = [call_function(node, body, [array[one].copy() for array in sample]) for one in slices]
    return np.concatenate(parts)


def _same(one: FloatArray, other: FloatArray) -> BoolArray:
    """Which values are the same; all that is not finite means null."""
    with np.errstate(all="ignore"):
        both = np.isfinite(one) & np.isfinite(other)
        usual = np.median(np.abs(one[both])) if both.any() else 0.0
        allowed = TOLERANCE * (np.maximum(np.abs(one), np.abs(other)) + usual)
        near: BoolArray = np.abs(one - other) <= allowed
    neither: BoolArray = ~np.isfinite(one) & ~np.isfinite(other)
    return (both & near) | neither


def _unlike(arrays: Sequence[FloatArray]) -> IntArray:
    """Places of a few rows of which no two are alike, as far apart as there are."""
    rows = np.stack([array[:AMONG] for array in arrays], axis=1)
    _, first = np.unique(np.nan_to_num(rows, nan=0.0), axis=0, return_index=True)
    places = np.sort(first)
    return places[np.unique(np.linspace(0, len(places) - 1, ROWS).astype(np.int64))]
