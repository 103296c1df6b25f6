"""Manifests of versions that nobody trained."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from penstock.records import Manifest

__all__ = ["manifest_of"]


def manifest_of(*features: str, **changes: object) -> Manifest:
    """A manifest of a regression about ``symbol`` with these features.

    Args:
        features: Their full names.
        changes: Fields that differ.
    """
    plain = Manifest(
        model="direction",
        version=1,
        task="regression",
        candidate="one",
        estimator="a:B",
        prepare="none",
        params={},
        native="skops",
        entity="symbol",
        entity_dtype="string",
        features=features,
        dtypes=dict.fromkeys(features, "float64"),
        views={},
        label="up",
        dataset_id="d",
        tables={},
        definitions={},
        functions={},
        dependencies={},
        commit="",
        diff="",
        metrics={},
        files={},
        bins={},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return msgspec.structs.replace(plain, **changes)
