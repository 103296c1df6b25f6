"""Registration: every candidate of a training run becomes a model version, all in one transaction.

The packages are made first, as artifacts; then the versions and the audit entry are stored
together, under the model's lock; then the events are announced. A registration that is killed
anywhere and done again finds the run's versions, or none of them, and ends the same. No alias
points to a version yet: what serves it is chosen and proved later, see ``nominate``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import polars as pl

from penstock.errors import InputError
from penstock.ports import Audit, Put, announce
from penstock.records import ColumnBins, Event, GateVerdict, Manifest, ModelVersion, NativeFormat
from penstock.spec import entities_of, fingerprint, request_fields

from .packages import NATIVE_FILES, SAMPLE_FILE, file_sha256, write_manifest
from .provenance import code_of, definitions_of, functions_in, installed
from .versions import versions

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import DatasetSnapshot, EventKind
    from penstock.spec import Model

__all__ = ["Registration", "register"]

LIBRARIES: Mapping[NativeFormat, Sequence[str]] = {
    "skops": [],
    "ubj": ["xgboost-cpu", "xgboost"],
    "lgb": ["lightgbm"],
    "custom": [],
    "graph": ["xgboost-cpu", "xgboost", "lightgbm"],
}
"""Distributions whose versions matter to a format, beside those that always do."""


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """One trained candidate, as it is handed to the registry.

    Attributes:
        candidate: Name of the trainer.
        estimator: ``module:Class``.
        prepare: What stands before it, resolved.
        params: The parameters it was built with.
        native: Format of the native model.
        model_file: The native model.
        metrics: ``validation.<metric>`` and ``test.<metric>``.
        sample: Test rows: the features (Float64), the label and ``prediction``.
        verdicts: What the gates said; empty for candidates that were not selected.
        selected: Whether it was the best of its run.
        ready: Whether it was selected and passed every gate.
        tracking_run: Id of its MLflow run.
    """

    candidate: str
    estimator: str
    prepare: Literal["none", "impute", "scale"]
    params: Mapping[str, object]
    native: NativeFormat
    model_file: Path
    metrics: Mapping[str, float]
    sample: pl.DataFrame
    verdicts: tuple[GateVerdict, ...] = ()
    selected: bool = False
    ready: bool = False
    tracking_run: str = ""


def register(  # noqa: PLR0913 - what the versions are made of
    services: Services,
    model: Model,
    snapshot: DatasetSnapshot,
    candidates: Sequence[Registration],
    *,
    run_id: str,
    bins: Mapping[str, ColumnBins],
) -> list[ModelVersion]:
    """Register the candidates of a training run; the same run again changes nothing.

    Announces ``model.trained`` for the run and ``model.ready`` for the version that is.

    Args:
        services: The project's ports.
        model: The declaration, as it was trained.
        snapshot: What it learned from.
        candidates: The candidates that were trained.
        run_id: The training run.
        bins: Spread of the training rows, per feature.

    Returns:
        The run's versions, in order.

    Raises:
        InputError: There are no candidates.
    """
    if not candidates:
        raise InputError(f"The run {run_id!r} has no trained candidate to register.", run_id=run_id)
    with services.locks.hold(f"registry/{model.name}"):
        known = versions(services.metadata, model.name)
        found = [version for version in known if version.run_id == run_id]
        if not found:
            first = max((version.version for version in known), default=0) + 1
            found = _store(services, model, snapshot, candidates, run_id, bins, first)
    _announce(services, found)
    return found


def _store(  # noqa: PLR0913, PLR0917 - as register
    services: Services,
    model: Model,
    snapshot: DatasetSnapshot,
    candidates: Sequence[Registration],
    run_id: str,
    bins: Mapping[str, ColumnBins],
    first: int,
) -> list[ModelVersion]:
    plain = _plain_manifest(services, model, snapshot, bins)
    made = [
        _version(services, plain, candidate, first + place, run_id, fingerprint(model))
        for place, candidate in enumerate(candidates)
    ]
    changes = [Put(version, expected=None) for version in made]
    difference: dict[str, object] = {"run_id": run_id, "versions": [one.version for one in made]}
    audit = Audit(
        actor=services.actor,
        action="register",
        subject=f"model/{model.name}",
        difference=difference,
    )
    services.metadata.write(*changes, audit=audit)
    return made


def _version(  # noqa: PLR0913, PLR0917 - what one version is made of
    services: Services,
    plain: Manifest,
    candidate: Registration,
    number: int,
    run_id: str,
    model_fingerprint: str,
) -> ModelVersion:
    """Make the package of a candidate, and the record that refers to it."""
    package, manifest = _package(services, plain, candidate, number)
    return ModelVersion(
        model=manifest.model,
        version=number,
        candidate=candidate.candidate,
        run_id=run_id,
        dataset_id=manifest.dataset_id,
        params=candidate.params,
        metrics=candidate.metrics,
        created_at=manifest.created_at,
        fingerprint=model_fingerprint,
        verdicts=candidate.verdicts,
        selected=candidate.selected,
        ready=candidate.ready,
        tracking_run=candidate.tracking_run,
        package=package,
    )


def _package(
    services: Services, plain: Manifest, candidate: Registration, number: int
) -> tuple[str, Manifest]:
    services.scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="package-", dir=services.scratch))
    try:
        native = NATIVE_FILES[candidate.native]
        shutil.copyfile(candidate.model_file, folder / native)
        candidate.sample.write_parquet(folder / SAMPLE_FILE)
        files = {name: file_sha256(folder / name) for name in (native, SAMPLE_FILE)}
        manifest = msgspec.structs.replace(
            plain,
            version=number,
            candidate=candidate.candidate,
            estimator=candidate.estimator,
            prepare=candidate.prepare,
            params=candidate.params,
            native=candidate.native,
            metrics=candidate.metrics,
            files=files,
            dependencies=installed(LIBRARIES[candidate.native]),
        )
        write_manifest(folder, manifest)
        return services.artifacts.put(folder), manifest
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _plain_manifest(
    services: Services, model: Model, snapshot: DatasetSnapshot, bins: Mapping[str, ColumnBins]
) -> Manifest:
    """What the manifests of a run's candidates have in common."""
    dataset = model.dataset
    commit, diff = code_of(services.home)
    names = snapshot.feature_names
    views = [view for view in dataset.views if not set(view.names).isdisjoint(names)]
    keys = {entity.name: entity.dtype.value for entity in entities_of(views)}
    spine = dataset.spine.entity
    # The spine's entity, unless no feature is about it; a model without any is asked by it too.
    first = spine.name if spine.name in keys or not keys else next(iter(keys))
    dtypes = {name: dtype.value for view in views for name, dtype in view.dtypes.items()}
    return Manifest(
        model=model.name,
        version=0,
        task=dataset.task,
        candidate="",
        estimator="",
        prepare="none",
        params={},
        native="skops",
        entity=first,
        entity_dtype=keys.get(first, spine.dtype.value),
        entities=keys if len(keys) > 1 else {},
        request={name: dtype.value for name, dtype in request_fields(views).items()},
        features=names,
        dtypes={name: dtypes[name] for name in names},
        views={view.name: fingerprint(view) for view in views},
        label=dataset.label.name if dataset.label is not None else "",
        dataset_id=snapshot.dataset_id,
        selection_id=dataset.select,
        service=snapshot.service,
        service_id=snapshot.service_id,
        tables=snapshot.tables,
        definitions=definitions_of(model),
        functions=functions_in(model),
        dependencies={},
        commit=commit,
        diff=diff,
        metrics={},
        files={},
        bins=bins,
        created_at=services.clock.now(),
        tags=tuple(model.tags),
        owner=model.owner,
    )


def _announce(services: Services, found: Sequence[ModelVersion]) -> None:
    """Announce the run and what is ready of it; the ids let each be announced once."""
    run = found[0]

    def say(kind: EventKind, what: str, **ids: str) -> None:
        event = Event(
            event_id=f"{kind}:{what}",
            kind=kind,
            subject=run.model,
            ids={"run_id": run.run_id, **ids},
            at_us=services.clock.now_us(),
        )
        announce(services.log, event)

    say("model.trained", run.run_id, dataset_id=run.dataset_id)
    for version in found:
        if version.ready:
            say("model.ready", version.label, version=str(version.version))
