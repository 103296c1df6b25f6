"""Metrics of online scoring as Prometheus text, rendered from plain integers when asked."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.scoring import Counters, Endpoint

__all__ = ["FeatureCounters", "render_metrics"]


class Durations:
    """How long answers took: so many within each bound, and the rest.

    Attributes:
        buckets: Answers that took at most ``BOUNDS_US`` each and more than the one before.
        total_us: Sum of the durations.
    """

    BOUNDS_US = (250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000)

    def __init__(self) -> None:
        self.buckets = [0] * (len(self.BOUNDS_US) + 1)
        self.total_us = 0

    def add(self, took_us: int) -> None:
        """Count an answer."""
        self.buckets[bisect_left(self.BOUNDS_US, took_us)] += 1
        self.total_us += took_us


class FeatureCounters:
    """What a feature service has been asked, as plain integers.

    Attributes:
        durations: From a request's arrival to its answer.
        rows: Rows read.
        unknown: Rows of which no view knew anything.
    """

    def __init__(self) -> None:
        self.durations = Durations()
        self.rows = 0
        self.unknown = 0


def render_metrics(
    endpoints: Mapping[str, Endpoint],
    requests: Mapping[tuple[str, int], int],
    features: Mapping[str, FeatureCounters],
) -> bytes:
    """The text of ``/metrics``.

    Args:
        endpoints: What is served, by name of the deployment.
        requests: Requests by kind and HTTP status.
        features: What each feature service has been asked, by its name.
    """
    lines = [*_requests(requests), *_scores(endpoints), *_features(features)]
    return ("\n".join(lines) + "\n").encode()


def _requests(requests: Mapping[tuple[str, int], int]) -> Iterator[str]:
    yield "# HELP penstock_http_requests_total Requests by kind and status."
    yield "# TYPE penstock_http_requests_total counter"
    for (kind, status), number in sorted(requests.items()):
        yield f'penstock_http_requests_total{{kind="{kind}",status="{status}"}} {number}'


def _scores(endpoints: Mapping[str, Endpoint]) -> Iterator[str]:
    yield "# HELP penstock_scores_total Answers by deployment, route and model version."
    yield "# TYPE penstock_scores_total counter"
    for name, endpoint in sorted(endpoints.items()):
        for (route, version), number in sorted(endpoint.counters.answered.items()):
            labels = f'deployment="{name}",route="{route}",version="{version}"'
            yield f"penstock_scores_total{{{labels}}} {number}"
    yield "# HELP penstock_fallbacks_total Answers by a fallback, by what answered."
    yield "# TYPE penstock_fallbacks_total counter"
    for name, endpoint in sorted(endpoints.items()):
        for to, number in sorted(endpoint.counters.fallbacks.items()):
            yield f'penstock_fallbacks_total{{deployment="{name}",to="{to}"}} {number}'
    yield from _ages(endpoints)
    yield "# HELP penstock_shadow_rows_dropped_total Shadow rows that were not scored."
    yield "# TYPE penstock_shadow_rows_dropped_total counter"
    for name, endpoint in sorted(endpoints.items()):
        dropped = endpoint.counters.shadows_dropped
        yield f'penstock_shadow_rows_dropped_total{{deployment="{name}"}} {dropped}'
    yield "# HELP penstock_score_seconds From a request's arrival to its score."
    yield "# TYPE penstock_score_seconds histogram"
    for name, endpoint in sorted(endpoints.items()):
        yield from _histogram("penstock_score_seconds", f'deployment="{name}"', endpoint.counters)
    for what, text in (("rows", "Rows"), ("batches", "Batches")):
        yield f"# HELP penstock_computed_{what}_total {text} computed, by deployment and role."
        yield f"# TYPE penstock_computed_{what}_total counter"
        for name, endpoint in sorted(endpoints.items()):
            for role, lane in sorted(endpoint.lanes.items()):
                labels = f'deployment="{name}",role="{role}"'
                number = lane.counts.rows if what == "rows" else lane.counts.batches
                yield f"penstock_computed_{what}_total{{{labels}}} {number}"


def _ages(endpoints: Mapping[str, Endpoint]) -> Iterator[str]:
    yield "# HELP penstock_view_age_seconds Since the newest batch of a view's features arrived."
    yield "# TYPE penstock_view_age_seconds gauge"
    for name, endpoint in sorted(endpoints.items()):
        version = endpoint.champion
        now_us = endpoint.writer.clock.now_us()
        for age in version.ages if version else ():
            labels = f'deployment="{name}",view="{age.view}"'
            age_s = (now_us - age.arrived_us) / 1e6
            yield f"penstock_view_age_seconds{{{labels}}} {age_s:.1f}"
    yield "# HELP penstock_stale_requests_total Requests by entity while a view was stale."
    yield "# TYPE penstock_stale_requests_total counter"
    for name, endpoint in sorted(endpoints.items()):
        for outcome, number in endpoint.counters.stale.items():
            labels = f'deployment="{name}",outcome="{outcome}"'
            yield f"penstock_stale_requests_total{{{labels}}} {number}"


def _features(features: Mapping[str, FeatureCounters]) -> Iterator[str]:
    yield "# HELP penstock_feature_rows_total Rows read, by feature service."
    yield "# TYPE penstock_feature_rows_total counter"
    for name, counters in sorted(features.items()):
        yield f'penstock_feature_rows_total{{service="{name}"}} {counters.rows}'
    yield "# HELP penstock_feature_unknown_rows_total Rows of which no view knew anything."
    yield "# TYPE penstock_feature_unknown_rows_total counter"
    for name, counters in sorted(features.items()):
        yield f'penstock_feature_unknown_rows_total{{service="{name}"}} {counters.unknown}'
    yield "# HELP penstock_feature_seconds From a request's arrival to its features."
    yield "# TYPE penstock_feature_seconds histogram"
    for name, counters in sorted(features.items()):
        yield from _histogram("penstock_feature_seconds", f'service="{name}"', counters.durations)


def _histogram(metric: str, label: str, counted: Durations | Counters) -> Iterator[str]:
    total = 0
    for bound_us, number in zip((*counted.BOUNDS_US, None), counted.buckets, strict=True):
        total += number
        bound = "+Inf" if bound_us is None else f"{bound_us / 1e6:g}"
        yield f'{metric}_bucket{{{label},le="{bound}"}} {total}'
    yield f"{metric}_sum{{{label}}} {counted.total_us / 1e6:.6f}"
    yield f"{metric}_count{{{label}}} {total}"
