"""Rivals: registered models, measured on the test rows of a new dataset.

A rival sees its own features at the same rows. Where the dataset has them, with the same meaning,
they are taken from there; else they are computed from the rival's own definitions, point in time
and from the same table versions. The label is always the new dataset's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from penstock.datasets import AT, load
from penstock.features import point_in_time
from penstock.ports import Task
from penstock.registry import aliases, get_version, read_manifest, views_of
from penstock.spec import fingerprint

from .results import Rival

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import DatasetSnapshot, Manifest
    from penstock.spec import Model

__all__ = ["measure_rivals"]

MEASURE = "penstock.evaluation.worker:measure_rival"
CHAMPION = "champion"


def measure_rivals(
    services: Services,
    model: Model,
    snapshot: DatasetSnapshot,
    *,
    without: pl.DataFrame | None = None,
) -> tuple[Rival, ...]:
    """Measure the champion, and whom else the gates name, on the snapshot's test rows.

    Args:
        services: The project's ports.
        model: The model.
        snapshot: The new dataset.
        without: Rows of it that nothing is measured on, by the columns that name them.

    Returns:
        A rival for each alias that points somewhere.

    Raises:
        StateError: A rival's package is damaged.
    """
    named = [CHAMPION, *(gate.alias for gate in model.gates if gate.rule == "beats")]
    present = aliases(services.metadata, model.name)
    pointed = {alias: int(getattr(present, alias)) for alias in dict.fromkeys(named)}
    pointed = {alias: version for alias, version in pointed.items() if version}
    numbers = sorted(set(pointed.values()))
    if not numbers:
        return ()
    services.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rivals-", dir=services.scratch) as folder:
        tasks = [
            _task(services, model, snapshot, number, Path(folder), without) for number in numbers
        ]
        results = {numbers[place]: result for place, result in services.executor.run(tasks)}
    return tuple(
        Rival(
            alias=alias,
            version=version,
            metrics=msgspec.convert(results[version], dict[str, float]),
        )
        for alias, version in pointed.items()
    )


def _task(  # noqa: PLR0913, PLR0917 - what is measured, on what, and where its rows go
    services: Services,
    model: Model,
    snapshot: DatasetSnapshot,
    number: int,
    folder: Path,
    without: pl.DataFrame | None,
) -> Task:
    version = get_version(services.metadata, model.name, number)
    package = services.artifacts.path(version.package)
    rows = folder / f"{number}.parquet"
    found = _rows_for(services, model, snapshot, read_manifest(package))
    if without is not None:
        found = found.join(without, on=without.columns, how="anti")
    found.write_parquet(rows)
    label = model.dataset.label.name if model.dataset.label is not None else ""
    return Task(
        function=MEASURE, arguments={"package": str(package), "rows": str(rows), "label": label}
    )


def _rows_for(
    services: Services, model: Model, snapshot: DatasetSnapshot, manifest: Manifest
) -> pl.DataFrame:
    """The test rows with the features of the rival."""
    rows = load(services, snapshot, "test")
    mine = {view.name: fingerprint(view) for view in model.dataset.views}
    same = all(mine.get(name) == meaning for name, meaning in manifest.views.items())
    if same and set(manifest.features) <= set(rows.columns):
        return rows
    spine = rows.drop(snapshot.feature_names)
    views = views_of(manifest)
    keys = spine.select(AT, *manifest.keys, *manifest.request)
    features = point_in_time(
        services.tables,
        views,
        keys,
        versions=snapshot.tables,
        as_known=model.dataset.as_known,
        memory_bytes=services.features_memory_bytes,
    )
    return pl.concat([spine, features.drop(keys.columns)], how="horizontal")
