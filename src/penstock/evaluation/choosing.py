"""Which features are kept: pure rules over what was measured of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from penstock.records import FeatureRank, RankVerdict

__all__ = ["REDUNDANT", "SIGNIFICANCE", "choose", "group", "mean_ranks"]

REDUNDANT = 0.9
"""Features whose Spearman correlation is at least this, either way, say the same."""

SIGNIFICANCE = 0.01
"""The probability, over all features together, of taking chance for evidence."""

SURE = 2.0
"""An importance counts from this many of its standard deviations."""


def mean_ranks(columns: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """The mean over measures of each one's rank, from 0 for the best of all to 1 for the worst.

    Args:
        columns: Per measure, the value of each feature; NaN where it was not measured. Greater is
            better; equal values share their mean rank.

    Returns:
        float64 ``[features]``; of each feature, over the measures it has.
    """
    ranks = [_rank(np.asarray(column, dtype=np.float64)) for column in columns]
    found: NDArray[np.float64] = np.nanmean(np.vstack(ranks), axis=0)
    return found


def group(order: Sequence[int], rho: NDArray[np.float64]) -> NDArray[np.int64]:
    """Group features that correlate: each goes with the first before it that it correlates with.

    Args:
        order: Places of the features, the best first. The best one not yet in a group opens the
            next, and all that correlate with it by ``REDUNDANT`` or more join.
        rho: Correlations, ``[features, features]``.

    Returns:
        Per feature, the place of the one that stands for its group: itself, when it does.
    """
    lead = np.full(len(order), -1, dtype=np.int64)
    for place in order:
        if lead[place] < 0:
            near = np.abs(rho[place]) >= REDUNDANT
            near[place] = True
            lead[near & (lead < 0)] = place
    return lead


def choose(
    found: Sequence[FeatureRank], features: Sequence[str], top: int
) -> tuple[tuple[str, ...], tuple[FeatureRank, ...]]:
    """Rank the features and decide which are kept.

    Kept is what is the best of its group and has evidence: a chi-square below ``SIGNIFICANCE``
    shared out over the features, or an importance of ``SURE`` standard deviations. Where nothing
    has, the best one is kept, since a dataset needs a feature. Features rank by the mean of their
    ranks in each measure; those with evidence come before the redundant and the noise.

    Args:
        found: What was measured of each feature; ``rank`` and ``verdict`` are made here, save for
            the verdicts ``constant`` and ``redundant``.
        features: Their names in the dataset's order.
        top: Keep at most so many; 0 for no limit.

    Returns:
        The kept names in the dataset's order, and the features by rank.
    """
    live = [one for one in found if one.verdict != "constant"]
    scores = mean_ranks(
        [
            [_number(one.chi2) for one in live],
            [_number(one.mutual_information) for one in live],
            [_number(one.importance) for one in live],
        ]
    ) if live else np.empty(0)  # fmt: skip
    score = {one.name: float(value) for one, value in zip(live, scores, strict=True)}
    place = {name: index for index, name in enumerate(features)}
    ordered = sorted(found, key=lambda one: (score.get(one.name, 2.0), place[one.name]))
    verdicts = _verdicts(ordered, top, SIGNIFICANCE / max(len(live), 1))
    classes = {"kept": 0, "beyond top": 0, "redundant": 1, "noise": 1, "constant": 2}
    ordered.sort(key=lambda one: classes[verdicts[one.name]])
    ranks = tuple(
        msgspec.structs.replace(one, rank=index, verdict=verdicts[one.name])
        for index, one in enumerate(ordered, 1)
    )
    return tuple(name for name in features if verdicts[name] == "kept"), ranks


def _verdicts(ordered: Sequence[FeatureRank], top: int, bound: float) -> Mapping[str, RankVerdict]:
    leads = [one for one in ordered if one.verdict == "kept"]
    told = [one.name for one in leads if _evident(one, bound)] or [one.name for one in leads[:1]]
    kept = set(told[:top] if top else told)
    verdicts: dict[str, RankVerdict] = {one.name: one.verdict for one in ordered}
    for one in leads:
        if one.name not in kept:
            verdicts[one.name] = "beyond top" if one.name in told else "noise"
    return verdicts


def _evident(one: FeatureRank, bound: float) -> bool:
    if one.chi2_p is not None and one.chi2_p < bound:
        return True
    loss, spread = one.importance or 0.0, one.importance_std or 0.0
    return loss > 0 and loss >= SURE * spread


def _rank(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each value from 0 (greatest) to 1 (least); NaN for NaN."""
    ranks = np.full(len(column), np.nan)
    known = np.flatnonzero(~np.isnan(column))
    if not len(known):
        return ranks
    _, place, times = np.unique(-column[known], return_inverse=True, return_counts=True)
    last = np.cumsum(times) - 1
    middle = last - (times - 1) / 2
    ranks[known] = middle[place] / max(len(known) - 1, 1)
    return ranks


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
