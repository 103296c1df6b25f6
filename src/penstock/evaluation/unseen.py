"""The rows that may judge a graph: none that one of its models learned from.

A graph learns nothing, and its models learned from datasets of their own. Where those are split
otherwise, rows that the graph is measured on are rows they learned from, and would flatter it: they
are left out of its metrics, of the rivals' too, and it is said how many.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from penstock.datasets import AT, get_snapshot, load
from penstock.errors import NotFoundError, StateError
from penstock.registry import find_version, read_manifest
from penstock.spec import Graph

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.ports import Services
    from penstock.records import DatasetSnapshot, ModelVersion
    from penstock.spec import Model
    from penstock.training import TrainedCandidate

__all__ = ["Learned", "learned_by", "unseen"]

FEW = 50
"""Rows of a part that judge too roughly to be left without a word."""


class Learned(msgspec.Struct, frozen=True):
    """What the models of a graph learned from, as far as it is measured on the same.

    Attributes:
        rows: Key of the entity and time of each such row of the validation and test parts.
        warnings: What a reader of the metrics should know.
    """

    rows: pl.DataFrame
    warnings: tuple[str, ...]


def learned_by(
    services: Services, model: Model, snapshot: DatasetSnapshot, trained: Sequence[TrainedCandidate]
) -> Learned | None:
    """The rows that a graph is measured on and its models learned from; None for what is no graph.

    Args:
        services: The ports; uses metadata and artifacts.
        model: The model, or the graph.
        snapshot: What it is measured on.
        trained: Its candidates; those of a graph name its pins.
    """
    if not isinstance(model, Graph):
        return None
    keys = [model.dataset.spine.entity.name, AT]
    measured = load(services, snapshot).filter(pl.col("part").is_in(["validation", "test"]))
    pins = {str(label): None for one in trained for label in one.params.values()}
    found = [measured.select(*keys).clear()]
    warnings: list[str] = []
    for version in _models(services, list(pins)):
        try:
            learned = load(services, get_snapshot(services.metadata, version.dataset_id), "train")
        except (NotFoundError, StateError) as error:
            warnings.append(
                f"it is not known which rows {version.label} learned from, so that they may "
                f"flatter {model.name!r}: {error.message}"
            )
            continue
        if set(keys) <= set(learned.columns):
            same = measured.join(learned.select(keys), on=keys, how="semi")
            found.append(same.select(keys))
            warnings += _told(model, version, measured, same)
    rows = pl.concat(found).unique()
    return Learned(rows, (*warnings, *_thin(model, measured, rows, keys)))


def unseen(
    services: Services, trained: Sequence[TrainedCandidate], learned: Learned | None
) -> list[TrainedCandidate]:
    """The candidates with predictions of such rows alone as their models have not learned from.

    Args:
        services: The ports; uses artifacts.
        trained: The candidates.
        learned: The rows to leave out; none where the candidates are to stay as they are.
    """
    if learned is None or learned.rows.is_empty():
        return list(trained)
    return [_without(services, one, learned.rows) if not one.error else one for one in trained]


def _without(services: Services, one: TrainedCandidate, rows: pl.DataFrame) -> TrainedCandidate:
    predicted = pl.read_parquet(services.artifacts.path(one.predictions))
    services.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unseen-", dir=services.scratch) as folder:
        path = Path(folder) / "predictions.parquet"
        predicted.join(rows, on=rows.columns, how="anti").write_parquet(path)
        return msgspec.structs.replace(one, predictions=services.artifacts.put(path))


def _models(services: Services, labels: list[str]) -> Iterator[ModelVersion]:
    """The versions that learn, of graphs within too, each once."""
    known = set(labels)
    for label in labels:
        version = find_version(services.metadata, label)
        manifest = read_manifest(services.artifacts.path(version.package))
        pinned = [str(one) for one in version.params.values()] if manifest.native == "graph" else []
        if not pinned:
            yield version
        labels += [one for one in pinned if one not in known]
        known.update(pinned)


def _told(
    model: Model, version: ModelVersion, measured: pl.DataFrame, same: pl.DataFrame
) -> Iterator[str]:
    for part in ("validation", "test"):
        count = same.filter(pl.col("part") == part).height
        of = measured.filter(pl.col("part") == part).height
        if count:
            yield (
                f"{version.label} learned from {count:,} of the {of:,} {part} rows of "
                f"{model.name!r}; they are left out of its metrics. Give all of them one spine and "
                "one split"
            )


def _thin(
    model: Model, measured: pl.DataFrame, learned: pl.DataFrame, keys: list[str]
) -> Iterator[str]:
    if learned.is_empty():
        return
    left = measured.join(learned, on=keys, how="anti")
    for part in ("validation", "test"):
        count = left.filter(pl.col("part") == part).height
        if count < FEW:
            yield f"{count} {part} rows are left to measure {model.name!r} by"
