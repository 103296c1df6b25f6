"""Contributions to any prediction, estimated: features change sides one by one, at random."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penstock.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SampledExplainer"]

Floats = NDArray[np.float64]

EVALUATIONS = 50_000
LEAST_ROUNDS = 8
FEWEST, MOST = 4, 64
CHUNK_ROWS = 4_096


class SampledExplainer:
    """Explains rows beside a background: Shapley values of the prediction, with standard errors.

    A round takes every row of the background through a random order of the features and through
    the reverse of it. So whatever the number of rounds, the estimates sum to the prediction less
    the base, and a feature that the model ignores gets 0.

    Args:
        predict: Computes predictions of rows.
        background: ``float64[m, features]``, NaN for null.
        seed: Of the orders: the same row is explained the same again, where there is time for it.
        seconds: After these no further round begins, but the first two always are.

    Attributes:
        base: Mean prediction of the background.
    """

    def __init__(
        self,
        predict: Callable[[Floats], Floats],
        background: Floats,
        *,
        seed: int,
        seconds: float,
    ) -> None:
        width = background.shape[1]
        rows = EVALUATIONS // (2 * LEAST_ROUNDS * (width + 1))
        self._background = background[: min(max(rows, FEWEST), MOST)]
        self._rounds = max(LEAST_ROUNDS, EVALUATIONS // (2 * len(self._background) * (width + 1)))
        self._predict = predict
        self._seed = seed
        self._seconds = seconds
        self.base = float(self.output(self._background).mean())

    @property
    def background_rows(self) -> int:
        """How many rows of the background count."""
        return len(self._background)

    def output(self, x: Floats) -> Floats:
        """The prediction of each row.

        Args:
            x: ``float64[n, features]``.

        Raises:
            InputError: One of them has none.
        """
        parts = [
            self._predict(x[start : start + CHUNK_ROWS]) for start in range(0, len(x), CHUNK_ROWS)
        ]
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise InputError(
                "The model has no finite prediction for this row, or for it with some values "
                "taken from other rows, so there is nothing to explain."
            )
        return found

    def contributions(self, x: Floats) -> tuple[Floats, Floats]:
        """What each feature of one row adds to the base, and the standard error of that.

        Args:
            x: ``float64[features]``.

        Raises:
            InputError: The model has no prediction for the row with values of others.
        """
        rng = np.random.default_rng(self._seed)
        began_s = time.monotonic()
        rounds: list[Floats] = []
        for number in range(self._rounds):
            if number > 1 and time.monotonic() - began_s > self._seconds:
                break
            rounds.append(self._round(x, rng))
        found = np.array(rounds)
        return found.mean(axis=0), found.std(axis=0, ddof=1) / math.sqrt(len(found))

    def _round(self, x: Floats, rng: np.random.Generator) -> Floats:
        """One estimate: every row of the background in an order and its reverse."""
        count, width = self._background.shape
        rank = rng.permuted(np.tile(np.arange(width), (count, 1)), axis=1)
        rank = np.concatenate([rank, width - 1 - rank])
        start = np.concatenate([self._background, self._background])
        # [order, step, feature]: after k steps, the k first features of the order are x's.
        changed = rank[:, None, :] < np.arange(width + 1)[None, :, None]
        rows = np.where(changed, x, start[:, None, :])
        predictions = self.output(rows.reshape(-1, width)).reshape(2 * count, width + 1)
        gains = np.diff(predictions, axis=1)
        found: Floats = np.take_along_axis(gains, rank, axis=1).mean(axis=0)
        return found
