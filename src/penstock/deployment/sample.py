"""The sample in a package: real rows, and what the model predicted for them when trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.errors import StateError
from penstock.registry import read_sample

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.records import Manifest

__all__ = ["sample_rows"]


def sample_rows(
    folder: Path, manifest: Manifest
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sample in a package.

    Returns:
        ``float64[n, features]`` with NaN for null, and ``float64[n]``, what the native model
        predicted for them when it was trained.

    Raises:
        StateError: The file is missing, altered, or has no rows.
    """
    frame = read_sample(folder, manifest)
    if not len(frame):
        raise StateError(
            f"The sample of {manifest.model}@{manifest.version} has no rows to compare. "
            f"Train the model again: 'penstock train {manifest.model}'.",
            path=str(folder),
        )
    x = frame.select(manifest.features).cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.ascontiguousarray(x), frame["prediction"].cast(pl.Float64).to_numpy()
