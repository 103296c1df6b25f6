"""What ``penstock top`` shows: two readings of what processes measure, and what lies between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from penstock.runtime import Measured

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock.runtime import Family

__all__ = ["DeploymentFigures", "Figures", "ProcessFigures", "Reading", "RouteFigures", "figures"]

Key: TypeAlias = tuple[str, str, str]
Labels: TypeAlias = Mapping[str, str]
MICROSECONDS = 1e6


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a process that does not serve uses.

    Attributes:
        kind: ``api``, ``worker``, ``stream`` or ``up``.
        process_id: Its id.
        address: Where it answers; empty when it does not.
        started_at_s: When it started, in seconds since 1970 UTC.
        cpu_s: Processor time it has used.
        memory_bytes: Memory in use.
    """

    kind: str
    process_id: int
    address: str
    started_at_s: float
    cpu_s: float
    memory_bytes: int


class Reading(msgspec.Struct, frozen=True):
    """What was there to see at a moment.

    Attributes:
        at_s: When, in seconds since 1970 UTC.
        serving: What the serving processes had measured.
        others: What the other processes use.
    """

    at_s: float
    serving: Sequence[Measured]
    others: Sequence[Usage]


class RouteFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A version that answers on a route of a deployment, over all processes.

    Attributes:
        deployment: The deployment.
        route: ``champion``, ``challenger``, ``shadow`` or ``fallback``.
        version: Number of the version; 0 for a constant.
        model: Name of the model; empty where it is not loaded any more.
        engine: What computes it.
        per_s: Answers a second; of a shadow, rows that it scored.
        p50_ms: Median of the time to answer; none without answers.
        p99_ms: 99th percentile.
        batch_rows: Mean rows of a batch.
        queue_rows: Rows that wait now.
        errors_per_s: Rows a second that it was asked for in vain.
        is_open: Whether its circuit is open.
    """

    deployment: str
    route: str
    version: int
    model: str
    engine: str
    per_s: float
    p50_ms: float | None
    p99_ms: float | None
    batch_rows: float | None
    queue_rows: int
    errors_per_s: float
    is_open: bool


class DeploymentFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment over all processes.

    Attributes:
        deployment: The deployment.
        fallbacks_per_s: Answers a second by a fallback, by why.
        log_waiting_bytes: Scores that are not in the table yet.
        log_lag_s: How old the oldest of them is.
    """

    deployment: str
    fallbacks_per_s: Mapping[str, float]
    log_waiting_bytes: int
    log_lag_s: float


class ProcessFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A process.

    Attributes:
        kind: What it is.
        worker: Its place among those that share its address; none for one that does not serve.
        process_id: Its id.
        address: Where it answers.
        up_s: For how long it has run.
        cpu: Cores it uses: 1 is one of them, wholly.
        memory_bytes: Memory in use.
        requests_per_s: HTTP requests a second; none for one that does not serve.
        refused_per_s: Those that were answered with an error, 4xx or 5xx.
    """

    kind: str
    worker: int | None
    process_id: int
    address: str
    up_s: float
    cpu: float
    memory_bytes: int
    requests_per_s: float | None
    refused_per_s: float | None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """All that is shown at once.

    Attributes:
        routes: By deployment, route and version.
        deployments: By name.
        processes: Those that serve first.
    """

    routes: Sequence[RouteFigures]
    deployments: Sequence[DeploymentFigures]
    processes: Sequence[ProcessFigures]


class _Worker:
    """What one process measured, and what of it came since an earlier reading."""

    def __init__(self, now: Measured, before: Measured | None) -> None:
        self.now = now
        self._families = _named(now)
        self._earlier = _named(before) if before else {}
        took_us = now.at_us - before.at_us if before else 0
        self.took_s = took_us / MICROSECONDS

    def values(self, name: str) -> Iterator[tuple[Labels, float]]:
        """The samples of a family."""
        family = self._families.get(name)
        for sample in family.samples if family else ():
            yield sample.labels, sample.value

    def rates(self, name: str) -> Iterator[tuple[Labels, float]]:
        """How fast the counters of a family grow, a second."""
        if self.took_s <= 0:
            return
        earlier = self._earlier.get(name)
        known = {_key(one.labels): one.value for one in (earlier.samples if earlier else ())}
        for labels, value in self.values(name):
            yield labels, (value - known.get(_key(labels), 0.0)) / self.took_s

    def grown(self, name: str) -> Iterator[tuple[Labels, list[int], float, Sequence[float]]]:
        """What the histograms of a family gained: counts, sum, and their bounds."""
        family, earlier = self._families.get(name), self._earlier.get(name)
        known = {_key(one.labels): one for one in (earlier.histograms if earlier else ())}
        if self.took_s <= 0 or family is None:
            return
        for one in family.histograms:
            old = known.get(_key(one.labels))
            before = old.counts if old else [0] * len(one.counts)
            counts = [new - had for new, had in zip(one.counts, before, strict=True)]
            yield one.labels, counts, one.total - (old.total if old else 0.0), family.bounds

    def total(self, name: str) -> float:
        """The one sample of a family."""
        return sum(value for _, value in self.values(name))


def figures(before: Reading, now: Reading) -> Figures:
    """What happened between two readings.

    A process that was not there before counts from its next reading on.
    """
    known = {(one.process_id, one.started_at_s): one for one in before.serving}
    workers = [_Worker(one, known.get((one.process_id, one.started_at_s))) for one in now.serving]
    return Figures(
        routes=list(_routes(workers)),
        deployments=list(_deployments(workers)),
        processes=[*_serving(workers, now.at_s), *_others(before, now)],
    )


def _routes(workers: Sequence[_Worker]) -> Iterator[RouteFigures]:
    rates: dict[Key, float] = {}
    errors: dict[Key, float] = {}
    queues: dict[Key, float] = {}
    told: dict[Key, Labels] = {}
    spreads: dict[Key, list[int]] = {}
    batches: dict[Key, tuple[float, float]] = {}
    is_open: set[tuple[str, str]] = set()
    bounds: Sequence[float] = ()
    for worker in workers:
        for labels, _ in worker.values("penstock_model_info"):
            told[_of(labels)] = labels
        _add(rates, worker.rates("penstock_scores_total"))
        _add(errors, worker.rates("penstock_score_errors_total"))
        _add(queues, worker.values("penstock_queue_rows"))
        for labels, value in worker.values("penstock_circuit_open"):
            if value:
                is_open.add((labels["deployment"], labels["version"]))
        for labels, counts, _, its_bounds in worker.grown("penstock_score_seconds"):
            key, bounds = _of(labels), its_bounds
            spreads[key] = [
                a + b for a, b in zip(spreads.get(key, [0] * len(counts)), counts, strict=True)
            ]
        for labels, counts, rows, _ in worker.grown("penstock_batch_rows"):
            if _of(labels)[1] == "shadow":  # nobody waits for its answers: its rows count
                _add(rates, [(labels, rows / worker.took_s)])
            number, so_far = batches.get(_of(labels), (0.0, 0.0))
            batches[_of(labels)] = (number + sum(counts), so_far + rows)
    for key in sorted({*told, *(key for key, rate in rates.items() if rate)}):
        deployment, route, version = key
        number, rows = batches.get(key, (0.0, 0.0))
        spread = spreads.get(key, [])
        yield RouteFigures(
            deployment=deployment,
            route=route,
            version=int(version),
            model=told.get(key, {}).get("model", ""),
            engine=told.get(key, {}).get("engine", ""),
            per_s=rates.get(key, 0.0),
            p50_ms=_quantile_ms(0.5, spread, bounds),
            p99_ms=_quantile_ms(0.99, spread, bounds),
            batch_rows=rows / number if number else None,
            queue_rows=int(queues.get(key, 0)),
            errors_per_s=errors.get(key, 0.0),
            is_open=(deployment, version) in is_open,
        )


def _deployments(workers: Sequence[_Worker]) -> Iterator[DeploymentFigures]:
    causes: dict[str, dict[str, float]] = {}
    waiting: dict[str, float] = {}
    lags: dict[str, float] = {}
    for worker in workers:
        for labels, rate in worker.rates("penstock_fallbacks_total"):
            own = causes.setdefault(labels["deployment"], {})
            own[labels["cause"]] = own.get(labels["cause"], 0.0) + rate
        # Each worker sees the whole log: the last word counts.
        for labels, value in worker.values("penstock_score_log_waiting_bytes"):
            waiting[labels["deployment"]] = value
        for labels, value in worker.values("penstock_score_log_lag_seconds"):
            lags[labels["deployment"]] = value
    for name in sorted(waiting):
        yield DeploymentFigures(
            deployment=name,
            fallbacks_per_s={cause: rate for cause, rate in causes.get(name, {}).items() if rate},
            log_waiting_bytes=int(waiting[name]),
            log_lag_s=lags.get(name, 0.0),
        )


def _serving(workers: Sequence[_Worker], at_s: float) -> Iterator[ProcessFigures]:
    for worker in workers:
        requests = refused = 0.0
        for labels, rate in worker.rates("penstock_http_requests_total"):
            requests += rate
            refused += rate if labels["status"] >= "400" else 0.0
        yield ProcessFigures(
            kind="serve",
            worker=worker.now.worker,
            process_id=worker.now.process_id,
            address=worker.now.address,
            up_s=at_s - worker.now.started_at_s,
            cpu=sum(rate for _, rate in worker.rates("process_cpu_seconds_total")),
            memory_bytes=int(worker.total("process_resident_memory_bytes")),
            requests_per_s=requests,
            refused_per_s=refused,
        )


def _others(before: Reading, now: Reading) -> Iterator[ProcessFigures]:
    known = {(one.process_id, one.started_at_s): one for one in before.others}
    took_s = now.at_s - before.at_s
    for one in now.others:
        old = known.get((one.process_id, one.started_at_s))
        used_s = one.cpu_s - old.cpu_s if old else 0.0
        yield ProcessFigures(
            kind=one.kind,
            worker=None,
            process_id=one.process_id,
            address=one.address,
            up_s=now.at_s - one.started_at_s,
            cpu=used_s / took_s if took_s > 0 else 0.0,
            memory_bytes=one.memory_bytes,
            requests_per_s=None,
            refused_per_s=None,
        )


def _quantile_ms(share: float, counts: Sequence[int], bounds_s: Sequence[float]) -> float | None:
    """A quantile, as if what lies between two bounds were spread evenly; the last bound at most."""
    total = sum(counts)
    if not total:
        return None
    rank, below = share * total, 0
    for place, count in enumerate(counts[:-1]):
        if below + count >= rank:
            low = bounds_s[place - 1] if place else 0.0
            inside = (rank - below) / count
            return 1_000 * (low + inside * (bounds_s[place] - low))
        below += count
    return 1_000 * bounds_s[-1]


def _named(measured: Measured) -> dict[str, Family]:
    return {family.name: family for family in measured.families}


def _key(labels: Labels) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def _of(labels: Labels) -> Key:
    """Deployment, route and version; a role says its route."""
    role = labels.get("role", "")
    route = "fallback" if role == "previous" else role.partition(" ")[0]
    return labels["deployment"], labels.get("route", route), labels["version"]


def _add(into: dict[Key, float], found: Iterable[tuple[Labels, float]]) -> None:
    for labels, value in found:
        key = _of(labels)
        into[key] = into.get(key, 0.0) + value
