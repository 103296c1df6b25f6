"""What is checked of a version before it takes traffic: its package here, the rest by the probe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import PenstockError
from penstock.records import DeployCheck
from penstock.registry import NATIVE_FILES, check_file, installed, read_manifest
from penstock.spec import Checks

from .checks import check_features
from .loading import ENGINE_FILES
from .probe import Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.plan import Catalogue
    from penstock.ports import Services
    from penstock.records import Manifest, ModelVersion
    from penstock.spec import Deployment

__all__ = ["verify"]

WAIT_S = 300.0
FORMATS = frozenset(
    {".parquet", ".json", ".safetensors"}
    | {Path(name).suffix for name in (*NATIVE_FILES.values(), *ENGINE_FILES.values())}
)
KEPT = 400
FOUND = msgspec.json.Decoder(tuple[DeployCheck, ...])


def verify(
    services: Services, catalogue: Catalogue, declared: Deployment, version: ModelVersion
) -> tuple[DeployCheck, ...]:
    """Check a packaged version: files, formats, environment, declarations, then the unit checks.

    Nothing here raises for a version that does not hold: each check says so. Unit checks are not
    made of a package that does not hold.

    Args:
        services: The ports; uses artifacts.
        catalogue: What is applied now.
        declared: The deployment.
        version: The version, packaged.
    """
    folder = services.artifacts.path(version.package)
    found = list(_package(catalogue, declared, version, folder))
    if all(check.passed for check in found):
        checks = declared.checks or Checks()
        found += _probed(Question(package=str(folder), home=str(services.home), checks=checks))
    return tuple(found)


def _package(
    catalogue: Catalogue, declared: Deployment, version: ModelVersion, folder: Path
) -> Iterator[DeployCheck]:
    try:
        manifest = read_manifest(folder)
    except PenstockError as error:
        yield _check("manifest", error.message, passed=False)
        return
    named = f"{manifest.model}@{manifest.version}"
    yield _check(
        "manifest",
        named if named == version.label else f"it is of {named}; expected {version.label}",
        passed=named == version.label,
    )
    yield _files(folder, manifest)
    yield _formats(folder, manifest)
    yield _environment(manifest)
    try:
        check_features(catalogue, declared.model, manifest)
    except PenstockError as error:
        yield _check("features", error.message, passed=False)
    else:
        yield _check("features", f"{len(manifest.features)} as they are applied", passed=True)


def _check(name: str, reason: str, *, passed: bool) -> DeployCheck:
    return DeployCheck(kind="package", name=name, passed=passed, reason=reason)


def _files(folder: Path, manifest: Manifest) -> DeployCheck:
    try:
        for name in manifest.files:
            check_file(folder, manifest, name)
    except PenstockError as error:
        return _check("files", error.message, passed=False)
    return _check("files", f"{len(manifest.files)} with the hashes of the manifest", passed=True)


def _formats(folder: Path, manifest: Manifest) -> DeployCheck:
    """Nothing but own formats: a file that is not among them may hold code."""
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    foreign = sorted(
        name for name in present | set(manifest.files) if Path(name).suffix not in FORMATS
    )
    unlisted = sorted(present - set(manifest.files) - {"manifest.json"} - set(foreign))
    if foreign:
        reason = f"{', '.join(foreign)} is in no format of a package; it may hold code"
    elif unlisted:
        reason = f"{', '.join(unlisted)} is not in the manifest"
    else:
        reason = ", ".join(sorted(manifest.files))
    return _check("formats", reason, passed=not foreign and not unlisted)


def _environment(manifest: Manifest) -> DeployCheck:
    """Libraries that are gone; another version of one is told, and the sample proves the rest."""
    now = installed(manifest.dependencies)
    gone = [name for name in manifest.dependencies if name not in now]
    other = [
        f"{name} {version} -> {now[name]}"
        for name, version in sorted(manifest.dependencies.items())
        if name in now and now[name] != version
    ]
    if gone:
        reason = f"{', '.join(gone)} is not installed; run pip install {' '.join(gone)}"
    else:
        reason = f"other than in training: {', '.join(other)}" if other else "as in training"
    return _check("environment", reason, passed=not gone)


def _probed(question: Question) -> tuple[DeployCheck, ...]:
    command = [sys.executable, "-m", "penstock.deployment.probe"]
    # Modules of ours are found there as they are here, however this process was started.
    path = os.pathsep.join(str(part) for part in sys.path if part)
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, with a module of ours
            command,
            input=msgspec.json.encode(question),
            capture_output=True,
            timeout=WAIT_S,
            check=False,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired:
        reason = f"it did not load and predict within {WAIT_S:g} s"
        return (DeployCheck(kind="unit", name="loads", passed=False, reason=reason),)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-KEPT:]
        reason = f"its process ended with {done.returncode}: {said or 'nothing was said'}"
        return (DeployCheck(kind="unit", name="loads", passed=False, reason=reason),)
    return FOUND.decode(done.stdout)
