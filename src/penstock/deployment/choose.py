"""Which engine serves a version: ONNX where it proves equal, the native model otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

from penstock.errors import NotSupportedError, PenstockError, StateError
from penstock.records import EngineChoice
from penstock.registry import load_native, read_sample

from .convert import to_onnx
from .engine import OnnxEngine
from .proof import adversarial_rows, prove, time_one_row_us

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.records import Manifest
    from penstock.registry import NativeModel

__all__ = ["Choice", "choose_engine", "sample_rows"]


class Choice(msgspec.Struct, frozen=True):
    """An engine that was chosen.

    Attributes:
        choice: Which, why, and how it compares.
        model: The ONNX model; none where the native model serves.
    """

    choice: EngineChoice
    model: bytes | None


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


def choose_engine(folder: Path, manifest: Manifest) -> Choice:
    """Convert the model of a package and compare it with the native one; see ``package``.

    Args:
        folder: The package.
        manifest: Its manifest.

    Raises:
        StateError: The package is damaged.
        NotSupportedError: The native model needs a library that is not installed.
    """
    native = load_native(folder, manifest)
    sample, _ = sample_rows(folder, manifest)
    native_us = time_one_row_us(native, sample[:1])
    try:
        converted = to_onnx(native.estimator, manifest)
        engine = OnnxEngine(converted.model, converted.dtype)
    except (NotSupportedError, StateError) as error:
        return _native(str(error), native_us)
    x = np.concatenate([sample, _legal(native, adversarial_rows(sample))])
    proof = prove(native, engine, x, classification=manifest.task == "classification")
    if not proof.holds:
        return _native(
            f"ONNX is not equal: {proof.text}", native_us, proof.max_difference, proof.rows
        )
    choice = EngineChoice(
        engine="onnx",
        dtype=converted.dtype,
        reason=f"ONNX in {converted.dtype} is {proof.text}",
        rows=proof.rows,
        max_difference=proof.max_difference,
        native_us=native_us,
        engine_us=time_one_row_us(engine, sample[:1]),
    )
    return Choice(choice, converted.model)


def _native(reason: str, native_us: float, difference: float = 0.0, rows: int = 0) -> Choice:
    choice = EngineChoice(
        engine="native",
        dtype="float64",
        reason=reason,
        rows=rows,
        max_difference=difference if np.isfinite(difference) else -1.0,
        native_us=native_us,
        engine_us=native_us,
    )
    return Choice(choice, None)


def _legal(native: NativeModel, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows that the model takes: those with nulls only where it takes nulls."""
    null = np.isnan(rows).any(axis=1)
    try:
        native.predict(rows[null])
    except (ValueError, PenstockError):
        return rows[~null]
    return rows
