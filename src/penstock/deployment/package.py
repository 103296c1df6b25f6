"""Packaging: the engine that serves a version is chosen, proved and stored with it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

from penstock.errors import NotReadyError, NotSupportedError, PenstockError, StateError
from penstock.ports import Audit, Put
from penstock.records import EngineChoice, Manifest, ModelVersion
from penstock.registry import (
    file_sha256,
    load_native,
    read_manifest,
    read_sample,
    write_manifest,
)

from .convert import to_onnx
from .engine import ONNX_FILE, OnnxEngine
from .proof import adversarial_rows, prove, time_one_row_us

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.ports import Clock, Services
    from penstock.registry import NativeModel

__all__ = ["package", "sample_rows"]


class _Choice(msgspec.Struct, frozen=True):
    choice: EngineChoice
    model: bytes | None


def package(services: Services, version: ModelVersion) -> ModelVersion:
    """Choose and prove what serves a version.

    The native model is converted to ONNX and compared with it on the package's sample of test rows
    and on adversarial rows. Equal on all: ONNX serves. Otherwise, or where there is no ONNX form,
    the native model does, and the reason is kept. A version that has been packaged is returned as
    it is, so a killed packaging is simply run again.

    Args:
        services: Artifacts, metadata, the clock and a scratch folder.
        version: The version; its package is on disk.

    Returns:
        The version with its new package, engine and reason, as stored.

    Raises:
        NotReadyError: It has no package.
        StateError: The package is damaged.
        ConflictError: The version changed meanwhile.
    """
    if version.engine:
        return version
    if not version.package:
        raise NotReadyError(
            f"{version.label} has no package: its training did not finish. "
            f"Run 'penstock train {version.model}'.",
            version=version.label,
        )
    folder = services.artifacts.path(version.package)
    manifest = read_manifest(folder)
    made = _choose(folder, manifest, services.clock)
    done = msgspec.structs.replace(
        version,
        package=_store(services, folder, manifest, made),
        engine=made.choice.engine,
        engine_reason=made.choice.reason,
    )
    audit = Audit(
        actor=services.actor,
        action="package",
        subject=version.label,
        difference={"engine": done.engine, "reason": done.engine_reason},
    )
    services.metadata.write(Put(done, expected=version), audit=audit)
    return done


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


def _choose(folder: Path, manifest: Manifest, clock: Clock) -> _Choice:
    native = load_native(folder, manifest)
    sample, _ = sample_rows(folder, manifest)
    native_us = time_one_row_us(native, sample[:1], clock)
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
        engine_us=time_one_row_us(engine, sample[:1], clock),
    )
    return _Choice(choice, converted.model)


def _native(reason: str, native_us: float, difference: float = 0.0, rows: int = 0) -> _Choice:
    choice = EngineChoice(
        engine="native",
        dtype="float64",
        reason=reason,
        rows=rows,
        max_difference=difference if np.isfinite(difference) else -1.0,
        native_us=native_us,
        engine_us=native_us,
    )
    return _Choice(choice, None)


def _legal(native: NativeModel, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows that the model takes: those with nulls only where it takes nulls."""
    null = np.isnan(rows).any(axis=1)
    try:
        native.predict(rows[null])
    except (ValueError, PenstockError):
        return rows[~null]
    return rows


def _store(services: Services, folder: Path, manifest: Manifest, made: _Choice) -> str:
    """Keep a copy of the package with the engine in it; returns its reference."""
    services.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=services.scratch) as scratch:
        copy = Path(scratch) / "package"
        shutil.copytree(folder, copy)
        files = dict(manifest.files)
        if made.model is not None:
            (copy / ONNX_FILE).write_bytes(made.model)
            files[ONNX_FILE] = file_sha256(copy / ONNX_FILE)
        write_manifest(copy, msgspec.structs.replace(manifest, files=files, engine=made.choice))
        return services.artifacts.put(copy)
