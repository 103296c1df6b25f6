"""Packaging: the engine that serves a version is chosen, proved and stored with it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import NotReadyError
from penstock.ports import Audit, Put, Task
from penstock.records import EngineChoice, ModelVersion
from penstock.registry import file_sha256, read_manifest, write_manifest

from .choose import Choice, choose_engine

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import Manifest

__all__ = ["package"]

PROVE = "penstock.deployment.worker:prove_engine"


def package(services: Services, version: ModelVersion, *, in_worker: bool = False) -> ModelVersion:
    """Choose and prove what serves a version.

    ONNX in float32 and float64 and compiled trees, where the model has such forms, are compared
    with the native model on the package's sample of test rows and on harder ones. The fastest at
    one row of those that are equal on all serves, the fastest at 64 rows beside it where that is
    another; where none is equal the native model does. What was found and how long each takes is
    kept. A version that has been packaged is returned as it is, so a killed packaging is simply run
    again.

    Args:
        services: Artifacts, metadata and a scratch folder; the executor for ``in_worker``.
        version: The version; its package is on disk.
        in_worker: Whether a worker process chooses and proves: after a training these have loaded
            the libraries that it takes, and this process never needs to.

    Returns:
        The version with its new package, engine and reason, as stored.

    Raises:
        NotReadyError: It has no package.
        StateError: The package is damaged.
        ConflictError: The version changed meanwhile.
        UnavailableError: The worker process died.
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
    made = _ask_worker(services, folder) if in_worker else choose_engine(folder, manifest)
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


def _ask_worker(services: Services, folder: Path) -> Choice:
    services.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=services.scratch) as scratch:
        arguments = {"package": str(folder), "into": scratch}
        ((_, found),) = services.executor.run([Task(function=PROVE, arguments=arguments)])
        files = {path.name: path.read_bytes() for path in Path(scratch).iterdir()}
        return Choice(msgspec.convert(found, EngineChoice), files)


def _store(services: Services, folder: Path, manifest: Manifest, made: Choice) -> str:
    """Keep a copy of the package with the engines in it; returns its reference."""
    services.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=services.scratch) as scratch:
        copy = Path(scratch) / "package"
        shutil.copytree(folder, copy)
        files = dict(manifest.files)
        for name, content in made.files.items():
            (copy / name).write_bytes(content)
            files[name] = file_sha256(copy / name)
        write_manifest(copy, msgspec.structs.replace(manifest, files=files, engine=made.choice))
        return services.artifacts.put(copy)
