"""Rows that are harder than real ones, to prove engines on.

What a model can meet decides what counts. Every column goes to a thousand times what was seen of
it: past that, an answer is no longer one of the model's. Times in seconds and ids near 1e12 are
tried where a column is of whole numbers or has been seen above a million, since float32 tells
neighbours apart only below 1.7e7; a share or a price never gets there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import PenstockError

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from .proof import Predictor

    Floats = NDArray[np.float64]

__all__ = ["adversarial_rows", "legal_rows", "probes"]

MIXED_ROWS = 256
FAR = (10.0, 1000.0)
LARGE_SEEN = 1e6
LARGE = (1.7e9, 1e12)
LARGE_SPREAD = 1_000_000
LARGE_ROWS = 64
MOST_CATEGORIES = 64
MOST_ALONE = 64
SEED = 20_261_120


def probes(x: Floats, whole: Collection[int] = ()) -> list[Floats]:
    """Groups of rows made of real ones; a model may refuse some groups, such as those with nulls.

    Args:
        x: ``float64[n, features]`` of real rows, at least one.
        whole: Columns whose type is of whole numbers.
    """
    rng = np.random.default_rng(SEED)
    made = adversarial_rows(x)
    null = np.isnan(made).any(axis=1)
    base = _base(x)
    found = [made[~null], made[null], _far(x, base), _large(x, whole, rng)]
    found += [_categories(x, base), _unseen(x, base), _alone(base, [np.inf, -np.inf])]
    return [rows for rows in found if len(rows)]


def adversarial_rows(x: Floats) -> Floats:
    """Rows of the magnitudes that the real ones have.

    Each feature alone at its smallest and greatest value and at null, all at null, each column
    shuffled by itself, and values just beside real ones.

    Args:
        x: ``float64[n, features]`` of real rows, at least one.
    """
    rng = np.random.default_rng(SEED)
    width = x.shape[1]
    filled = np.where(np.isfinite(x), x, 0.0)
    base = _base(x)
    single = np.repeat(base[None, :], 3 * width, axis=0)
    for column in range(width):
        spread = (filled[:, column].min(), filled[:, column].max(), np.nan)
        single[3 * column : 3 * column + 3, column] = spread
    picks = rng.integers(0, len(x), size=(MIXED_ROWS, width))
    mixed = x[picks, np.arange(width)]
    beside = x[rng.integers(0, len(x), MIXED_ROWS)]
    beside = beside * (1 + rng.uniform(-1e-6, 1e-6, beside.shape))
    return np.concatenate([single, np.full((1, width), np.nan), mixed, beside])


def legal_rows(native: Predictor, groups: list[Floats]) -> Floats:
    """The rows that the native model answers: where it fails, there is nothing to be equal to.

    Args:
        native: The model.
        groups: Groups of rows. Of a group that it refuses, up to 64 rows are tried alone.
    """
    kept: list[Floats] = []
    for rows in groups:
        if _answers(native, rows).all():
            kept.append(rows)
            continue
        picked = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_ALONE)).astype(int)]
        answered = [_answers(native, picked[place : place + 1])[0] for place in range(len(picked))]
        kept.append(picked[np.array(answered)])
    return np.concatenate(kept)


def _answers(native: Predictor, rows: Floats) -> NDArray[np.bool_]:
    """Which of the rows have a finite prediction; none of them when it fails."""
    # A library refuses what it does not take by errors of any kind, and warns of what it overflows.
    try:
        with np.errstate(all="ignore"):
            return np.isfinite(native.predict(rows))
    except (ValueError, TypeError, ArithmeticError, RuntimeError, PenstockError):
        return np.zeros(len(rows), dtype=bool)


def _base(x: Floats) -> Floats:
    """A row in the middle."""
    return np.asarray(np.median(np.where(np.isfinite(x), x, 0.0), axis=0))


def _greatest(x: Floats) -> Floats:
    """Greatest magnitude of each column."""
    return np.asarray(np.abs(np.where(np.isfinite(x), x, 0.0)).max(axis=0))


def _alone(base: Floats, values: list[float]) -> Floats:
    """Rows in which one column alone has each of the values."""
    return np.concatenate([_with(base, column, values) for column in range(len(base))])


def _with(base: Floats, column: int, values: list[float] | Floats) -> Floats:
    rows = np.repeat(base[None, :], len(values), axis=0)
    rows[:, column] = values
    return rows


def _far(x: Floats, base: Floats) -> Floats:
    """Every column alone far above and below what was seen of it, in the middle row."""
    greatest = np.maximum(_greatest(x), 1.0)
    steps = [sign * by for by in FAR for sign in (1.0, -1.0)]
    return np.concatenate(
        [_with(base, place, [step * most for step in steps]) for place, most in enumerate(greatest)]
    )


def _large(x: Floats, whole: Collection[int], rng: np.random.Generator) -> Floats:
    """Real rows with whole numbers near seconds since 1970 and near 1e12 where those can be."""
    greatest = _greatest(x)
    columns = [place for place in range(len(greatest))
               if place in whole or greatest[place] >= LARGE_SEEN]  # fmt: skip
    made: list[Floats] = []
    for column in columns:
        for centre in LARGE:
            rows = x[rng.integers(0, len(x), LARGE_ROWS)].copy()
            rows[:, column] = centre + rng.integers(-LARGE_SPREAD, LARGE_SPREAD, len(rows))
            made.append(rows)
    return np.concatenate(made) if made else x[:0]


def _categories(x: Floats, base: Floats) -> Floats:
    """Every value of columns with few whole numbers, in the middle row and in a real one."""
    rows = [_with(one, place, seen) for place, seen in _coded(x) for one in (base, x[0])]
    return np.concatenate(rows) if rows else x[:0]


def _unseen(x: Floats, base: Floats) -> Floats:
    """Codes that were never seen: beside and among the others."""
    rows: list[Floats] = []
    for place, seen in _coded(x):
        around = {seen.min() - 1, seen.max() + 1, seen.max() + 1000, *(seen + 1)} - {*seen.tolist()}
        rows.append(_with(base, place, sorted(around)))
    return np.concatenate(rows) if rows else x[:0]


def _coded(x: Floats) -> list[tuple[int, Floats]]:
    """Columns that may be codes of categories, with the values seen."""
    found: list[tuple[int, Floats]] = []
    for place in range(x.shape[1]):
        seen = np.unique(x[np.isfinite(x[:, place]), place])
        if 0 < len(seen) <= MOST_CATEGORIES and (seen == np.round(seen)).all():
            found.append((place, seen))
    return found
