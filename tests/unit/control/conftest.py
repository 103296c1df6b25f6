"""A project with scores, made from a file and from messages, and data that came after them."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from penstock.deployment import deploy
from penstock.ingest import accept_events, ingest_log
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.scoring import score_batch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

LINES = "application/x-ndjson"


@pytest.fixture(scope="session")
def scored_template(
    served_template: ServedProject, tmp_path_factory: pytest.TempPathFactory
) -> ServedProject:
    """``btc`` serves version 1, which has scored a file (batch 1) and a message (batch 2).

    Batch 3 came later, with a record that is older than the scores.
    """
    from penstock.testing.served_project import HOURS, START  # noqa: PLC0415 - loads all trainers

    home = tmp_path_factory.mktemp("scored") / "home"
    shutil.copytree(served_template.home, home)
    with open_services(home) as services:
        candles = Catalogue.load(services.metadata).source("candles")

        def message(symbol: str, hours: int, close: float) -> None:
            ts = (START + timedelta(hours=hours)).isoformat()
            row = {"symbol": symbol, "ts": ts, "open": 99.0, "close": close, "volume": 5.0}
            accept_events(services, candles, json.dumps(row).encode(), LINES)
            ingest_log(services, candles)

        deploy(services, "btc", version=1, wait_s=0)
        message("BTC", HOURS, 101.0)
        score_batch(services, "btc")
        message("BTC", -5, 12_345.0)
    return msgspec.structs.replace(served_template, home=home)


@pytest.fixture
def scored(scored_template: ServedProject, tmp_path: Path) -> Iterator[LocalServices]:
    """A scored project of one's own."""
    home = tmp_path / "scored"
    shutil.copytree(scored_template.home, home)
    with open_services(home) as services:
        yield services
