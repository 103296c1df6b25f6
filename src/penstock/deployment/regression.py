"""Stored requests asked again of a new version: how its answers differ from those given then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from penstock.records import DeployCheck, Difference, Regression

from .proof import THRESHOLD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from penstock.spec import Checks

    Floats = NDArray[np.float64]

__all__ = ["Replayed", "compare_answers", "regression_checks"]

SHOWN = 20
ROUNDING = 1e-9
"""A smaller difference is that of another order of additions, and counts as none."""
QUANTILES = (0.5, 0.9, 0.99)


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """Stored requests with both answers.

    Attributes:
        ids: The scores' ids.
        before: What was answered, ``float64[n]``, finite.
        after: What the new version says, ``float64[n]``; not finite where it has no answer.
        against: ``model@version`` of each answer.
        skipped: How many stored requests could not be asked, by why.
        classifies: Whether the answers are probabilities.
    """

    ids: Sequence[str]
    before: Floats
    after: Floats
    against: Sequence[str]
    skipped: Mapping[str, int]
    classifies: bool


def compare_answers(found: Replayed) -> Regression:
    """Count and measure the differences.

    Args:
        found: The requests with both answers.
    """
    finite = np.isfinite(found.after)
    difference = np.abs(found.after - found.before)[finite]
    difference[difference < ROUNDING] = 0.0
    flips = (found.before >= THRESHOLD) != (found.after >= THRESHOLD)
    counted = Counter(found.against)
    quantiles = (
        np.quantile(difference, QUANTILES, method="inverted_cdf").tolist()
        if len(difference)
        else [0.0, 0.0, 0.0]
    )
    return Regression(
        rows=len(found.ids),
        skipped=dict(found.skipped),
        against=tuple(label for label, _ in counted.most_common()),
        mean_difference=float(difference.mean()) if len(difference) else 0.0,
        max_difference=float(difference.max(initial=0.0)),
        quantiles=(quantiles[0], quantiles[1], quantiles[2]),
        flips=int((flips & finite).sum()) if found.classifies else 0,
        failed=int((~finite).sum()),
        most=tuple(_most(found)),
    )


def regression_checks(found: Regression, checks: Checks) -> tuple[DeployCheck, ...]:
    """The differences against the declared bounds; without a bound they are only shown.

    Requests that have no answer any more always break.

    Args:
        found: The differences.
        checks: The declared checks.
    """
    if not found.rows:
        said = ", ".join(f"{count} {why}" for why, count in found.skipped.items())
        reason = f"no stored request could be asked again: {said or 'there is none'}"
        return (DeployCheck(kind="replay", name="answers", passed=True, reason=reason),)
    share = found.flips / found.rows
    named = (
        ("mean difference", found.mean_difference, checks.mean_difference),
        ("max difference", found.max_difference, checks.max_difference),
        ("flips", share, checks.max_flips),
    )
    answered = DeployCheck(
        kind="replay",
        name="answers",
        passed=not found.failed,
        reason=f"{found.failed} of {found.rows} requests have no finite prediction",
        value=float(found.failed),
    )
    return (answered, *[_bounded(*one) for one in named])


def _bounded(name: str, value: float, bound: float | None) -> DeployCheck:
    passed = bound is None or value <= bound
    side = "" if bound is None else f", {'within' if passed else 'above'} {bound:g}"
    return DeployCheck(
        kind="replay", name=name, passed=passed, reason=f"{value:.4g}{side}", value=value,
        bound=bound,
    )  # fmt: skip


def _most(found: Replayed) -> Iterator[Difference]:
    difference = np.abs(found.after - found.before)
    difference[~np.isfinite(difference)] = np.inf  # without an answer is the greatest of all
    order: list[int] = np.argsort(-difference, kind="stable").tolist()
    for place in order[:SHOWN]:
        if difference[place] < ROUNDING:
            return
        after = float(found.after[place])
        yield Difference(
            prediction_id=found.ids[place],
            before=float(found.before[place]),
            after=after if np.isfinite(after) else None,
        )
