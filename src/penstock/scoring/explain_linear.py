"""Contributions to the sum of a linear model, exactly: coefficients times ways from the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penstock.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LinearExplainer"]

Floats = NDArray[np.float64]


class LinearExplainer:
    """Explains rows beside a background: exact Shapley values of the sum before any link.

    Args:
        estimator: The fitted estimator, or a pipeline that fills and scales column by column.
        background: ``float64[m, features]``, NaN for null.

    Attributes:
        base: Mean of the background's sums.

    Raises:
        NotSupportedError: It is not linear in its features.
    """

    def __init__(self, estimator: object, background: Floats) -> None:
        self._steps, final = _parts(estimator)
        self._coefficients = _numbers(final, "coef_")
        intercept = _numbers(final, "intercept_")
        width = background.shape[1]
        if len(self._coefficients) != width or len(intercept) != 1:
            raise NotSupportedError("it has no single sum of coefficients, one for each feature")
        prepared = self._prepared(background)
        if prepared.shape[1] != width or not np.isfinite(prepared).all():
            raise NotSupportedError("what stands before it adds, drops or leaves out values")
        self._intercept = float(intercept[0])
        self._mean: Floats = prepared.mean(axis=0)
        self.base = float(self._mean @ self._coefficients) + self._intercept
        self.background_rows = len(background)

    def output(self, x: Floats) -> Floats:
        """The sum of each row.

        Args:
            x: ``float64[n, features]``.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # the caller looks whether it is finite
            found: Floats = self._prepared(x) @ self._coefficients + self._intercept
        return found

    def contributions(self, x: Floats) -> tuple[Floats, Floats]:
        """What each feature of one row adds to the base, and the error of that, which is 0.

        Args:
            x: ``float64[features]``.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            found: Floats = self._coefficients * (self._prepared(x[None, :])[0] - self._mean)
        return found, np.zeros(len(found))

    def _prepared(self, x: Floats) -> Floats:
        for step in self._steps:
            x = step.transform(x)
        return np.asarray(x, dtype=np.float64)


def _parts(estimator: Any) -> tuple[Sequence[Any], object]:  # noqa: ANN401 - models have no common type
    named = getattr(estimator, "steps", None)
    if named is None:
        return (), estimator
    return [step for _, step in named[:-1] if step != "passthrough"], named[-1][1]


def _numbers(final: object, name: str) -> Floats:
    """An attribute as a plain array; empty where there is none of numbers."""
    try:
        return np.asarray(getattr(final, name, ()), dtype=np.float64).ravel()
    except (TypeError, ValueError, AttributeError):
        return np.zeros(0)
