"""What worker processes do for evaluation: draw and track a run, mirror versions, ask a rival.

Plain JSON values in and out. Only these processes load MLflow, matplotlib and the libraries of the
rivals.
"""

from __future__ import annotations

import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from penstock.algebra import compute_metrics
from penstock.registry import NATIVE_FILES, load_native, read_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.evaluation.tracking import TrackedRun
    from penstock.training import TrainedCandidate

__all__ = ["measure_rival", "mirror_model", "prepare", "track"]

PICTURES = "penstock.evaluation.pictures"


def measure_rival(*, package: str, rows: str, label: str) -> dict[str, float]:
    """Metrics of a registered model on test rows.

    Args:
        package: Path of its package.
        rows: Path of a Parquet file with the model's features and the label.
        label: Name of the label.

    Returns:
        Its metrics by plain name.
    """
    folder = Path(package)
    manifest = read_manifest(folder)
    frame = pl.read_parquet(rows)
    x = frame.select(pl.col(manifest.features).cast(pl.Float64)).to_numpy()
    predicted = load_native(folder, manifest).predict(x)
    return compute_metrics(manifest.task, frame[label].cast(pl.Float64).to_numpy(), predicted)


def prepare(*, uri: str) -> None:
    """Load what ``track`` needs and make MLflow's database; see ``tracking.open_store``."""
    _keep_quiet()
    from penstock.evaluation.tracking import (  # noqa: PLC0415 - after MLflow was told to be quiet
        open_store,
    )

    open_store(uri)
    import_module(PICTURES)


def track(*, run: object, files: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Draw the pictures of a run's candidates and track the run; see ``tracking.track_run``.

    Args:
        run: A ``TrackedRun`` as plain values.
        files: Paths of ``model`` and ``predictions`` of each candidate that did not fail.
    """
    _keep_quiet()
    from penstock.evaluation.tracking import (  # noqa: PLC0415 - after MLflow was told to be quiet
        CandidateFiles,
        TrackedRun,
        track_run,
    )

    wanted = msgspec.convert(run, TrackedRun)
    with tempfile.TemporaryDirectory(prefix="penstock-pictures-") as folder:
        drawn = {
            trained.candidate: CandidateFiles(
                model=Path(files[trained.candidate]["model"]),
                model_name=NATIVE_FILES[trained.native],
                pictures=_pictures(wanted, trained, files[trained.candidate], Path(folder)),
            )
            for trained in wanted.trained
            if trained.candidate in files
        }
        return track_run(wanted, drawn)


def mirror_model(*, uri: str, model: str, versions: object, aliases: Mapping[str, int]) -> None:
    """Mirror a model's versions and aliases; see ``tracking.mirror_versions``."""
    _keep_quiet()
    from penstock.evaluation.tracking import (  # noqa: PLC0415 - after MLflow was told to be quiet
        MirroredVersion,
        mirror_versions,
    )

    mirror_versions(uri, model, msgspec.convert(versions, list[MirroredVersion]), aliases)


def _pictures(
    run: TrackedRun, trained: TrainedCandidate, paths: Mapping[str, str], folder: Path
) -> tuple[Path, ...]:
    from penstock.evaluation.pictures import draw  # noqa: PLC0415 - matplotlib, for this task only

    rows = pl.read_parquet(paths["predictions"]).partition_by("part", as_dict=True)
    parts = {
        str(part): (frame["label"].to_numpy(), frame["prediction"].to_numpy())
        for (part,), frame in rows.items()
    }
    title = f"{run.model} · {trained.candidate} · dataset {run.dataset_id}"
    return tuple(draw(folder / trained.candidate, title, run.task, parts))


def _keep_quiet() -> None:
    """Tell MLflow, before it is imported, not to phone home and not to talk on the console."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"
