from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from penstock.testing.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.records import Manifest

NAMES = tuple(f"momentum.f{place}" for place in range(6))


@pytest.fixture
def manifest() -> Callable[..., Manifest]:
    """Makes a manifest of six features."""

    def make(
        *, estimator: str, classifies: bool = True, native: Literal["skops", "ubj"] = "skops"
    ) -> Manifest:
        return manifest_of(
            *NAMES,
            task="classification" if classifies else "regression",
            estimator=estimator,
            native=native,
        )

    return make
