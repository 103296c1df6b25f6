"""Which of several arms is the best, as far as their rewards say; and what each would have brought.

The law, written once:

- What is known of an arm's mean reward is a posterior: beta for rewards of 0 and 1, from an even
  prior; normal for others, with the variance of the mean. Scores of one entity depend on each
  other, so an arm's scores count as fewer where they go together: by the ratio of the variance by
  entities to that by scores (the design effect), never as more.
- The chance that an arm is the best is ``integral of f_k * product of F_j``, with the densities and
  distributions of the posteriors. Drawing from the posteriors and playing the greatest (Thompson
  sampling) plays each arm with just this chance; it is integrated here, so the same rewards give
  the same shares, without a seed.
- Each arm keeps ``floor``; the chances share out what is left.
- What an arm would have brought had it answered everything is estimated from the rewards it did
  bring, each weighed by one over the share that its arm had then (self-normalised inverse
  propensity): shares that moved while the world moved too do not bias it as they do the mean.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .arrays import FloatArray, IntArray
    from .sequential import ArmMean

__all__ = ["Weighed", "chances_best", "floored", "weighed"]

POINTS = 801
REACH = 9.0  # standard deviations to either side; beyond them there is nothing to see
NARROW = 1e-9


class Weighed(NamedTuple):
    """What an arm would have brought.

    Attributes:
        mean: The estimate of its mean reward; NaN without rewards.
        error: Its standard error, by entities; NaN with fewer than two of them.
    """

    mean: float
    error: float


def chances_best(arms: Sequence[ArmMean], *, binary: bool) -> FloatArray:
    """The chance of each arm that its mean reward is the greatest.

    Args:
        arms: What is known of each; at least one score each.
        binary: Whether every reward is 0 or 1.

    Returns:
        ``[arms]``, summing to 1.
    """
    posteriors = [_beta(arm) if binary else _normal(arm) for arm in arms]
    grid = np.unique(np.concatenate([points for points, _ in posteriors]))
    shares = [_cumulated(grid, points, density) for points, density in posteriors]
    chances = np.empty(len(arms))
    for place, own in enumerate(shares):
        others = np.ones_like(grid)
        for index, share in enumerate(shares):
            if index != place:
                others *= share
        chances[place] = np.sum(np.diff(own) * (others[1:] + others[:-1]) / 2)
    total: FloatArray = chances / chances.sum()
    return total


def floored(chances: FloatArray, floor: float) -> FloatArray:
    """Shares that leave every arm its floor.

    Args:
        chances: Summing to 1.
        floor: Share of every arm, at most an even one.
    """
    shares: FloatArray = floor + (1 - floor * len(chances)) * chances
    return shares


def weighed(rewards: FloatArray, propensities: FloatArray, entities: IntArray) -> Weighed:
    """What an arm would have brought, from the rewards that it did bring.

    Args:
        rewards: Of its scores, ``[n]``.
        propensities: The share that it had when each was given, ``[n]``, above 0.
        entities: Number of the entity of each, ``[n]``.
    """
    if not rewards.size:
        return Weighed(math.nan, math.nan)
    weights = 1 / propensities
    mean = float(weights @ rewards / weights.sum())
    _, codes = np.unique(entities, return_inverse=True)
    residuals = np.bincount(codes, weights=weights * (rewards - mean))
    known = len(residuals)
    if known < 2:  # noqa: PLR2004 - one entity has no spread
        return Weighed(mean, math.nan)
    spread = float(residuals @ residuals) * known / (known - 1)
    return Weighed(mean, math.sqrt(spread) / float(weights.sum()))


def _effect(arm: ArmMean) -> float:
    """As how many scores each counts for one: the design effect, at least 1."""
    if not arm.row_variance > 0 or not math.isfinite(arm.variance):
        return 1.0
    return max(1.0, arm.variance * arm.scores / arm.row_variance)


def _beta(arm: ArmMean) -> tuple[FloatArray, FloatArray]:
    scores = arm.scores / _effect(arm)
    first, second = 1 + arm.mean * scores, 1 + (1 - arm.mean) * scores
    middle = first / (first + second)
    width = math.sqrt(middle * (1 - middle) / (first + second + 1))
    points = np.linspace(max(0.0, middle - REACH * width), min(1.0, middle + REACH * width), POINTS)
    inner = np.clip(points, 1e-300, 1 - 1e-16)
    logs = (first - 1) * np.log(inner) + (second - 1) * np.log1p(-inner)
    return points, np.exp(logs - logs.max())


def _normal(arm: ArmMean) -> tuple[FloatArray, FloatArray]:
    row = arm.row_variance if math.isfinite(arm.row_variance) else 0.0
    width = math.sqrt(row * _effect(arm) / arm.scores)
    width = max(width, NARROW * (1 + abs(arm.mean)))
    steps = np.linspace(-REACH, REACH, POINTS)
    return arm.mean + width * steps, np.exp(-(steps**2) / 2)


def _cumulated(grid: FloatArray, points: FloatArray, density: FloatArray) -> FloatArray:
    """The distribution of a posterior at the points of the common grid."""
    steps = np.diff(points) * (density[1:] + density[:-1]) / 2
    sums = np.concatenate([[0.0], np.cumsum(steps)])
    found: FloatArray = np.interp(grid, points, sums / sums[-1], left=0.0, right=1.0)
    return found
