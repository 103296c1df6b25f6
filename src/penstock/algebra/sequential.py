"""Comparing two arms as often as one likes: an interval and a test that hold at every look.

The law, written once:

- The unit that is assigned is the entity; scores of one entity depend on each other. The mean of an
  arm is over its scores, ``sum(s_i) / sum(n_i)`` with the sum and the number of each entity's
  scores, and its variance is that of a ratio of sums over independent entities (the linearised, or
  cluster-robust, variance): ``sum((s_i - mean * n_i)**2) / n**2``.
- The interval of the difference is the asymptotic confidence sequence of Waudby-Smith, Arbour,
  Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence
  sequences" (Annals of Statistics 52, 2024), theorem 2.2: a normal mixture over the sum. With
  ``n`` scores, ``v`` the variance of the difference, ``V = n**2 * v`` that of the sum and ``r``
  the mixture's, its half width is ``sqrt((V + r) * log((V + r) / (r * alpha**2))) / n``. The
  chance that it ever leaves the truth out, over all looks from the first, tends to at most
  ``alpha``.
- ``V`` and not ``n`` is the time of the sequence. Where scores of an entity go together, what it
  brings later goes with what it brought before; the sum then strays less between looks than one
  of independent steps with the same variances (Slepian), so the interval errs to the wide side.
  Where they go against each other ``V`` is taken as if they were independent, which is wider too.
- The share of entities in each arm is held against the one that was asked for by the ratio of
  likelihoods with a beta prior around it (Lindon and Malek, "Anytime-valid inference for
  multinomial count data", 2022): a martingale if the share is right, so the chance that it ever
  exceeds ``1 / level`` is at most ``level`` (Ville).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .arrays import FloatArray, IntArray

__all__ = ["ArmMean", "Compared", "arm_mean", "compare", "half_width", "ratio_evidence"]

CONCENTRATION = 1_000.0
"""How near to the share asked for the beta prior lies; as if so many entities had been seen."""


class ArmMean(NamedTuple):
    """What is known of one arm.

    Attributes:
        scores: How many scores it has.
        entities: Of how many entities.
        effective: As how many entities with equally many scores they count, ``n**2 / sum(n_i**2)``.
        mean: Mean over the scores; NaN without any.
        row_variance: Variance of one score's value; NaN with fewer than two.
        variance: Variance of the mean, by entities; NaN with fewer than two of them.
    """

    scores: int
    entities: int
    effective: float
    mean: float
    row_variance: float
    variance: float


class Compared(NamedTuple):
    """The difference of two means, the tried arm's less the other's, and its interval.

    Attributes:
        difference: The difference.
        low: Lower end.
        high: Upper end.
    """

    difference: float
    low: float
    high: float


def arm_mean(
    values: FloatArray,
    entities: IntArray,
    *,
    scores: FloatArray | None = None,
    spreads: FloatArray | None = None,
) -> ArmMean:
    """Summarise one arm, from its scores or from sums over some of them.

    Args:
        values: The value of each score, ``[n]``, finite; of several the mean.
        entities: Number of the entity of each, ``[n]``; any whole numbers.
        scores: Of how many scores each is the mean, ``[n]``; of one each when left out.
        spreads: Sum of the squares of what those scores differ from their mean by, ``[n]``; none
            when left out.
    """
    if not values.size:
        return ArmMean(0, 0, 0.0, math.nan, math.nan, math.nan)
    counts = np.ones(values.size) if scores is None else scores
    _, codes = np.unique(entities, return_inverse=True)
    by_entity = np.bincount(codes, weights=counts)
    total, known = float(counts.sum()), len(by_entity)
    mean = float(counts @ values) / total
    apart = values - mean
    residuals = np.bincount(codes, weights=counts * apart)
    spread = float(residuals @ residuals) / total**2
    within = 0.0 if spreads is None else float(spreads.sum())
    return ArmMean(
        scores=round(total),
        entities=known,
        effective=total**2 / float(by_entity @ by_entity),
        mean=mean,
        row_variance=(within + float(counts @ apart**2)) / (total - 1) if total > 1 else math.nan,
        variance=spread * known / (known - 1) if known > 1 else math.nan,
    )


def compare(tried: ArmMean, other: ArmMean, *, alpha: float, expected: int) -> Compared | None:
    """The difference of two arms with an interval that is valid at every look.

    Args:
        tried: The arm that is tried.
        other: The arm it is compared with.
        alpha: Chance that the interval ever leaves the true difference out.
        expected: Number of scores of both arms at which it is to be narrowest.

    Returns:
        None where an arm has fewer than two entities, or no value varies.
    """
    scores = tried.scores + other.scores
    variance = tried.variance + other.variance
    if not math.isfinite(variance):
        return None
    row = tried.row_variance / tried.scores + other.row_variance / other.scores
    if row <= 0:
        return None
    width = half_width(scores, scores * row, max(variance, row) / row, alpha, expected)
    difference = tried.mean - other.mean
    return Compared(difference, difference - float(width), difference + float(width))


def half_width(
    scores: FloatArray | int,
    unit: FloatArray | float,
    effect: FloatArray | float,
    alpha: float,
    expected: int,
) -> FloatArray:
    """Half the width of the confidence sequence of a mean or a difference of means.

    Args:
        scores: Number of scores, ``[n]`` or one.
        unit: Variance of one score's share in the sum: ``scores`` times the variance that the
            difference had if all scores were independent.
        effect: How many times that variance the true one is, at least 1 (the design effect).
        alpha: Chance that the truth is ever left out.
        expected: At so many independent scores it is narrowest, relative to its size.
    """
    number = np.asarray(scores, dtype=np.float64)
    once = np.asarray(unit, dtype=np.float64)
    bound = -2 * math.log(alpha)
    mixture = once * expected / (bound + math.log(bound + 1))
    grown = number * once * effect + mixture
    width: FloatArray = np.sqrt(grown * np.log(grown / mixture / alpha**2)) / number
    return width


def ratio_evidence(tried: int, other: int, share: float) -> float:
    """Evidence that entities do not fall to the arms as they should; 1 for none at all.

    It may be looked at any time: if they do fall so, the chance that it is ever as small as
    ``level`` is at most ``level``.

    Args:
        tried: Entities of the tried arm.
        other: Entities of the other.
        share: Share of the tried arm among both, as asked for, between 0 and 1.
    """
    first, second = CONCENTRATION * share, CONCENTRATION * (1 - share)
    likelihood = (
        _log_beta(first + tried, second + other)
        - _log_beta(first, second)
        - tried * math.log(share)
        - other * math.log1p(-share)
    )
    return min(1.0, math.exp(min(-likelihood, 0.0)))


def _log_beta(first: float, second: float) -> float:
    return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)
