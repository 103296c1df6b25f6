"""Feature selection: the features of a dataset ranked, and those worth keeping kept by an id."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.datasets import build
from penstock.errors import InputError
from penstock.ports import Audit, Put, Task
from penstock.records import FeatureRank, FeatureSelection

from .choosing import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeAlias

    from penstock.ports import Services
    from penstock.records import DatasetSnapshot
    from penstock.spec import Dataset

    Progress = Callable[[str, float], None]
    Plain: TypeAlias = Mapping[str, Any]  # plain JSON, as it comes back from a worker process

__all__ = ["select_features"]

WORKER = "penstock.evaluation.selection_worker"
RULES = 1
"""Number of the rules features are chosen by: what they choose is another selection's."""


def select_features(
    services: Services,
    dataset: Dataset,
    *,
    top: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> FeatureSelection:
    """Rank the features of a dataset and keep those that are worth it.

    Each feature is measured by chi-square and mutual information on the train part; features that
    correlate there are grouped, and the best of each group goes on; a quick gradient boosting
    learns from those on the train part and loses score on the validation part as each is shuffled.
    The test part is never looked at. The same rows, ``top`` and ``seed`` give the same selection,
    which is then computed once.

    Args:
        services: The project's ports.
        dataset: The dataset; every feature of its views is ranked, whatever it selects itself.
        top: Keep at most so many; 0 for all that have evidence.
        seed: Of the samples, the quick model and the shuffles.
        progress: Told what is being done, and the share of the work behind.

    Returns:
        The selection.

    Raises:
        InputError: The dataset has no label, no feature tells anything, or ``top`` is negative.
        NotReadyError: A source has no records yet.
        UnavailableError: A worker process died.
    """
    label = dataset.label
    if label is None:
        raise InputError(
            f"Dataset {dataset.name!r} has no label, so nothing ranks its features. Give it one.",
            dataset=dataset.name,
        )
    if top < 0:
        raise InputError(f"top={top}; give how many features to keep at most, or 0 for all.")
    tell = progress or _quiet
    tell("building the dataset", 0.0)
    whole = msgspec.structs.replace(dataset, select="")
    snapshot = build(services, whole, progress=tell)
    selection_id = _id_of(snapshot, top, seed)
    found = services.metadata.read(FeatureSelection, selection_id)
    if found is not None and services.artifacts.exists(found.artifact):
        return found
    rows = {
        "path": str(services.artifacts.path(snapshot.artifact)),
        "features": list(snapshot.feature_names),
        "label": label.name,
        "task": snapshot.task,
        "seed": seed,
    }
    selection = _ranked(services, snapshot, rows, top, tell)
    tell("writing the report", 0.85)
    return _keep(services, selection, rows)


def _ranked(
    services: Services, snapshot: DatasetSnapshot, rows: Plain, top: int, tell: Progress
) -> FeatureSelection:
    tell("chi-square, mutual information, correlation", 0.15)
    measured = _ask(services, "measure", rows=rows)
    ranks = msgspec.convert(measured["ranks"], list[FeatureRank])
    leads = [one.name for one in ranks if one.verdict == "kept"]
    if not leads:
        raise InputError(
            f"No feature of dataset {snapshot.dataset!r} tells anything: each is constant or empty "
            "in the train part. Ingest more records, or declare other features.",
            dataset=snapshot.dataset,
        )
    tell(f"importance of {len(leads)} features", 0.45)
    weighed = _ask(services, "weigh", rows=rows, features=leads)
    losses = dict(zip(leads, zip(weighed["mean"], weighed["std"], strict=True), strict=True))
    whole = [
        msgspec.structs.replace(
            one, importance=losses[one.name][0], importance_std=losses[one.name][1]
        )
        if one.name in losses
        else one
        for one in ranks
    ]
    kept, ordered = choose(whole, snapshot.feature_names, top)
    return FeatureSelection(
        selection_id=_id_of(snapshot, top, rows["seed"]),
        dataset=snapshot.dataset,
        dataset_id=snapshot.dataset_id,
        task=snapshot.task,
        seed=rows["seed"],
        top=top,
        kept=kept,
        ranks=ordered,
        rows={"train": measured["rows"], "validation": weighed["rows"]},
        metric="roc_auc" if snapshot.task == "classification" else "r2",
        score=weighed["score"],
        artifact="",
        created_at=services.clock.now(),
    )


def _keep(services: Services, selection: FeatureSelection, rows: Plain) -> FeatureSelection:
    """Keep the report as an artifact, then the record that refers to it."""
    services.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="selection-", dir=services.scratch) as folder:
        _ask(
            services,
            "report",
            rows=rows,
            selection=msgspec.to_builtins(selection),
            folder=folder,
        )
        whole = msgspec.structs.replace(selection, artifact=services.artifacts.put(Path(folder)))
    audit = Audit(
        actor=services.actor,
        action="select features",
        subject=f"dataset/{whole.dataset}",
        difference={"selection_id": whole.selection_id, "kept": list(whole.kept)},
    )
    services.metadata.write(Put(whole), audit=audit)
    return whole


def _ask(services: Services, function: str, **arguments: object) -> Any:  # noqa: ANN401 - plain JSON
    """Run one function in a worker process, which loads the libraries it takes."""
    task = Task(function=f"{WORKER}:{function}", arguments=arguments)
    ((_, result),) = services.executor.run([task])
    return result


def _id_of(snapshot: DatasetSnapshot, top: int, seed: int) -> str:
    text = json.dumps([snapshot.dataset_id, top, seed, RULES])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _quiet(what: str, share: float) -> None:
    del what, share
