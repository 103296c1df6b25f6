"""What the serving processes have counted by version, read from the boards they write."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from penstock.errors import NotLoggedError
from penstock.records import ProcessCounts, VersionCounts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .measured import Labels, Measured

__all__ = ["version_counts"]

ANSWERING = frozenset({"champion", "challenger"})
LATE = "late"
BLAMELESS = NotLoggedError("").kind
"""What a row fails with that says nothing of the version it was asked of."""


def version_counts(measured: Iterable[Measured]) -> list[ProcessCounts]:
    """What the versions of each deployment have done in each process, shadows left out.

    Args:
        measured: What the living processes have measured.
    """
    return [found for one in measured for found in _of_process(one)]


def _of_process(one: Measured) -> list[ProcessCounts]:
    counts: defaultdict[tuple[str, str], VersionCounts] = defaultdict(VersionCounts)
    for family in one.families:
        if family.name == "penstock_score_seconds":
            bounds_us = tuple(round(bound_s * 1e6) for bound_s in family.bounds)
            for histogram in family.histograms:
                buckets = tuple(histogram.counts)
                more = VersionCounts(answers=sum(buckets), buckets=buckets, bounds_us=bounds_us)
                _add(counts, histogram.labels, more)
        elif family.name == "penstock_score_errors_total":
            for sample in family.samples:
                if sample.labels["kind"] == BLAMELESS:
                    continue
                late = sample.labels["kind"] == LATE
                number = int(sample.value)
                more = VersionCounts(errors=0 if late else number, late=number if late else 0)
                _add(counts, sample.labels, more)
    process = f"{one.process_id}-{one.started_at_s:.2f}"
    deployments: defaultdict[str, dict[str, VersionCounts]] = defaultdict(dict)
    for (deployment, version), found in counts.items():
        deployments[deployment][version] = found
    return [
        ProcessCounts(process=process, deployment=name, versions=versions)
        for name, versions in deployments.items()
    ]


def _add(
    counts: defaultdict[tuple[str, str], VersionCounts], labels: Labels, more: VersionCounts
) -> None:
    if labels["route"].partition(" ")[0] in ANSWERING:
        key = (labels["deployment"], labels["version"])
        counts[key] = counts[key].plus(more)
