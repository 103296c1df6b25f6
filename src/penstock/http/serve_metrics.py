"""Metrics of online scoring as Prometheus text, rendered from plain integers when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.scoring import Endpoint

__all__ = ["render_metrics"]


def render_metrics(
    endpoints: Mapping[str, Endpoint], requests: Mapping[tuple[str, int], int]
) -> bytes:
    """The text of ``/metrics``.

    Args:
        endpoints: What is served, by name of the deployment.
        requests: Requests by kind and HTTP status.
    """
    return ("\n".join([*_requests(requests), *_scores(endpoints)]) + "\n").encode()


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
    yield "# HELP penstock_shadow_rows_dropped_total Shadow rows that were not scored."
    yield "# TYPE penstock_shadow_rows_dropped_total counter"
    for name, endpoint in sorted(endpoints.items()):
        dropped = endpoint.counters.shadows_dropped
        yield f'penstock_shadow_rows_dropped_total{{deployment="{name}"}} {dropped}'
    yield "# HELP penstock_score_seconds From a request's arrival to its score."
    yield "# TYPE penstock_score_seconds histogram"
    for name, endpoint in sorted(endpoints.items()):
        yield from _histogram(name, endpoint)
    for what, text in (("rows", "Rows"), ("batches", "Batches")):
        yield f"# HELP penstock_computed_{what}_total {text} computed, by deployment and role."
        yield f"# TYPE penstock_computed_{what}_total counter"
        for name, endpoint in sorted(endpoints.items()):
            for role, lane in sorted(endpoint.lanes.items()):
                labels = f'deployment="{name}",role="{role}"'
                number = lane.rows if what == "rows" else lane.batches
                yield f"penstock_computed_{what}_total{{{labels}}} {number}"


def _histogram(name: str, endpoint: Endpoint) -> Iterator[str]:
    counters = endpoint.counters
    total = 0
    for bound_us, number in zip((*counters.BOUNDS_US, None), counters.buckets, strict=True):
        total += number
        bound = "+Inf" if bound_us is None else f"{bound_us / 1e6:g}"
        yield f'penstock_score_seconds_bucket{{deployment="{name}",le="{bound}"}} {total}'
    yield f'penstock_score_seconds_sum{{deployment="{name}"}} {counters.total_us / 1e6:.6f}'
    yield f'penstock_score_seconds_count{{deployment="{name}"}} {total}'
