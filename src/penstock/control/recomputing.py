"""The features of scores, computed again from the raw tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.errors import StateError
from penstock.features import expected_features, point_in_time
from penstock.registry import views_of
from penstock.spec import DType, base_views

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.algebra import IntArray
    from penstock.features import Expected
    from penstock.ports import Services
    from penstock.records import Manifest
    from penstock.spec import View

__all__ = ["batches_of", "expected_from_raw", "features_from_raw", "keys_of"]


def features_from_raw(
    services: Services,
    manifest: Manifest,
    spine: pl.DataFrame,
    progress: Sequence[Mapping[str, int]],
) -> pl.DataFrame:
    """Compute the features that a version should have seen, each row from what it had seen then.

    All rows are computed in one pass over each raw table, whatever batches they had seen.

    Args:
        services: The ports; uses the tables.
        manifest: The version.
        spine: A row for each score, as ``score_spine`` makes them.
        progress: For each score the last raw batch it had seen, by view.

    Returns:
        A column for each of the manifest's features, in its order, float64 with null for none.

    Raises:
        NotReadyError: A source has no records.
        DeclarationError: A function of the user is not what it was.
        UserCodeError: A function of the user failed.
        StateError: The manifest's definitions do not give its features.
    """
    views = _views(manifest)
    frame = point_in_time(
        services.tables,
        views,
        spine,
        batches=batches_of(views, progress),
        memory_bytes=services.features_memory_bytes,
    )
    return frame.select(pl.col(name).cast(pl.Float64) for name in manifest.features)


def expected_from_raw(
    services: Services,
    manifest: Manifest,
    spine: pl.DataFrame,
    progress: Sequence[Mapping[str, int]],
) -> Expected:
    """As ``features_from_raw``, with how far rounding may move each value."""
    views = _views(manifest)
    return expected_features(
        services.tables,
        views,
        spine,
        batches=batches_of(views, progress),
        memory_bytes=services.features_memory_bytes,
    )


def batches_of(
    views: Sequence[View], progress: Sequence[Mapping[str, int]]
) -> dict[str, int | IntArray]:
    """The last raw batch of each row, by name of the feature view.

    A row that has seen nothing of a view is computed from nothing of it.
    """
    return {
        view.name: np.array([one.get(view.name, 0) for one in progress], dtype=np.int64)
        for view in base_views(views)
    }


def _views(manifest: Manifest) -> tuple[View, ...]:
    views = views_of(manifest)
    known = {name for view in views for name in view.names}
    missing = [name for name in manifest.features if name not in known]
    if missing:
        raise StateError(
            f"The definitions no longer give {', '.join(missing)}. Train the model again: "
            f"'penstock train {manifest.model}'.",
            features=missing,
        )
    return views


def keys_of(manifest: Manifest, entities: Sequence[str]) -> list[str] | list[int]:
    """The keys of entities that scores name as text."""
    if manifest.entity_dtype == DType.INT64:
        return [int(entity) for entity in entities]
    return list(entities)
