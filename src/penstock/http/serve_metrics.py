"""What online scoring has measured: read from plain integers when somebody asks.

Nothing here is on the path of a request. It may run in any thread: what grows meanwhile is copied
before it is walked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from penstock.runtime import Family, Histogram, Sample
from penstock.scoring import Durations, read_backlog

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.ports import SpanCounts
    from penstock.scoring import Counters, Endpoint, Lane

    from .serve_need import Loads

    Endpoints = Mapping[str, Endpoint]

__all__ = ["FeatureCounters", "families_of", "families_of_loading", "families_of_need"]

BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)
BOUNDS_S = tuple(bound_us / 1e6 for bound_us in Durations.BOUNDS_US)


class FeatureCounters:
    """What a feature service has been asked, as plain integers.

    Attributes:
        durations: From a request's arrival to its answer.
        rows: Rows read.
        unknown: Rows of which no view knew anything.
        stale: Answers while a view was older than allowed, by the view's name.
    """

    def __init__(self) -> None:
        self.durations = Durations()
        self.rows = 0
        self.unknown = 0
        self.stale: dict[str, int] = {}


def families_of(
    endpoints: Endpoints,
    requests: Mapping[tuple[str, int], int],
    features: Mapping[str, FeatureCounters],
    traces: SpanCounts | None = None,
    standing: Mapping[str, Counters] | None = None,
) -> list[Family]:
    """Everything that a serving process measures.

    Args:
        endpoints: What is served, by name of the deployment.
        requests: Requests by kind and HTTP status.
        features: What each feature service has been asked, by its name.
        traces: What has become of traces; none where nothing is traced.
        standing: What deployments have done that are not loaded, by name.
    """
    done = dict(standing or {}) | {name: one.counters for name, one in endpoints.items()}
    lanes = [
        ({"deployment": name, "role": role, "version": str(lane.version.manifest.version)}, lane)
        for name, endpoint in sorted(endpoints.items())
        for role, lane in sorted(endpoint.lanes.items())
    ]
    found = [
        _counter(
            "penstock_http_requests_total",
            "Requests by kind and status.",
            [
                Sample({"kind": kind, "status": str(status)}, number)
                for (kind, status), number in sorted(requests.items())
            ],
        ),
        *_answers(done),
        *_troubles(endpoints, done),
        *_ages(endpoints),
        *_batches(lanes),
        *_versions(lanes),
        *_logs(endpoints),
        *_features(features),
        *_traces(traces),
        *_process(),
    ]
    return [family for family in found if family.samples or family.histograms]


def families_of_need(endpoints: Endpoints, resting: int, loads: Loads, let_go: int) -> list[Family]:
    """What is loaded by need, and how often; nothing where all is loaded.

    Args:
        endpoints: What is loaded, by name of the deployment.
        resting: How many are not.
        loads: The loads by need.
        let_go: How often one was let go of.
    """
    if not loads.done and not resting:
        return []
    states = [
        Sample({"state": "loaded"}, len(endpoints)),
        Sample({"state": "resting"}, resting),
    ]
    size = sum(endpoint.size_bytes for endpoint in endpoints.values())
    return [
        _gauge("penstock_deployments", "Deployments that are loaded, and that rest.", states),
        _gauge("penstock_models_bytes", "About what loaded models take.", [Sample({}, size)]),
        _counter(
            "penstock_loads_total",
            "Loads of a deployment by need.",
            [Sample({}, loads.done)],
        ),
        _counter(
            "penstock_loads_late_total",
            "Waits for a load that ended before it did.",
            [Sample({}, loads.late)],
        ),
        _counter(
            "penstock_let_go_total",
            "Deployments that were let go of: by rest, or for others.",
            [Sample({}, let_go)],
        ),
    ]


def families_of_loading(errors: Mapping[str, str]) -> list[Family]:
    """What should be loaded and cannot be; nothing where all is.

    Args:
        errors: Why, by ``deployment/role``.
    """
    roles = [role.partition("/") for role in sorted(errors)]
    failed = [Sample({"deployment": name, "role": role}, 1.0) for name, _, role in roles]
    text = "1 while the version that a role should have cannot be loaded."
    return [_gauge("penstock_load_failed", text, failed)] if failed else []


def _answers(done: Mapping[str, Counters]) -> Iterator[Family]:
    answers: list[Sample] = []
    durations: list[Histogram] = []
    for name, counters in sorted(done.items()):
        for (route, version), one in sorted(counters.durations.items()):
            labels = {"deployment": name, "route": route, "version": str(version)}
            histogram = _durations(labels, one)
            answers.append(Sample(labels, sum(histogram.counts)))
            durations.append(histogram)
    text = "Answers by deployment, route and model version; version 0 is a constant."
    yield _counter("penstock_scores_total", text, answers)
    text = "From a request's arrival to its score."
    yield Family("penstock_score_seconds", "histogram", text, (), durations, BOUNDS_S)


def _troubles(endpoints: Endpoints, done: Mapping[str, Counters]) -> Iterator[Family]:
    errors: list[Sample] = []
    fallbacks: list[Sample] = []
    dropped: list[Sample] = []
    slow: list[Sample] = []
    circuits: list[Sample] = []
    for name, counters in sorted(done.items()):
        of = {"deployment": name}
        for (route, version, kind), number in sorted(counters.errors.items()):
            labels = {**of, "route": route, "version": str(version), "kind": kind}
            errors.append(Sample(labels, number))
        for (to, cause), number in sorted(counters.fallbacks.items()):
            fallbacks.append(Sample({**of, "to": to, "cause": cause}, number))
        for (route, version), number in sorted(counters.slow.items()):
            slow.append(Sample({**of, "route": route, "version": str(version)}, number))
        dropped.append(Sample(of, counters.shadows_dropped))
    for name, endpoint in sorted(endpoints.items()):
        for lane in {lane.version.label: lane for lane in endpoint.lanes.values()}.values():
            labels = {"deployment": name, "version": str(lane.version.manifest.version)}
            is_open = endpoint.circuits[lane.version.label].is_open
            circuits.append(Sample(labels, float(is_open)))
    text = "Rows that a version was asked for in vain, by kind of error."
    yield _counter("penstock_score_errors_total", text, errors)
    text = "Answers of a version that took longer than the fallback's slow_after lets it."
    yield _counter("penstock_slow_answers_total", text, slow)
    text = "Answers by a fallback, by what answered and why it was asked."
    yield _counter("penstock_fallbacks_total", text, fallbacks)
    text = "Shadow rows that were not scored."
    yield _counter("penstock_shadow_rows_dropped_total", text, dropped)
    lost = [Sample({"deployment": name}, one.lost) for name, one in sorted(done.items())]
    text = "Scores that were answered, and could not be logged."
    yield _counter("penstock_scores_lost_total", text, lost)
    text = "1 while a version failed so often that only a try now and then is let through."
    yield _gauge("penstock_circuit_open", text, circuits)


def _ages(endpoints: Endpoints) -> Iterator[Family]:
    ages: list[Sample] = []
    stale: list[Sample] = []
    views: list[Sample] = []
    unknown: list[Sample] = []
    for name, endpoint in sorted(endpoints.items()):
        version = endpoint.champion
        now_us = endpoint.writer.clock.now_us()
        for age in version.ages if version else ():
            labels = {"deployment": name, "view": age.view}
            ages.append(Sample(labels, round((now_us - age.arrived_us) / 1e6, 1)))
        for outcome, number in endpoint.counters.stale.items():
            stale.append(Sample({"deployment": name, "outcome": outcome}, number))
        for outcome, number in endpoint.counters.unknown.items():
            unknown.append(Sample({"deployment": name, "outcome": outcome}, number))
        for view, number in sorted(endpoint.counters.stale_views.items()):
            views.append(Sample({"deployment": name, "view": view}, number))
    text = "Since the newest batch of a view's features arrived."
    yield Family("penstock_view_age_seconds", "gauge", text, ages, shared=True)
    text = "Requests by entity while a view was stale."
    yield _counter("penstock_stale_requests_total", text, stale)
    text = "Requests by entity while this view was stale."
    yield _counter("penstock_stale_view_requests_total", text, views)
    text = "Rows by entity while nothing was online of their entities."
    yield _counter("penstock_unknown_rows_total", text, unknown)


def _batches(lanes: Sequence[tuple[dict[str, str], Lane]]) -> Iterator[Family]:
    sizes = [Histogram(of, *_sizes(lane)) for of, lane in lanes]
    text = "Rows of a batch that a version computed."
    yield Family("penstock_batch_rows", "histogram", text, (), sizes, BATCH_ROWS)
    text = "Time that batches took, features included."
    yield _counter(
        "penstock_batch_seconds_total",
        text,
        [Sample(of, lane.counts.computed_us / 1e6) for of, lane in lanes],
    )
    text = "Time that answered rows had waited for their batch to begin."
    yield _counter(
        "penstock_queued_seconds_total",
        text,
        [Sample(of, lane.counts.queued_us / 1e6) for of, lane in lanes],
    )
    steps = [({**of, "step": step}, done) for of, lane in lanes
             for step, done in sorted(lane.counts.steps.items())]  # fmt: skip
    if steps:
        text = "Time that the steps of graphs took, each by itself."
        seconds = [Sample(of, took_ns / 1e9) for of, (_, took_ns) in steps]
        yield _counter("penstock_step_seconds_total", text, seconds)
        text = "Rows that the steps of graphs were computed for."
        yield _counter(
            "penstock_step_rows_total", text, [Sample(of, rows) for of, (rows, _) in steps]
        )
    text = "Rows that wait for their batch."
    yield _gauge("penstock_queue_rows", text, [Sample(of, lane.waiting) for of, lane in lanes])


def _sizes(lane: Lane) -> tuple[list[int], float]:
    """How many batches there were up to each bound, and the rows of all."""
    counts = [0] * (len(BATCH_ROWS) + 1)
    rows = 0
    for size, (batches, _) in list(lane.counts.sizes.items()):
        place = next((n for n, bound in enumerate(BATCH_ROWS) if size <= bound), len(BATCH_ROWS))
        counts[place] += batches
        rows += size * batches
    return counts, rows


def _versions(lanes: Sequence[tuple[dict[str, str], Lane]]) -> Iterator[Family]:
    told = [
        Sample(
            {**of, "model": lane.version.manifest.model, "engine": lane.version.engine.name}, 1.0
        )
        for of, lane in lanes
    ]
    yield _gauge("penstock_model_info", "The versions that are loaded, and their engines.", told)
    text = "Time it took to load, check and warm a version."
    loads = [Sample(of, lane.version.load_us / 1e6) for of, lane in lanes]
    yield _gauge("penstock_model_load_seconds", text, loads)


def _logs(endpoints: Endpoints) -> Iterator[Family]:
    written: list[Sample] = []
    sizes: list[Sample] = []
    lags: list[Sample] = []
    for name, endpoint in sorted(endpoints.items()):
        log, of = endpoint.writer.log, {"deployment": name}
        backlog = read_backlog(log.folder)
        lag_us = endpoint.writer.clock.now_us() - backlog.oldest_us if backlog.oldest_us else 0
        written.append(Sample(of, log.written_bytes))
        sizes.append(Sample(of, backlog.size_bytes))
        lags.append(Sample(of, max(0, lag_us) / 1e6))
    text = "Bytes written to the score log."
    yield _counter("penstock_score_log_bytes_total", text, written)
    text = "Bytes of the score log that are not in the scores table yet, of all processes."
    yield Family("penstock_score_log_waiting_bytes", "gauge", text, sizes, shared=True)
    text = "Age of the oldest score that is not in the scores table yet; 0 where all are."
    yield Family("penstock_score_log_lag_seconds", "gauge", text, lags, shared=True)


def _features(features: Mapping[str, FeatureCounters]) -> Iterator[Family]:
    every = sorted(features.items())
    rows = [Sample({"service": name}, one.rows) for name, one in every]
    yield _counter("penstock_feature_rows_total", "Rows read, by feature service.", rows)
    text = "Rows of which no view knew anything."
    unknown = [Sample({"service": name}, one.unknown) for name, one in every]
    yield _counter("penstock_feature_unknown_rows_total", text, unknown)
    text = "Answers while this view was older than its freshness allows."
    stale = [
        Sample({"service": name, "view": view}, number)
        for name, one in every
        for view, number in sorted(one.stale.items())
    ]
    yield _counter("penstock_feature_stale_total", text, stale)
    text = "From a request's arrival to its features."
    durations = [_durations({"service": name}, one.durations) for name, one in every]
    yield Family("penstock_feature_seconds", "histogram", text, (), durations, BOUNDS_S)


def _traces(traces: SpanCounts | None) -> Iterator[Family]:
    if traces is None:
        return
    text = "Requests and batches whose spans were taken by whoever collects traces."
    yield _counter("penstock_traces_exported_total", text, [Sample({}, traces.exported)])
    text = "Requests and batches whose spans were lost on the way there."
    yield _counter("penstock_traces_lost_total", text, [Sample({}, traces.lost)])


def _process() -> Iterator[Family]:
    """What every client of Prometheus tells of its process, by the names that all use."""
    process = psutil.Process()
    with process.oneshot():
        times, memory = process.cpu_times(), process.memory_info()
        started, files = process.create_time(), process.num_fds()
    seconds = times.user + times.system
    text = "Processor time used."
    yield _counter("process_cpu_seconds_total", text, [Sample({}, round(seconds, 2))])
    for name, text, value in (
        ("process_resident_memory_bytes", "Memory in use.", memory.rss),
        ("process_start_time_seconds", "When it started, since 1970 UTC.", started),
        ("process_open_fds", "Open files and connections.", files),
    ):
        yield _gauge(name, text, [Sample({}, value)])


def _durations(labels: Mapping[str, str], durations: Durations) -> Histogram:
    return Histogram(labels, list(durations.buckets), durations.total_us / 1e6)


def _counter(name: str, text: str, samples: Sequence[Sample]) -> Family:
    return Family(name, "counter", text, samples)


def _gauge(name: str, text: str, samples: Sequence[Sample]) -> Family:
    return Family(name, "gauge", text, samples)
