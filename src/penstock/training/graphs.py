"""Making a version of a graph: nothing learns, its steps are pinned to versions of their models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.errors import ConflictError, NotReadyError, StateError
from penstock.registry import (
    GraphModel,
    definitions_of,
    find_version,
    load_native,
    pack_graph,
    read_manifest,
    rebuild,
)
from penstock.spec import Graph, Predict, fingerprint, key_of

from .learned import GraphJob

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.ports import Services
    from penstock.records import DatasetSnapshot, Manifest

__all__ = ["graph_job", "put_together"]


def graph_job(services: Services, graph: Graph, snapshot: DatasetSnapshot) -> GraphJob:
    """Pin the steps of a graph to the versions that they mean now.

    Args:
        services: The ports; uses metadata and artifacts.
        graph: The graph.
        snapshot: The dataset that it is measured on.

    Raises:
        NotReadyError: A model has no such version yet.
        NotFoundError: A version that is named by its number does not exist.
        ConflictError: A version reads features that the dataset lacks, or of other views; names
            every such fault.
        StateError: A package is damaged.
    """
    pins: dict[str, str] = {}
    packages: dict[str, str] = {}
    faults: list[str] = []
    for name, step in graph.steps.items():
        if not isinstance(step, Predict):
            continue
        which = str(step.number) if step.number else step.of
        version = find_version(services.metadata, f"{step.model.name}@{which}")
        if not version.package:
            raise NotReadyError(
                f"{version.label}, of step {name!r}, has no package: its training did not finish. "
                f"Run 'penstock train {version.model}'."
            )
        folder = services.artifacts.path(version.package)
        pins[name], packages[version.label] = version.label, str(folder)
        faults += _misfits(name, step, graph, read_manifest(folder), snapshot)
    if faults:
        raise ConflictError(
            f"A version of {graph.name!r} cannot be made: {'; '.join(faults)}.", faults=faults
        )
    return GraphJob(
        key=key_of(graph), definitions=definitions_of(graph), pins=pins, packages=packages
    )


def put_together(job: GraphJob, features: Sequence[str]) -> GraphModel:
    """Put a graph together from packages.

    Args:
        job: What from.
        features: Full names of the columns of its rows, in order.

    Raises:
        StateError: A package is damaged.
        NotSupportedError: It needs a library that is not installed.
    """
    graph = rebuild(job.key, job.definitions, {}, owner=job.key.partition("/")[2])
    if not isinstance(graph, Graph):  # pragma: no cover - its key says what it is
        raise StateError(f"{job.key} is no graph.")
    packages = {label: Path(path) for label, path in job.packages.items()}
    content = pack_graph(graph, features, job.pins, packages)
    return GraphModel(content, lambda *part: load_native(*part).predict)


def _misfits(
    name: str, step: Predict, graph: Graph, manifest: Manifest, snapshot: DatasetSnapshot
) -> Iterator[str]:
    """Yield what keeps a version from reading the rows of the dataset."""
    label = f"{manifest.model}@{manifest.version}"
    given = {*snapshot.feature_names, *step.inputs}
    lacking = [feature for feature in manifest.features if feature not in given]
    if lacking:
        yield (
            f"{label}, of step {name!r}, reads {', '.join(lacking)}, which the dataset "
            f"{graph.dataset.name!r} lacks; add it there"
        )
    meanings = {view.name: fingerprint(view) for view in graph.dataset.views}
    own = (feature for feature in manifest.features if feature not in step.inputs)
    read = {feature.partition(".")[0] for feature in own}
    for view in sorted(read & set(meanings) & set(manifest.views)):
        if manifest.views[view] != meanings[view]:
            yield (
                f"{label}, of step {name!r}, learned from another definition of {view!r}; run "
                f"'penstock train {manifest.model}'"
            )
