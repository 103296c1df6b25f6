"""Training: every candidate of a model, in parallel, each in a worker process."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import DeclarationError, StateError, UserCodeError
from penstock.ports import Task
from penstock.registry import NATIVE_FILES
from penstock.spec import Graph

from .graphs import graph_job
from .learned import PREDICTIONS_FILE, TrainedCandidate, TrainingJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.ports import Services
    from penstock.records import DatasetSnapshot
    from penstock.spec import Model

    Progress = Callable[[str, float], None]

__all__ = ["check_candidates", "train_candidates"]

UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
CHECK = "penstock.training.worker:check_trainer"
TRAIN = "penstock.training.worker:train_candidate"


def check_candidates(services: Services, model: Model) -> None:
    """Check that every candidate can be built, before any of them is trained.

    Args:
        services: The project's ports.
        model: The model.

    Raises:
        DeclarationError: A parameter does not exist, a library is missing, or an estimator does
            not fit the label; names every fault of every candidate.
    """
    tasks = [
        Task(
            function=CHECK,
            arguments={"trainer": msgspec.to_builtins(trainer), "task": model.dataset.task},
        )
        for trainer in model.trainers
    ]
    found = dict(services.executor.run(tasks))
    faults = [
        f"candidate {trainer.name!r}: {fault}"
        for place, trainer in enumerate(model.trainers)
        for fault in msgspec.convert(found[place], list[str])
    ]
    if faults:
        raise DeclarationError.of(f"Model({model.name!r})", faults)


def train_candidates(
    services: Services,
    model: Model,
    snapshot: DatasetSnapshot,
    run_id: str,
    *,
    progress: Progress | None = None,
) -> list[TrainedCandidate]:
    """Train every candidate of a model.

    A candidate that fails does not stop the others and comes back with its ``error``. Training
    again with the same snapshot and seed gives the same models.

    Args:
        services: The project's ports.
        model: The model.
        snapshot: What it learns from.
        run_id: The training run.
        progress: Told what was done, and the share of the whole.

    Returns:
        The candidates in the order they are declared.

    Raises:
        DeclarationError: A candidate cannot be built; see ``check_candidates``.
        NotReadyError: A model of a graph has no such version yet.
        ConflictError: A version of such a model does not fit the graph's dataset.
        UserCodeError: Every candidate failed.
        UnavailableError: A worker process died.
    """
    check_candidates(services, model)
    folder = services.scratch / f"train-{UNSAFE.sub('-', run_id)}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        trained = _run(services, _jobs(services, model, snapshot, folder), progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    failed = [one for one in trained if one.error]
    if len(failed) == len(trained):
        raise UserCodeError(
            f"Every candidate of model {model.name!r} failed:\n"
            + "\n".join(f"  - {one.candidate}: {one.error}" for one in failed),
            model=model.name,
            tracebacks={one.candidate: one.traceback for one in failed},
        )
    return trained


def _jobs(
    services: Services, model: Model, snapshot: DatasetSnapshot, folder: Path
) -> list[TrainingJob]:
    dataset = model.dataset
    if dataset.label is None:  # pragma: no cover - a model without a label cannot be declared
        raise StateError(f"Dataset {dataset.name!r} has no label to learn.", dataset=dataset.name)
    rows = str(services.artifacts.path(snapshot.artifact))
    graph = graph_job(services, model, snapshot) if isinstance(model, Graph) else None
    return [
        TrainingJob(
            trainer=trainer,
            task=dataset.task,
            search=model.search,
            objective=model.select,
            rows=rows,
            features=snapshot.feature_names,
            label=dataset.label.name,
            key=dataset.spine.entity.name,
            folder=str(folder / str(place)),
            graph=graph,
        )
        for place, trainer in enumerate(model.trainers)
    ]


def _run(
    services: Services, jobs: list[TrainingJob], progress: Progress | None
) -> list[TrainedCandidate]:
    tasks = [Task(function=TRAIN, arguments={"job": msgspec.to_builtins(job)}) for job in jobs]
    trained: dict[int, TrainedCandidate] = {}
    for place, result in services.executor.run(tasks):
        found = msgspec.convert(result, TrainedCandidate)
        trained[place] = found if found.error else _keep(services, found, Path(jobs[place].folder))
        if progress is not None:
            outcome = "failed" if found.error else "trained"
            progress(f"{outcome} {found.candidate}", len(trained) / len(jobs))
    return [trained[place] for place in sorted(trained)]


def _keep(services: Services, found: TrainedCandidate, folder: Path) -> TrainedCandidate:
    """Keep the files of a candidate as artifacts."""
    return msgspec.structs.replace(
        found,
        model=services.artifacts.put(folder / NATIVE_FILES[found.native]),
        predictions=services.artifacts.put(folder / PREDICTIONS_FILE),
    )
