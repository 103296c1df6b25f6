"""A dataset that is too large for the memory set is built in parts, and kept through kills."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from penstock.datasets import build, load
from penstock.features import point_in_time
from penstock.runtime import open_services
from penstock.testing.children import child
from penstock.testing.parts_child import CountingExecutor, build_until, finished_parts

if TYPE_CHECKING:
    from tests.unit.datasets.conftest import Ingest

    from penstock.runtime import LocalServices
    from penstock.spec import Dataset

HOURS, SYMBOLS = 4_000, 40


@pytest.mark.slow
@pytest.mark.timeout(180)  # worker processes start, on a busy machine
def test_a_build_killed_between_parts_computes_the_others_only(
    services: LocalServices, direction: Dataset, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_FEATURES_MEMORY_MB", "16")
    monkeypatch.setenv("PENSTOCK_FEATURES_WORKERS", "2")
    draw = np.random.default_rng(1)
    ingest([(f"s{s}", h, draw.normal()) for h in range(HOURS) for s in range(SYMBOLS)])
    with child(build_until, services.home, direction, 1) as worker:
        worker.listen(1)  # beside it, two parts may be under way and end before the kill
        assert "done" not in worker.kill()
    with open_services(services.home, actor="tester") as small:
        kept = finished_parts(small)
        assert kept >= 1
        counting = CountingExecutor(small.executor)
        monkeypatch.setattr(type(small), "executor", counting)
        told: list[float] = []
        snapshot = build(small, direction, progress=lambda _, share: told.append(share))
        said = worker.said[0]
        assert isinstance(said, str)
        assert counting.tasks == int(said.rpartition(" ")[2]) - kept > 0
        assert told[-1] == 1.0
        assert finished_parts(small) == 0
        frame = load(small, snapshot)
        spine = frame.select("symbol", "at")
        undisturbed = point_in_time(
            small.tables, direction.views, spine, memory_bytes=small.features_memory_bytes // 2
        )
    assert frame.select(undisturbed.columns).equals(undisturbed)
    assert frame["at"].is_sorted()
    assert len(frame) + snapshot.unlabelled == HOURS * SYMBOLS


def test_a_small_dataset_is_built_in_this_process(
    services: LocalServices, direction: Dataset, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest([("a", hour, float(hour * 7 % 11)) for hour in range(60)])
    counting = CountingExecutor(services.executor)
    monkeypatch.setattr(type(services), "executor", counting)
    frame = load(services, build(services, direction))
    assert counting.tasks == 0
    assert not frame.select(pl.all().is_null().all()).row(0)[0]
