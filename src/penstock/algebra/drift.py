"""Drift: how far the values of one feature have moved from the rows a model learned from.

The law, written once:

- A reference has fixed bins, cut at the quantiles of the training rows, and a last bin for rows
  without a value. Counts of such bins add up and subtract, so a window's counts are the sum of its
  parts' counts, in any order, exactly.
- A value that fills a whole bin by itself (a constant, the zeros of a sparse column) stands alone
  in its bin, with what is below and above it in others, so that a move to either side is seen.
  Alone up to ``TIE`` of its size or of the column's range: batch and online sums agree to that.
- The population stability index is ``sum((q - p) * ln(q / p))`` over the bins, where ``p`` and
  ``q`` are the shares of all rows, nulls included; a share below ``PSI_FLOOR`` counts as
  ``PSI_FLOOR``, on both sides, so an empty bin is a small share and no infinity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import InputError
from penstock.records import ColumnBins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from .arrays import FloatArray, IntArray

__all__ = ["PSI_FLOOR", "TIE", "count_bins", "psi", "reference_bins"]

PSI_FLOOR = 1e-4
"""The share an empty bin is taken to have."""

TIE = 1e-9
"""Values this near to each other, relatively, may be one number computed in two ways."""


def reference_bins(values: ArrayLike, *, bins: int = 10) -> ColumnBins:
    """Cut the values at their quantiles and count them.

    Args:
        values: The training rows' values, as float64; NaN for none. Infinities belong to the
            outer bins.
        bins: How many bins of equal share to aim at. Ties make fewer; a value that fills a whole
            bin makes up to two more edges.

    Returns:
        Edges, growing and finite, and the counts of the values in their bins. A column without a
        finite value has no edges, so one bin, and one for the nulls.

    Raises:
        InputError: Fewer than two bins are asked for.
    """
    if bins < 2:  # noqa: PLR2004 - one bin cannot move
        raise InputError(f"bins={bins}; drift needs at least 2 bins.", bins=bins)
    column = np.asarray(values, dtype=np.float64)
    edges = _edges(np.sort(column[np.isfinite(column)]), bins)
    counts = count_bins(column, edges)
    return ColumnBins(
        edges=tuple(float(edge) for edge in edges), counts=tuple(int(count) for count in counts)
    )


def count_bins(values: ArrayLike, edges: Sequence[float] | FloatArray) -> IntArray:
    """Count values by bin.

    Args:
        values: The values, as float64; NaN for none.
        edges: Inner edges, growing; a value belongs to the first bin whose edge is >= it.

    Returns:
        int64, one count per bin (one more than edges), and last the rows without a value.
    """
    column = np.asarray(values, dtype=np.float64)
    known = column[~np.isnan(column)]
    places = np.searchsorted(np.asarray(edges, dtype=np.float64), known, side="left")
    counts = np.bincount(places, minlength=len(edges) + 1)
    return np.append(counts, len(column) - len(known)).astype(np.int64)


def psi(
    reference: Sequence[int] | IntArray | FloatArray, counts: Sequence[int] | IntArray | FloatArray
) -> float:
    """Population stability index of counts against the reference's counts, over the same bins.

    Below 0.1 is commonly read as no drift, above 0.2 as much of it. Symmetric, never negative, and
    0 for equal shares. By chance alone it is about ``(bins - 1) * (1 / n + 1 / m)`` for ``n`` and
    ``m`` rows.

    Args:
        reference: Rows per bin, nulls last, of the training rows.
        counts: Rows per bin, nulls last, of the rows that are compared.

    Raises:
        InputError: The bins are not the same, or one side has no rows.
    """
    expected = np.asarray(reference, dtype=np.float64)
    found = np.asarray(counts, dtype=np.float64)
    if expected.shape != found.shape:
        raise InputError(
            f"Counts of {found.size} bins cannot be compared with a reference of {expected.size}; "
            "count with the reference's edges.",
            bins=found.size,
            expected=expected.size,
        )
    if not expected.sum() or not found.sum():
        raise InputError("Drift of no rows has no value; ask for it when there are rows.")
    p = np.maximum(expected / expected.sum(), PSI_FLOOR)
    q = np.maximum(found / found.sum(), PSI_FLOOR)
    return float(np.sum((q - p) * np.log(q / p)))


def _edges(ordered: FloatArray, bins: int) -> FloatArray:
    """The distinct quantiles; one that repeats becomes the two sides of a bin of its own."""
    if not len(ordered):
        return np.empty(0)
    # ceil(k * n / bins) values are at or below the k-th quantile: a value that occurs, no mean.
    places = -(-np.arange(1, bins) * len(ordered) // bins) - 1
    quantiles, times = np.unique(ordered[places], return_counts=True)
    fills = (times > 1) | (ordered[0] == ordered[-1])
    filled = quantiles[fills]
    with np.errstate(over="ignore"):  # a side beyond float64 has nothing past it and is dropped
        around = TIE * np.maximum(np.abs(filled), ordered[-1] - ordered[0])
        below = np.minimum(filled - around, np.nextafter(filled, -np.inf))
        edges = np.unique(np.concatenate([quantiles[~fills], below, filled + around]))
    finite: FloatArray = edges[np.isfinite(edges)]
    return finite
