"""Linear models as arrays: a sum of coefficients, in one layout, which holds data and no code."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.errors import NotSupportedError, StateError

from .forest import pack_fields, parts_of, preparation

if TYPE_CHECKING:
    from penstock.records import Manifest

__all__ = ["Linear", "pack_linear", "read_linear", "unpack_linear"]

Floats = NDArray[np.float64]


class Linear(msgspec.Struct, frozen=True, kw_only=True):
    """A sum, and what stands before it. Arrays are ``float64[features]``.

    Attributes:
        fill: What stands in for a missing value; NaN for nothing.
        mean: Taken from each value that was there or filled.
        scale: By which that is divided.
        coefficients: By which that is multiplied.
        intercept: Added to the sum.
    """

    fill: Floats
    mean: Floats
    scale: Floats
    coefficients: Floats
    intercept: float

    def prepared(self, x: Floats) -> Floats:
        """The values of rows as they are multiplied.

        Args:
            x: ``float64[n, features]``, NaN for null.
        """
        return (np.where(np.isnan(x), self.fill, x) - self.mean) / self.scale


def read_linear(estimator: object, manifest: Manifest) -> Linear:
    """The sum of a fitted estimator, or of a pipeline that fills and scales before it.

    Args:
        estimator: The estimator.
        manifest: Says what its features are.

    Raises:
        NotSupportedError: It is no single sum of coefficients, or other steps stand before it.
    """
    steps, final = parts_of(estimator)
    coefficients, intercept = numbers_of(final, "coef_"), numbers_of(final, "intercept_")
    width = len(manifest.features)
    if len(coefficients) != width or len(intercept) != 1:
        raise NotSupportedError("it has no single sum of coefficients, one for each feature")
    fill, mean, scale = preparation(steps, width)
    return Linear(
        fill=fill,
        mean=mean,
        scale=scale,
        coefficients=coefficients,
        intercept=float(intercept[0]),
    )


def numbers_of(final: object, name: str) -> Floats:
    """An attribute of an estimator as a plain array; empty where there is none of numbers."""
    try:
        return np.asarray(getattr(final, name, ()), dtype=np.float64).ravel()
    except (TypeError, ValueError, AttributeError):
        return np.zeros(0)


def pack_linear(linear: Linear) -> bytes:
    """The sum as the bytes of a file."""
    return pack_fields(linear)


def unpack_linear(content: bytes) -> Linear:
    """The sum that ``pack_linear`` made bytes of.

    Raises:
        StateError: These bytes hold none.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            fields = {name: file[name] for name in Linear.__struct_fields__}
        return Linear(**{**fields, "intercept": fields["intercept"].item()})
    except Exception as error:
        # A file of any content: what reads it raises anything.
        raise StateError(
            f"The coefficients of this package cannot be read: {error}. Package the version again."
        ) from error
