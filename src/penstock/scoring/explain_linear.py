"""Contributions to the sum of a linear model, exactly: coefficients times ways from the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.deployment import numbers_of, parts_of
from penstock.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.deployment import Linear

__all__ = ["LinearExplainer", "explainer_of_arrays", "explainer_of_estimator"]

Floats = NDArray[np.float64]
Prepare: TypeAlias = "Callable[[Floats], Floats]"


class LinearExplainer:
    """Explains rows beside a background: exact Shapley values of the sum before any link.

    Args:
        prepare: Makes of rows what is multiplied, column by column.
        coefficients: ``float64[features]``, by which.
        intercept: Added to the sum.
        background: ``float64[m, features]``, NaN for null.

    Attributes:
        base: Mean of the background's sums.

    Raises:
        NotSupportedError: What prepares the background leaves out values.
    """

    def __init__(
        self, prepare: Prepare, coefficients: Floats, intercept: float, background: Floats
    ) -> None:
        self._prepare = prepare
        self._coefficients = coefficients
        self._intercept = intercept
        prepared = prepare(background)
        if prepared.shape != background.shape or not np.isfinite(prepared).all():
            raise NotSupportedError("what stands before it adds, drops or leaves out values")
        self._mean: Floats = prepared.mean(axis=0)
        self.base = float(self._mean @ self._coefficients) + self._intercept
        self.background_rows = len(background)

    def output(self, x: Floats) -> Floats:
        """The sum of each row.

        Args:
            x: ``float64[n, features]``.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # the caller looks whether it is finite
            found: Floats = self._prepare(x) @ self._coefficients + self._intercept
        return found

    def contributions(self, x: Floats) -> tuple[Floats, Floats]:
        """What each feature of one row adds to the base, and the error of that, which is 0.

        Args:
            x: ``float64[features]``.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            found: Floats = self._coefficients * (self._prepare(x[None, :])[0] - self._mean)
        return found, np.zeros(len(found))


def explainer_of_estimator(estimator: object, background: Floats) -> LinearExplainer:
    """What explains a fitted estimator, or a pipeline that prepares column by column.

    Args:
        estimator: See above.
        background: See ``LinearExplainer``.

    Raises:
        NotSupportedError: It is not linear in its features.
    """
    steps, final = parts_of(estimator)
    coefficients, intercept = numbers_of(final, "coef_"), numbers_of(final, "intercept_")
    if len(coefficients) != background.shape[1] or len(intercept) != 1:
        raise NotSupportedError("it has no single sum of coefficients, one for each feature")

    def prepare(x: Floats) -> Floats:
        for step in steps:
            x = step.transform(x)
        return np.asarray(x, dtype=np.float64)

    return LinearExplainer(prepare, coefficients, float(intercept[0]), background)


def explainer_of_arrays(linear: Linear, background: Floats) -> LinearExplainer:
    """What explains a linear model that is there as arrays.

    Args:
        linear: The model.
        background: See ``LinearExplainer``.

    Raises:
        NotSupportedError: A value of the background is null that it does not fill.
    """
    return LinearExplainer(linear.prepared, linear.coefficients, linear.intercept, background)
