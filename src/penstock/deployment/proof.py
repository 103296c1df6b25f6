"""Proof that an engine answers like the native model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TOLERANCE", "Predictor", "Proof", "compare", "prediction_bounds", "prove"]

TOLERANCE = 1e-4  # absolute for a probability, relative for a value above 1
THRESHOLD = 0.5
ROUNDING = 1e-9


class Predictor(Protocol):
    """Anything that predicts rows."""

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """``float64[n, features]`` to ``float64[n]``."""
        ...


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison of two engines found.

    Attributes:
        rows: Rows compared.
        off: Rows whose predictions differ by more than ``TOLERANCE``.
        flips: Rows that fall on another side of 0.5; 0 for a regression.
        max_difference: Greatest difference.
        real: How many of the rows that differ or flip are real ones.
    """

    rows: int
    off: int
    flips: int
    max_difference: float
    real: int = 0

    @property
    def holds(self) -> bool:
        """Whether every row agrees."""
        return self.off == 0 and self.flips == 0

    @property
    def text(self) -> str:
        """The finding in words."""
        if self.holds:
            return f"equal on {self.rows} rows, greatest difference {self.max_difference:.1e}"
        return (
            f"{self.off} of {self.rows} rows differ by more than {TOLERANCE:g} "
            f"(by up to {self.max_difference:.1e}), {self.flips} fall on the other side of 0.5, "
            f"{self.real} of them real rows"
        )


def prediction_bounds(*, classification: bool) -> tuple[float, float]:
    """The least and the greatest prediction that a model may give; both are finite.

    For a probability they are 0 and 1 with as much to spare as an engine may differ by: one that
    adds up the leaves of some hundred trees in float32 gives 1.00001 for 1.

    Args:
        classification: Whether predictions are probabilities.
    """
    if classification:
        return -TOLERANCE, 1.0 + TOLERANCE
    return -sys.float_info.max, sys.float_info.max


def prove(
    native: Predictor,
    engine: Predictor,
    x: NDArray[np.float64],
    *,
    classification: bool,
    real: int | None = None,
) -> Proof:
    """Compare two predictors row by row.

    Args:
        native: The one that is right.
        engine: The one to prove.
        x: ``float64[n, features]``.
        classification: Whether predictions are probabilities.
        real: How many of the rows, the first ones, are real; all when left out.
    """
    return compare(native.predict(x), engine.predict(x), classification=classification, real=real)


def compare(
    right: NDArray[np.float64],
    got: NDArray[np.float64],
    *,
    classification: bool,
    real: int | None = None,
) -> Proof:
    """Compare predictions; see ``prove``.

    A row's flip counts where the difference is more than rounding: a probability of exactly one
    half falls to either side with the order of a sum.
    """
    difference = np.abs(right - got)
    difference[np.isnan(difference)] = np.inf
    difference[right == got] = 0.0  # infinite ones
    bound = np.full(len(right), TOLERANCE)
    if not classification:
        bound *= np.maximum(1.0, np.abs(right))
    flips = np.zeros(len(right), dtype=bool)
    if classification:
        flips = ((right >= THRESHOLD) != (got >= THRESHOLD)) & (difference > ROUNDING)
    off = difference > bound
    return Proof(
        rows=len(right),
        off=int(off.sum()),
        flips=int(flips.sum()),
        max_difference=float(difference.max(initial=0.0)),
        real=int((off | flips)[:real].sum()),
    )
