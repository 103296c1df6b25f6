from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.testing.lanes import LaneWorld

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> LaneWorld:
    return LaneWorld(tmp_path / "scores" / "btc")
