"""What has to hold before a version may take traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import ConflictError, GateError, NotReadyError, StateError, nearest
from penstock.registry import read_manifest
from penstock.spec import key_of

from .loading import load_engine
from .proof import TOLERANCE
from .sample import sample_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.plan import Catalogue
    from penstock.ports import Artifacts
    from penstock.records import Manifest, ModelVersion
    from penstock.spec import Model

    from .engine import Engine

    Floats = NDArray[np.float64]

__all__ = ["check_engine", "check_features", "check_gates", "check_version"]


def check_version(
    artifacts: Artifacts, catalogue: Catalogue, model: Model, version: ModelVersion
) -> Manifest:
    """Check everything that can be checked before a serving process loads the version.

    Args:
        artifacts: Where packages are kept.
        catalogue: What is applied now.
        model: The model's declaration.
        version: The version, packaged.

    Raises:
        GateError: It is not ready: not selected, or a gate refused it.
        NotReadyError: It has not been packaged.
        ConflictError: The declarations changed since it was trained.
        StateError: Its files are damaged, or do not predict what they predicted.
    """
    check_gates(version)
    if not version.engine:
        raise NotReadyError(
            f"{version.label} has not been packaged. Run 'penstock deploy' on its deployment.",
            version=version.label,
        )
    folder = artifacts.path(version.package)
    manifest = read_manifest(folder)
    if (manifest.model, manifest.version) != (version.model, version.version):
        raise StateError(
            f"The package of {version.label} holds {manifest.model}@{manifest.version}. "
            f"Train the model again: 'penstock train {version.model}'.",
        )
    check_features(catalogue, model, manifest)
    check_engine(load_engine(folder, manifest), folder, manifest)
    return manifest


def check_gates(version: ModelVersion) -> None:
    """Refuse a version that was not chosen or did not pass its gates.

    Raises:
        GateError: Says which gates, with the values.
    """
    if version.ready:
        return
    failed = [verdict.reason for verdict in version.verdicts if not verdict.passed]
    why = "; ".join(failed) if failed else "it was not the best candidate of its training run"
    raise GateError(
        f"{version.label} is not ready to be deployed: {why}. "
        f"'penstock models list {version.model}' shows the versions that are.",
        version=version.label,
        failed=failed,
    )


def check_features(catalogue: Catalogue, model: Model, manifest: Manifest) -> None:
    """Compare the version's entity and features with what is applied now.

    Raises:
        ConflictError: One is gone or means something else; names all of them.
    """
    label = f"{manifest.model}@{manifest.version}"
    faults: list[str] = []
    spine = model.dataset.spine.columns
    for name, dtype in {**manifest.keys, **manifest.request}.items():
        if name not in spine:
            faults.append(f"{name!r}, which it is asked by, is gone. {nearest(name, spine)}")
        elif spine[name].value != dtype:
            faults.append(f"{name!r}, which it is asked by, is now {spine[name].value}")
    applied = {view.name: view for view in model.dataset.views}
    for name, fingerprint in manifest.views.items():
        if name not in applied:
            faults.append(f"feature view {name!r} is gone. {nearest(name, applied)}")
        elif catalogue.fingerprints.get(key_of(applied[name])) != fingerprint:
            faults.append(f"feature view {name!r} has changed since it was trained")
    known = {feature for view in applied.values() for feature in view.names}
    faults += [f"feature {n!r} is gone" for n in manifest.features if n not in known]
    if faults:
        raise ConflictError(
            f"{label} does not fit what is applied: {'; '.join(faults)}. "
            f"Train it again: 'penstock train {manifest.model}'.",
            version=label,
            faults=faults,
        )


def check_engine(engine: Engine, folder: Path, manifest: Manifest) -> None:
    """Let an engine predict the package's sample and compare with what was predicted then.

    Of an engine that chooses among others, each is checked. This also warms them: their first calls
    are their slowest.

    Raises:
        StateError: A prediction differs by more than the proof allows, or is missing.
    """
    x, predicted = sample_rows(folder, manifest)
    for part in engine.parts:
        _check_part(part, manifest, x, predicted)
        for _ in range(3):
            part.predict(x[:1])


def _check_part(engine: Engine, manifest: Manifest, x: Floats, predicted: Floats) -> None:
    got = engine.predict(x)
    bound = np.full(len(got), TOLERANCE)
    if manifest.task == "regression":
        bound *= np.maximum(1.0, np.abs(predicted))
    off = int((~(np.abs(got - predicted) <= bound)).sum())
    if off:
        raise StateError(
            f"{manifest.model}@{manifest.version} ({engine.name}) predicts {off} of {len(got)} "
            "sample rows otherwise than when it was trained: its files or the libraries differ. "
            f"Train it again: 'penstock train {manifest.model}'.",
            off=off,
        )
