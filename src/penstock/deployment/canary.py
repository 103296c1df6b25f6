"""A canary's step: the share it gives the new version, and how that compares with the champion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.records import DeployCheck

from .routed import changes_of
from .splits import split_put

if TYPE_CHECKING:
    from penstock.ports import Put, Services
    from penstock.records import Rollout, VersionCounts
    from penstock.spec import Canary

__all__ = ["compare_counts", "compare_metric", "has_share", "share_back", "share_put", "target_of"]

P99 = 0.99


def target_of(rollout: Rollout) -> str:
    """What a rollout's version is called among the routes: ``@3``."""
    return f"@{rollout.version}"


def share_put(services: Services, rollout: Rollout, share: float) -> Put:
    """The conditional write that gives the new version a share of the entities.

    Args:
        services: The ports; uses metadata and the clock.
        rollout: The rollout.
        share: The share.

    Raises:
        DeclarationError: It does not go together with the other routes.
    """
    return split_put(
        services,
        rollout.deployment,
        {target_of(rollout): share},
        reason=f"canary of {rollout.label}",
    )


def share_back(services: Services, rollout: Rollout) -> tuple[Put, ...]:
    """The conditional write that takes the new version's share back; nothing where it has none.

    It has none any more where its deployment is declared no more, or other routes are.

    Args:
        services: The ports; uses metadata and the clock.
        rollout: The rollout.
    """
    has_any = target_of(rollout) in changes_of(services.metadata, rollout.deployment).shares
    return (share_put(services, rollout, 0.0),) if has_any else ()


def has_share(services: Services, rollout: Rollout, share: float) -> bool:
    """Whether the new version still has the share that its step gave it."""
    changes = changes_of(services.metadata, rollout.deployment)
    return changes.shares.get(target_of(rollout)) == share


def compare_counts(
    plan: Canary, new: VersionCounts, champion: VersionCounts
) -> tuple[DeployCheck, ...]:
    """Compare what both versions have done in the same time.

    With fewer than ``min_scores`` asked of the new version, only errors and late answers that it
    can no longer make good are breaches: more of them than the whole step allows. Latency is
    compared where the champion has answered too.

    Args:
        plan: The canary's plan.
        new: What the new version has done since the step began.
        champion: What the champion has done.
    """
    whole = max(new.asked, plan.min_scores)
    found = [
        _share("errors", new.errors, whole, champion.errors, champion.asked, plan.max_errors),
        _share("late", new.late, whole, champion.late, champion.asked, plan.max_late),
    ]
    if new.answers >= plan.min_scores and champion.answers:
        found.append(_latency(plan, new, champion))
    return tuple(found)


def compare_metric(
    plan: Canary,
    new: tuple[float | None, int],
    champion: tuple[float | None, int],
    *,
    smaller_is_better: bool,
) -> DeployCheck:
    """Compare a metric over the answers whose outcomes have come.

    Args:
        plan: The canary's plan.
        new: The new version's metric, and the number of outcomes.
        champion: The champion's.
        smaller_is_better: Whether a smaller value of the metric is better.
    """
    mine, others = new[0], champion[0]
    if min(new[1], champion[1]) < plan.min_observed or mine is None or others is None:
        reason = f"not compared: {new[1]} and {champion[1]} outcomes, {plan.min_observed} needed"
        return DeployCheck(kind="canary", name=plan.metric, passed=True, reason=reason)
    worse = mine - others if smaller_is_better else others - mine
    return DeployCheck(
        kind="canary",
        name=plan.metric,
        passed=worse <= plan.metric_drop,
        reason=f"{mine:.4f}, the champion's {others:.4f}; {new[1]} and {champion[1]} outcomes",
        value=mine,
        bound=others,
    )


def _share(  # noqa: PLR0913, PLR0917 - two counts of two, and the bound
    name: str, count: int, of: int, other: int, of_other: int, most: float
) -> DeployCheck:
    mine, others = count / max(of, 1), other / max(of_other, 1)
    return DeployCheck(
        kind="canary",
        name=name,
        passed=mine - others <= most,
        reason=f"{count} of {of} ({mine:.2%}), the champion's {others:.2%}",
        value=mine,
        bound=others + most,
    )


def _latency(plan: Canary, new: VersionCounts, champion: VersionCounts) -> DeployCheck:
    mine, others = new.quantile_us(P99), champion.quantile_us(P99)
    most = max(others * plan.latency, plan.latency_floor_us)
    return DeployCheck(
        kind="canary",
        name="latency, p99 in us",
        passed=mine <= most,
        reason=f"within {mine:,}, the champion's within {others:,}, {most:,.0f} allowed",
        value=float(mine),
        bound=float(most),
    )
