"""The causes that can explain why a score computed again differs, each with its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import polars as pl

from penstock.records import Batch
from penstock.registry import file_sha256, installed
from penstock.spec import base_views, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from penstock.ports import Services
    from penstock.records import Manifest, Score
    from penstock.spec import FeatureView, Source, View

__all__ = [
    "Cause",
    "environment_causes",
    "feature_causes",
    "list_causes",
    "package_causes",
]


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it was.

    Attributes:
        kind: Which of the five.
        reason: The evidence, in words.
    """

    kind: Literal["model binary", "feature list", "feature code", "feature data", "environment"]
    reason: str


def package_causes(folder: Path, manifest: Manifest, score: Score) -> list[Cause]:
    """Files of the package that are not the ones registered, and another engine than answered."""
    found = [
        Cause(kind="model binary", reason=f"{name} is not the file that was registered")
        for name, sha256 in sorted(manifest.files.items())
        if not (folder / name).is_file() or file_sha256(folder / name) != sha256
    ]
    engine = manifest.engine.engine if manifest.engine else "native"
    batch = manifest.engine.batch_engine if manifest.engine else ""
    if score.engine not in {engine, batch}:
        reason = f"{score.engine} answered, but the package is served by {engine}"
        found.append(Cause(kind="model binary", reason=reason))
    return found


def list_causes(manifest: Manifest, values: Sequence[float | None]) -> list[Cause]:
    """Another number of features than the model takes."""
    if len(values) == len(manifest.features):
        return []
    reason = f"{len(values)} features were logged, but the model takes {len(manifest.features)}"
    return [Cause(kind="feature list", reason=reason)]


def feature_causes(
    services: Services, manifest: Manifest, views: Sequence[View], score: Score
) -> list[Cause]:
    """What explains features that raw data does not give any more.

    Where the definitions, the number of records in each batch and the libraries are what they were,
    what is left is the values themselves: of the records, or of the online features.
    """
    found = [
        *_view_causes(manifest, views),
        *_batch_causes(services, base_views(views), score),
    ]
    if found:
        return found
    if changed_libraries(manifest):
        return environment_causes(manifest)
    reason = "records in the raw tables, or the online features, were altered"
    return [Cause(kind="feature data", reason=reason)]


def changed_libraries(manifest: Manifest) -> list[str]:
    """The libraries of another version than those that trained the model, with both versions."""
    now = installed(manifest.dependencies)
    return [
        f"{name} {version} -> {now.get(name, 'not installed')}"
        for name, version in sorted(manifest.dependencies.items())
        if now.get(name) != version
    ]


def environment_causes(manifest: Manifest) -> list[Cause]:
    """Libraries of another version, or else what is not recorded."""
    changed = ", ".join(changed_libraries(manifest))
    reason = changed or "nothing that is recorded differs; the machine may"
    return [Cause(kind="environment", reason=reason)]


def _view_causes(manifest: Manifest, views: Sequence[View]) -> Iterator[Cause]:
    for view in views:
        if fingerprint(view) != manifest.views.get(view.name):
            reason = f"the definition of view {view.name!r} is another one"
            yield Cause(kind="feature code", reason=reason)


def _batch_causes(
    services: Services, views: Sequence[FeatureView], score: Score
) -> Iterator[Cause]:
    for source in {view.source.name: view.source for view in views}.values():
        last = max(score.progress.get(v.name, 0) for v in views if v.source.name == source.name)
        for reason in _altered_batches(services, source, last):
            yield Cause(kind="feature data", reason=reason)


def _altered_batches(services: Services, source: Source, last: int) -> Iterator[str]:
    name = f"raw/{source.name}"
    rows = services.tables.scan(name).filter(pl.col("_batch") <= last)
    counted = dict(rows.group_by("_batch").len().collect().iter_rows())
    for batch in services.metadata.find(Batch, where={"source": source.name, "state": "stored"}):
        present = counted.get(batch.number, 0)
        if batch.number <= last and present != batch.stored:
            batch_id, stored = batch.batch_id, batch.stored
            yield f"{name} has {present} records of batch {batch_id}, which stored {stored}"
