"""Lineage: from any id up to its origins and down to everything derived from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import NotFoundError
from penstock.plan import Catalogue, feature_entries
from penstock.records import Batch, DatasetSnapshot, ModelVersion
from penstock.registry import get_version
from penstock.scoring import find_score

from .downstream import (
    batch_products,
    column_products,
    dataset_products,
    version_link,
    version_products,
)
from .hiding import shown_parts, shown_values
from .links import Lineage, Link
from .pruning import find_removed
from .upstream import (
    batch_detail,
    batch_origins,
    dataset_link,
    manifest_of,
    score_origins,
    version_detail,
    version_origins,
    view_origins,
)

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import Score

__all__ = ["lineage"]

VERSION = re.compile(r"([a-z0-9_-]+)@(\d+)")


def lineage(services: Services, identifier: str) -> Lineage:
    """Say where something comes from, and what was made of it.

    Scores that serving processes have logged and nobody has moved to their table yet are found by
    their id, but are not among the counts of what was derived.

    Args:
        services: The ports.
        identifier: A prediction id, ``model@version``, a dataset's id, a batch's id, the id of a
            training run, the name of a view or ``view.feature``, or the path of a source file.

    Raises:
        NotFoundError: Nothing has that id.
    """
    version = VERSION.fullmatch(identifier)
    if version is not None:
        return _of_version(services, version[1], int(version[2]))
    for look in (_of_batch, _of_dataset, _of_run, _of_view, _of_score, _of_file, _of_removed):
        found = look(services, identifier)
        if found is not None:
            return found
    raise NotFoundError(
        f"Nothing is called {identifier!r}. Lineage takes a prediction id, MODEL@VERSION, the id "
        "of a dataset, a batch or a training run, a view or VIEW.FEATURE, or the path of a source "
        "file.",
        name=identifier,
    )


def _of_version(services: Services, model: str, number: int) -> Lineage:
    version = get_version(services.metadata, model, number)
    return Lineage(
        kind="version",
        id=version.label,
        detail=version_detail(version),
        comes_from=version_origins(services, version),
        leads_to=version_products(services, version),
    )


def _of_batch(services: Services, identifier: str) -> Lineage | None:
    found = services.metadata.find(Batch, where={"batch_id": identifier})
    if not found:
        return None
    return Lineage(
        kind="batch",
        id=identifier,
        detail=batch_detail(found[0]),
        comes_from=batch_origins(services.metadata, found[0]),
        leads_to=batch_products(services, found[0]),
    )


def _of_dataset(services: Services, identifier: str) -> Lineage | None:
    snapshot = services.metadata.read(DatasetSnapshot, identifier)
    if snapshot is None:
        return None
    link = dataset_link(services.metadata, snapshot)
    return Lineage(
        kind="dataset",
        id=identifier,
        detail=link.detail,
        comes_from=link.links,
        leads_to=dataset_products(services, snapshot),
    )


def _of_run(services: Services, identifier: str) -> Lineage | None:
    versions = services.metadata.find(ModelVersion, where={"run_id": identifier})
    if not versions:
        return None
    return Lineage(
        kind="run",
        id=identifier,
        detail={"model": versions[0].model, "candidates": [one.candidate for one in versions]},
        comes_from=version_origins(services, versions[0]),
        leads_to=tuple(version_link(services, version) for version in versions),
    )


def _of_view(services: Services, identifier: str) -> Lineage | None:
    """A view, or ``view.feature``: its sources, and the datasets with any of its columns."""
    catalogue = Catalogue.load(services.metadata)
    names = {one.name: one.columns for one in feature_entries(catalogue, {})}
    for view in catalogue.views:
        columns = view.names if view.name == identifier else names.get(identifier, ())
        if set(columns) & set(view.names):
            return Lineage(
                kind="features",
                id=identifier,
                detail={"definition": catalogue.fingerprint(view)[:12]},
                comes_from=view_origins(services, view),
                leads_to=column_products(services, catalogue, columns),
            )
    return None


def _of_score(services: Services, identifier: str) -> Lineage | None:
    score = find_score(services, identifier)
    if score is None:
        return None
    return Lineage(
        kind="score",
        id=identifier,
        detail=_score_detail(services, score),
        comes_from=score_origins(services, score),
    )


def _of_removed(services: Services, identifier: str) -> Lineage | None:
    """A score of which its id alone is left."""
    removed = find_removed(services.tables, identifier)
    if removed is None:
        return None
    detail = {"deployment": removed.deployment, "removed": removed.text}
    return Lineage(kind="score", id=identifier, detail=detail)


def _score_detail(services: Services, score: Score) -> dict[str, object]:
    manifest = None
    if score.version:
        manifest = manifest_of(services, get_version(services.metadata, score.model, score.version))
    fields = msgspec.to_builtins(score) | {"features": shown_values(services, manifest, score)}
    fields["parts"] = shown_parts(services, manifest, score)
    unsaid = {"prediction_id"} if fields["parts"] else {"prediction_id", "parts"}
    return {name: value for name, value in fields.items() if name not in unsaid}


def _of_file(services: Services, identifier: str) -> Lineage | None:
    """The batches read from a file; it need not be there any more."""
    home = services.home.resolve()
    full = (home / identifier).resolve()
    shown = full.relative_to(home).as_posix() if full.is_relative_to(home) else full.as_posix()
    origins = {f"file:{shown}", f"file:{Path(identifier).as_posix()}"}
    batches = [batch for batch in services.metadata.find(Batch) if batch.origin in origins]
    if not batches:
        return None
    links = tuple(
        Link(
            kind="batch",
            id=batch.batch_id,
            detail=batch_detail(batch),
            links=batch_products(services, batch),
        )
        for batch in batches
    )
    return Lineage(kind="file", id=shown, leads_to=links)
