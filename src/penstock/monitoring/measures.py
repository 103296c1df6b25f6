"""Measurements against their bounds. Pure: frames in, checks out.

With fewer rows than a bound asks for, or rows that do not define the value, there is no verdict:
the value is none, nothing is breached, and the reason says what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.algebra import compute_metric, count_bins, psi
from penstock.errors import StateError
from penstock.records import Check

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from penstock.records import Manifest
    from penstock.spec import AccuracyBound, DriftBound, LatencyBound

__all__ = ["accuracy_check", "drift_checks", "latency_check"]

P99 = 0.99


def drift_checks(scores: pl.DataFrame, manifest: Manifest, bound: DriftBound) -> tuple[Check, ...]:
    """Measure the population stability index of each feature.

    Args:
        scores: Scores of one version; ``features`` as lists of float64 in the manifest's order,
            ``withheld`` the names of those among them that are not stored as they were.
        manifest: The version's manifest, with the spread of its training rows.
        bound: The bound.

    Returns:
        One check per feature, in the manifest's order.

    Raises:
        StateError: A score has another number of features than its manifest.
    """
    rows = scores.height
    if rows < bound.min_rows:
        few = _too_few(rows, bound.min_rows, "scores", bound.over)
        return tuple(
            Check(
                name="drift", subject=name, value=None, bound=bound.max, rows=rows, breached=False,
                reason=few,
            )
            for name in manifest.features
        )  # fmt: skip
    columns = _columns(scores["features"], len(manifest.features), manifest)
    withheld = {name for names in scores["withheld"].unique() for name in names.split(",")}
    checks: list[Check] = []
    for name, column in zip(manifest.features, columns, strict=True):
        if name in withheld:
            checks.append(
                Check(
                    name="drift", subject=name, value=None, bound=bound.max, rows=rows,
                    breached=False, reason="no verdict: the score log does not store its values",
                )
            )  # fmt: skip
            continue
        bins = manifest.bins[name]
        value = psi(bins.counts, count_bins(column, bins.edges))
        breached = value > bound.max
        reason = (
            f"psi {value:.3f} is {'above' if breached else 'within'} {bound.max:g} "
            f"({rows} scores in {bound.over})"
        )
        checks.append(
            Check(
                name="drift", subject=name, value=value, bound=bound.max, rows=rows,
                breached=breached, reason=reason,
            )
        )  # fmt: skip
    return tuple(checks)


def accuracy_check(observed: pl.DataFrame, bound: AccuracyBound) -> Check:
    """Measure a metric over scores whose outcome is known.

    Args:
        observed: ``prediction`` and ``value`` (what came true), both float64 and finite.
        bound: The bound.
    """
    low = bound.max is None
    limit = float(bound.min or 0.0) if bound.max is None else bound.max
    rows = observed.height
    value, breached = None, False
    if rows < bound.min_rows:
        reason = _too_few(rows, bound.min_rows, "observed scores", bound.over)
    else:
        value = compute_metric(bound.metric, observed["value"], observed["prediction"])
        if value is None:
            reason = (
                f"{rows} observed scores in {bound.over} do not define {bound.metric}; "
                "they are all of one kind"
            )
        else:
            breached = value < limit if low else value > limit
            side = "below" if low else "above"
            reason = (
                f"{bound.metric} {value:.4f} is {side if breached else 'within'} {limit:g} "
                f"({rows} observed scores in {bound.over})"
            )
    return Check(
        name="accuracy", subject=bound.metric, value=value, bound=limit, rows=rows,
        breached=breached, reason=reason,
    )  # fmt: skip


def latency_check(duration_us: pl.Series, bound: LatencyBound) -> Check:
    """Measure the 99th percentile: the smallest time that 99 of 100 answers do not exceed.

    Args:
        duration_us: Time of each answer in microseconds, int64.
        bound: The bound; the check's value and bound are in microseconds.
    """
    rows, limit = len(duration_us), float(bound.max_us)
    value, breached = None, False
    if rows < bound.min_rows:
        reason = _too_few(rows, bound.min_rows, "answers", bound.over)
    else:
        value = float(np.quantile(duration_us.to_numpy(), P99, method="inverted_cdf"))
        breached = value > limit
        reason = (
            f"p99 of {value / 1000:.2f} ms is {'above' if breached else 'within'} {bound.max} "
            f"({rows} answers in {bound.over})"
        )
    return Check(
        name="latency", subject="p99", value=value, bound=limit, rows=rows, breached=breached,
        reason=reason,
    )  # fmt: skip


def _too_few(rows: int, needed: int, what: str, over: str) -> str:
    return f"no verdict: {rows} {what} in {over}, {needed} needed"


def _columns(features: pl.Series, width: int, manifest: Manifest) -> NDArray[np.float64]:
    """The lists as one float64 row per feature, NaN for null."""
    if (features.list.len() != width).any():
        raise StateError(
            f"Scores of {manifest.model}@{manifest.version} have another number of features than "
            f"its manifest's {width}; the scores table was altered.",
            expected=width,
        )
    flat = features.explode().to_numpy().astype(np.float64)
    return np.ascontiguousarray(flat.reshape(-1, width).T)
