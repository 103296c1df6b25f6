"""Proof that an engine answers like the native model, and how long both take."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TOLERANCE", "Proof", "adversarial_rows", "prove", "time_one_row_us"]

TOLERANCE = 1e-4  # absolute for a probability, relative for a value above 1
THRESHOLD = 0.5
CALLS = 20
TIMED_ROUNDS = 7
MIXED_ROWS = 256
SEED = 20_261_120


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
    """

    rows: int
    off: int
    flips: int
    max_difference: float

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
            f"(by up to {self.max_difference:.1e}), {self.flips} fall on the other side of 0.5"
        )


def prove(
    native: Predictor, engine: Predictor, x: NDArray[np.float64], *, classification: bool
) -> Proof:
    """Compare two predictors row by row.

    Args:
        native: The one that is right.
        engine: The one to prove.
        x: ``float64[n, features]``.
        classification: Whether predictions are probabilities.
    """
    right, got = native.predict(x), engine.predict(x)
    difference = np.abs(right - got)
    difference[np.isnan(difference)] = np.inf
    bound = np.full(len(right), TOLERANCE)
    if not classification:
        bound *= np.maximum(1.0, np.abs(right))
    flips = (right >= THRESHOLD) != (got >= THRESHOLD) if classification else np.zeros(1, bool)
    return Proof(
        rows=len(x),
        off=int((difference > bound).sum()),
        flips=int(flips.sum()),
        max_difference=float(difference.max(initial=0.0)),
    )


def adversarial_rows(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows that are harder than real ones, of magnitudes as the real ones have.

    Each feature alone at its smallest and greatest value and at null, all at null, each column
    shuffled by itself, and values just beside real ones.

    Args:
        x: ``float64[n, features]`` of real rows, at least one.
    """
    rng = np.random.default_rng(SEED)
    width = x.shape[1]
    filled = np.where(np.isfinite(x), x, 0.0)
    base = np.median(filled, axis=0)
    single = np.repeat(base[None, :], 3 * width, axis=0)
    for column in range(width):
        spread = (filled[:, column].min(), filled[:, column].max(), np.nan)
        single[3 * column : 3 * column + 3, column] = spread
    picks = rng.integers(0, len(x), size=(MIXED_ROWS, width))
    mixed = x[picks, np.arange(width)]
    beside = x[rng.integers(0, len(x), MIXED_ROWS)]
    beside = beside * (1 + rng.uniform(-1e-6, 1e-6, beside.shape))
    return np.concatenate([single, np.full((1, width), np.nan), mixed, beside])


def time_one_row_us(predictor: Predictor, row: NDArray[np.float64]) -> float:
    """Median time of one row, in microseconds.

    Args:
        predictor: What is timed.
        row: ``float64[1, features]``.
    """
    times: list[float] = []
    predictor.predict(row)
    for _ in range(TIMED_ROUNDS):
        start_s = time.perf_counter()
        for _ in range(CALLS):
            predictor.predict(row)
        times.append((time.perf_counter() - start_s) * 1e6 / CALLS)
    return float(np.median(times))
