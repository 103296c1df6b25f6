"""Rates, quantiles and sums between two readings."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.cli.top_figures import Reading, Usage, figures
from penstock.runtime import Family, Histogram, Measured, Sample

BOUNDS = (0.001, 0.01, 0.1, 1.0)
OF = {"deployment": "btc", "route": "champion", "version": "2"}
ROLE = {"deployment": "btc", "role": "champion", "version": "2"}
SHADOW = {"deployment": "btc", "role": "shadow candidate", "version": "3"}


def _family(name: str, value: float, /, **labels: str) -> Family:
    samples = [Sample(labels, value)]
    if name.endswith("_total"):
        return Family(name, "counter", "", samples)
    return Family(name, "gauge", "", samples)


def _measured(
    worker: int, at_s: float, answers: int, counts: list[int], *, process_id: int = 0
) -> Measured:
    btc = {"deployment": "btc"}
    sizes = [Histogram(ROLE, [answers // 2], answers), Histogram(SHADOW, [answers], answers * 3)]
    statuses = [
        Sample({"kind": "predict", "status": "200"}, answers),
        Sample({"kind": "predict", "status": "503"}, answers / 4),
    ]
    families = [
        _family("penstock_scores_total", answers, **OF),
        _family("penstock_score_errors_total", answers / 10, **OF, kind="late"),
        Family("penstock_score_seconds", "histogram", "", (), [Histogram(OF, counts, 1.0)], BOUNDS),
        Family("penstock_batch_rows", "histogram", "", (), sizes),
        _family("penstock_queue_rows", worker + 1, **ROLE),
        _family("penstock_circuit_open", worker, **btc, version="2"),
        _family("penstock_model_info", 1, **ROLE, model="m", engine="onnx"),
        _family("penstock_fallbacks_total", answers / 2, **btc, to="previous", cause="late"),
        _family("penstock_score_log_waiting_bytes", 1_000, **btc),
        _family("penstock_score_log_lag_seconds", 4.5, **btc),
        Family("penstock_http_requests_total", "counter", "", statuses),
        _family("process_cpu_seconds_total", at_s / 2),
        _family("process_resident_memory_bytes", 5e7),
    ]
    return Measured(
        process_id=process_id or 100 + worker, started_at_s=1.0, at_us=int(at_s * 1e6),
        address="http://here", worker=worker, families=families,
    )  # fmt: skip


def test_workers_are_summed_and_each_over_its_own_time() -> None:
    early = [_measured(0, 10, 0, [0] * 5), _measured(1, 10, 100, [100, 0, 0, 0, 0])]
    late = [_measured(0, 12, 400, [0, 400, 0, 0, 0]), _measured(1, 11, 200, [100, 0, 100, 0, 0])]

    found = figures(Reading(10.0, early, []), Reading(12.0, late, []))

    route, shadow = found.routes
    assert (route.deployment, route.route, route.version) == ("btc", "champion", 2)
    assert (shadow.route, shadow.version, shadow.per_s) == ("shadow", 3, 3 * (200 + 100))
    assert (route.model, route.engine) == ("m", "onnx")
    assert route.per_s == 400 / 2 + 100 / 1
    assert route.errors_per_s == pytest.approx(20 + 10)
    assert route.queue_rows == 1 + 2
    assert route.is_open
    assert route.batch_rows == pytest.approx(500 / 250)
    assert route.p50_ms == pytest.approx(1 + 9 * 250 / 400)
    assert route.p99_ms == pytest.approx(10 + 90 * 95 / 100)
    (deployment,) = found.deployments
    assert deployment.fallbacks_per_s == {"late": 100 + 50}
    assert (deployment.log_waiting_bytes, deployment.log_lag_s) == (1_000, 4.5)
    first, second = found.processes
    assert (first.requests_per_s, first.refused_per_s) == (200 + 50, 50)
    assert (first.cpu, second.cpu, first.memory_bytes) == (0.5, 0.5, 50_000_000)
    assert (first.up_s, first.worker, second.worker) == (11.0, 0, 1)


def test_a_successor_counts_from_its_next_reading_on() -> None:
    before = Reading(10.0, [_measured(0, 10, 5_000, [5_000, 0, 0, 0, 0])], [])
    now = Reading(12.0, [_measured(0, 12, 7, [7, 0, 0, 0, 0], process_id=999)], [])

    found = figures(before, now)

    (route,) = found.routes
    assert (route.per_s, route.p50_ms, route.batch_rows, route.queue_rows) == (0.0, None, None, 1)
    assert found.processes[0].requests_per_s == 0.0


def test_what_does_not_serve_is_there_too() -> None:
    one, later = (
        Usage(
            kind="worker", process_id=7, address="", started_at_s=4.0, cpu_s=cpu_s, memory_bytes=8
        )
        for cpu_s in (1.0, 2.5)
    )

    (found,) = figures(Reading(10.0, [], [one]), Reading(12.0, [], [later])).processes

    assert (found.kind, found.worker, found.cpu, found.memory_bytes, found.up_s) == (
        "worker", None, 0.75, 8, 8.0
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_quantiles_are_those_of_the_answers_to_a_bucket(seed: int) -> None:
    times_s = np.random.default_rng(seed).exponential(0.01, 2_000)
    counts = np.histogram(times_s, [0, *BOUNDS, np.inf])[0].tolist()
    before = Reading(10.0, [_measured(0, 10, 0, [0] * 5)], [])

    route, _ = figures(before, Reading(11.0, [_measured(0, 11, 2_000, counts)], [])).routes

    for share, told_ms in ((0.5, route.p50_ms), (0.99, route.p99_ms)):
        assert told_ms is not None
        exact_s = float(np.quantile(times_s, share))
        places = np.searchsorted([0, *BOUNDS], [exact_s, told_ms / 1_000])
        assert places[0] == places[1]
