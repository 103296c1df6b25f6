"""A project folder with one source of candles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.runtime import LocalServices
    from penstock.spec import Source


@pytest.fixture
def services(tmp_path: Path) -> Iterator[LocalServices]:
    home = tmp_path / "home"
    (home / ".penstock").mkdir(parents=True)
    with open_services(home, actor="tester") as opened:
        yield opened


@pytest.fixture
def candles() -> Source:
    return ps.Source(
        "candles",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={
            "symbol": ps.String,
            "ts": ps.Timestamp,
            "low": ps.Float64,
            "high": ps.Float64,
            "close": ps.Float64,
            "trades": ps.Int64,
        },
        nullable=["trades"],
        expect=[ps.positive("close"), ps.between("low", 0, "high"), ps.unique("symbol", "ts")],
        known_after="1h",
        batch=ps.Files("data/*.csv"),
    )
