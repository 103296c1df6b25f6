from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import pytest

from penstock.records import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = tuple(f"momentum.f{place}" for place in range(6))


@pytest.fixture
def manifest() -> Callable[..., Manifest]:
    """Makes a manifest of six features."""

    def make(
        *, estimator: str, classifies: bool = True, native: Literal["skops", "ubj"] = "skops"
    ) -> Manifest:
        return Manifest(
            model="direction",
            version=1,
            task="classification" if classifies else "regression",
            candidate="one",
            estimator=estimator,
            prepare="none",
            params={},
            native=native,
            entity="symbol",
            entity_dtype="string",
            features=NAMES,
            dtypes=dict.fromkeys(NAMES, "float64"),
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

    return make
