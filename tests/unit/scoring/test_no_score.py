"""What a version cannot answer is stored by batch runs and jobs as no prediction, and why."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

import penstock as ps
from penstock.control import replay, submit_job
from penstock.deployment import deploy
from penstock.plan import Catalogue, apply
from penstock.runtime import open_services
from penstock.scoring import JobRow, pin_job, score_batch, score_job, scores_in
from penstock.scoring.ready import decoded, key_of
from penstock.testing.lanes import Giving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.records import Score
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

NAN, INF = math.nan, math.inf
GIVEN = (0.25, 1.7, NAN, -5e-5, -INF, 1.00005, -0.7)
KEPT = (0.25, NAN, NAN, -5e-5, NAN, 1.00005, NAN)
TOLD = ("", "direction@1 predicts 1.7 for", "direction@1 has no finite", "",
        "direction@1 has no finite", "", "direction@1 predicts -0.7 for")  # fmt: skip


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        deploy(opened, "btc", version=1)
        yield opened


def _varied(patch: pytest.MonkeyPatch, *given: float, of: str) -> None:
    module = import_module(f"penstock.{of}")
    patch.setattr(module, "load_engine", lambda _folder, _manifest: Giving(*given))


def _scored(services: LocalServices) -> list[Score]:
    frame = services.tables.scan("scores/btc").collect()
    return scores_in(frame.sort("prediction_id"))


def _quiet(what: str, share: float) -> None:
    del what, share


def test_a_job_stores_no_wrong_value_and_says_of_each_row_why(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    _varied(monkeypatch, *GIVEN, of="scoring.jobs")
    rows = [JobRow(key="BTC") for _ in range(2 * len(GIVEN))]
    job = submit_job(services, "btc", 1, rows, job_id="one")
    pinned = pin_job(services, job)

    done = score_job(services, job, pinned, _quiet)

    scores = _scored(services)
    np.testing.assert_array_equal([score.prediction for score in scores], KEPT * 2)
    for score, told in zip(scores, TOLD * 2, strict=True):
        assert score.reason.startswith(told)
        assert bool(told) == bool(score.reason)
    assert (done.rows, done.without) == (14, 8)
    assert score_job(services, job, pinned, _quiet) == done
    # What was none is none again; where the version has one now, the two differ.
    _varied(monkeypatch, 1.7, of="control.replay")
    assert replay(services, scores[1].prediction_id).same
    _varied(monkeypatch, NAN, of="control.replay")
    assert replay(services, scores[2].prediction_id).same
    _varied(monkeypatch, 0.5, of="control.replay")
    assert not replay(services, scores[1].prediction_id).same


def test_a_batch_run_keeps_none_of_them_ready(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = Catalogue.load(services.metadata).deployment("btc")
    routes = (ps.champion(), ps.precomputed(max_age="9999d"))
    runs = ps.BatchScoring(on=ps.new_data(declared.model.dataset.spine))
    changed = msgspec.structs.replace(declared, routes=routes, batch=runs)
    project = ps.Project("served", declarations=[changed])
    apply(services.metadata, project, actor="tester", now=services.clock.now())
    # Rows are in the order of time, three symbols beside each other: the last of each is none.
    count = services.tables.scan("raw/candles").collect().height
    given = [0.25] * (count - 3) + [1.7, NAN, -INF]
    _varied(monkeypatch, *given, of="scoring.batch")

    done = score_batch(services, "btc")

    assert (done.rows, done.without, done.ready) == (count, 3, 3)
    scores = _scored(services)
    assert sum(math.isnan(score.prediction) for score in scores) == 3
    newest = max(score.at_us for score in scores if score.prediction == 0.25)
    for symbol in ("ADA", "BTC", "ETH"):
        (value,) = services.online.get(changed.ready_space, [key_of(symbol, {})])
        ready = decoded(value)
        assert ready is not None
        assert (ready.prediction, ready.at_us) == (0.25, newest)
