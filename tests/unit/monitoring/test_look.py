from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import penstock as ps
from penstock.algebra import compute_metric, count_bins, psi
from penstock.errors import NotReadyError, StateError
from penstock.monitoring import drain_observations, look, observe
from penstock.ports import Put
from penstock.records import MonitorReport, Observation, RouteChanges
from penstock.spec import DAY_US, HOUR_US, rolling
from penstock.spec import psi as drift_bound

if TYPE_CHECKING:
    from tests.unit.conftest import Watched

    from penstock.records import Check
    from penstock.spec import Monitor

NOW_US = 1_800_000_000_000_000


def monitor(watched: Watched, **bounds: object) -> Monitor:
    made = ps.Monitor(deployment=watched.endpoint, **bounds)  # type: ignore[arg-type]  # as given
    watched.apply(made)
    return made


def looked(watched: Watched, **bounds: object) -> list[Check]:
    return list(look(watched.services, monitor(watched, **bounds), now_us=NOW_US).checks)


def test_drift_is_the_index_of_each_feature_against_the_training_rows(watched: Watched) -> None:
    watched.answers(1)
    rows = watched.reference[:300].copy()
    rows[:, 1] += 1.0
    rows[::100, 0] = np.nan
    watched.scored(rows, at_us=NOW_US - HOUR_US)
    first, second = looked(watched, drift=drift_bound(max=0.4))
    bins = watched.manifest(1).bins
    for check, column in ((first, rows[:, 0]), (second, rows[:, 1])):
        expected = bins[check.subject]
        assert check.value == psi(expected.counts, count_bins(column, expected.edges))
        assert (check.name, check.bound, check.rows) == ("drift", 0.4, 300)
    assert (first.breached, second.breached) == (False, True)
    assert second.subject == "momentum.count_1d"
    assert "is above 0.4 (300 scores in 7d)" in second.reason


def test_only_answers_of_the_champion_in_the_window_count(watched: Watched) -> None:
    watched.answers(2, previous=1)
    same, other = watched.reference[:200], watched.reference[:200] + 9
    in_window, before = NOW_US - HOUR_US, NOW_US - 8 * DAY_US
    watched.scored(same, at_us=in_window, version=2)
    watched.scored(other, at_us=in_window, version=1)
    watched.scored(other, at_us=in_window, version=2, route="shadow")
    watched.scored(other, at_us=before, version=2)
    watched.scored(other, at_us=NOW_US + 1, version=2)
    watched.scored(other, at_us=in_window, version=2, route="batch", of_us=before)
    watched.scored(same[:7], at_us=in_window, version=2, route="batch")
    watched.scored(same[:5], at_us=in_window, version=2, route="challenger")
    for check in looked(watched, drift=drift_bound()):
        assert check.rows == 212
        assert check.value is not None
        assert check.value < 0.1


def test_a_pinned_champion_is_looked_at_wherever_the_alias_points(watched: Watched) -> None:
    watched.answers(2, previous=1)
    pinned = RouteChanges(
        deployment="btc", changed_at=watched.services.clock.now(), changed_by="tester", revision=1,
        pins={"champion": 1},
    )  # fmt: skip
    watched.services.metadata.write(Put(pinned))
    watched.scored(watched.reference[:200], at_us=NOW_US - HOUR_US, version=1)
    watched.scored(watched.reference[:200] + 9, at_us=NOW_US - HOUR_US, version=2)

    report = look(watched.services, monitor(watched, drift=drift_bound()), now_us=NOW_US)

    assert report.version == "direction@1"
    assert [check.breached for check in report.checks] == [False, False]


def test_accuracy_joins_outcomes_to_their_scores(watched: Watched) -> None:
    watched.answers(1)
    rng = np.random.default_rng(2)
    p = rng.uniform(size=250)
    y = (rng.uniform(size=250) < p).astype(float)
    ids = watched.scored(
        watched.reference[:250], at_us=NOW_US - HOUR_US, prediction=[float(one) for one in p]
    )
    wrong = [Observation(prediction_id=ids[0], value=1 - y[0], observed_at_us=3)]
    outcomes = [
        Observation(prediction_id=name, value=float(value), observed_at_us=4)
        for name, value in zip(ids, y, strict=True)
    ]
    late = [Observation(prediction_id=ids[1], value=1 - y[1], observed_at_us=1)]
    for batch in (
        wrong,
        outcomes,
        late,
        [Observation(prediction_id="x", value=1, observed_at_us=9)],
    ):
        observe(watched.services, "btc", batch)
        drain_observations(watched.services)
    (check,) = looked(watched, accuracy=rolling("roc_auc", min=0.99))
    assert check.value == compute_metric("roc_auc", y, p)
    assert (check.rows, check.breached) == (250, True)
    assert "is below 0.99 (250 observed scores in 7d)" in check.reason
    (check,) = looked(watched, accuracy=rolling("log_loss", max=5))
    assert not check.breached


def test_latency_counts_the_fallback_since_the_aliases_changed(watched: Watched) -> None:
    changed_us = NOW_US - HOUR_US // 2
    watched.answers(1, at_us=changed_us)
    rows = watched.reference[:1]
    watched.scored(watched.reference[:990], at_us=NOW_US - 1, duration_us=1_000)
    watched.scored(rows.repeat(10, axis=0), at_us=NOW_US - 1, duration_us=90_000)
    watched.scored(rows, at_us=NOW_US - 1, duration_us=10**9, route="shadow")
    watched.scored(rows, at_us=NOW_US - 1, duration_us=10**9, route="batch")
    watched.scored(rows, at_us=changed_us - 1, version=0, duration_us=10**9, route="fallback")
    (check,) = looked(watched, latency=ps.p99(max="20ms"))
    assert (check.value, check.rows, check.breached) == (1_000.0, 1_000, False)
    watched.scored(rows, at_us=changed_us, version=0, duration_us=90_000, route="fallback")
    (check,) = looked(watched, latency=ps.p99(max="20ms"))
    assert (check.value, check.rows, check.breached) == (90_000.0, 1_001, True)
    assert check.reason == "p99 of 90.00 ms is above 20ms (1001 answers in 1h)"


def test_without_enough_rows_there_is_no_verdict_but_a_reason(watched: Watched) -> None:
    watched.answers(1)
    bounds = {
        "drift": drift_bound(), "accuracy": rolling("roc_auc", min=0.5),
        "latency": ps.p99(max="1us"),
    }  # fmt: skip
    nothing = looked(watched, **bounds)
    watched.scored(watched.reference[:199] + 9, at_us=NOW_US - 1)
    few = looked(watched, **bounds)
    assert [check.rows for check in nothing + few] == [0, 0, 0, 0, 199, 199, 0, 199]
    assert {(check.value, check.breached) for check in nothing + few} == {(None, False)}
    assert few[0].reason == "no verdict: 199 scores in 7d, 200 needed"
    ids = watched.scored(watched.reference[:200], at_us=NOW_US - 1)
    outcomes = [Observation(prediction_id=one, value=1, observed_at_us=1) for one in ids]
    observe(watched.services, "btc", outcomes)
    drain_observations(watched.services)
    (check,) = looked(watched, accuracy=rolling("roc_auc", min=0.5))
    assert (check.value, check.breached, check.rows) == (None, False, 200)
    assert "do not define roc_auc" in check.reason


def test_the_report_is_stored_and_the_same_look_is_the_same_report(watched: Watched) -> None:
    watched.answers(1)
    made = monitor(watched, drift=drift_bound(over="2d"), latency=ps.p99(max="1s", over="1h"))
    first = look(watched.services, made, now_us=NOW_US)
    again = look(watched.services, made, now_us=NOW_US)
    later = look(watched.services, made, now_us=NOW_US + 1)
    found = watched.services.metadata.find(MonitorReport, where={"monitor": "btc"})
    assert [report.report_id for report in found] == [first.report_id, later.report_id]
    assert again.report_id == first.report_id
    assert (first.version, first.from_us, first.to_us) == (
        "direction@1", NOW_US - 2 * DAY_US, NOW_US,
    )  # fmt: skip
    assert look(watched.services, made).to_us > NOW_US - 10 * 365 * DAY_US


def test_nothing_answers_yet(watched: Watched) -> None:
    with pytest.raises(NotReadyError, match="penstock deploy btc"):
        looked(watched, drift=drift_bound())


def test_scores_that_do_not_fit_their_manifest_are_refused(watched: Watched) -> None:
    watched.answers(1)
    watched.scored(watched.reference[:200, :1], at_us=NOW_US - 1)
    with pytest.raises(StateError, match="another number of features"):
        looked(watched, drift=drift_bound())
