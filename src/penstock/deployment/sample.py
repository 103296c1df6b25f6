"""The sample in a package: real rows, and what the model predicted for them when trained.

Packaging keeps it as arrays beside the table: whoever only compares predictions, as a serving
process does with each version that it loads, takes no library of tables for it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.errors import StateError
from penstock.registry import check_file, read_sample

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.records import Manifest

    Floats = NDArray[np.float64]

__all__ = ["ARRAYS_FILE", "pack_sample", "sample_rows"]

ARRAYS_FILE = "sample.npz"


def sample_rows(folder: Path, manifest: Manifest) -> tuple[Floats, Floats]:
    """The sample in a package.

    Returns:
        ``float64[n, features]`` with NaN for null, and ``float64[n]``, what the native model
        predicted for them when it was trained.

    Raises:
        StateError: The file is missing, altered, or has no rows.
    """
    is_packed = ARRAYS_FILE in manifest.files
    x, predicted = _unpack(folder, manifest) if is_packed else _from_table(folder, manifest)
    if not len(x):
        raise StateError(
            f"The sample of {manifest.model}@{manifest.version} has no rows to compare. "
            f"Train the model again: 'penstock train {manifest.model}'.",
            path=str(folder),
        )
    return x, predicted


def pack_sample(x: Floats, predicted: Floats) -> bytes:
    """The sample as ``ARRAYS_FILE`` holds it.

    Args:
        x: What ``sample_rows`` gives.
        predicted: What ``sample_rows`` gives.
    """
    file = io.BytesIO()
    np.savez(file, x=x, predicted=predicted)
    return file.getvalue()


def _unpack(folder: Path, manifest: Manifest) -> tuple[Floats, Floats]:
    with np.load(check_file(folder, manifest, ARRAYS_FILE), allow_pickle=False) as held:
        return held["x"], held["predicted"]


def _from_table(folder: Path, manifest: Manifest) -> tuple[Floats, Floats]:
    frame = read_sample(folder, manifest)
    x = frame.select(manifest.features).cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.ascontiguousarray(x), frame["prediction"].cast(pl.Float64).to_numpy()
