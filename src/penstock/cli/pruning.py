"""The command that removes scores that have been kept long enough."""

from __future__ import annotations

import typer

from penstock.control import PrunedScores, prune_scores

from .humanise import count, moment
from .opening import opened_as
from .screen import Screen, table

__all__ = ["scores_prune"]


def scores_prune(
    screen: Screen,
    deployment: str = typer.Argument(default="", help="The deployment; all when left out."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would be removed."),
) -> None:
    """Remove scores that are older than their deployment keeps them."""
    with opened_as(screen, "reader" if dry_run else "admin") as services:
        now_us = services.clock.now_us()
        found = prune_scores(
            services, now_us=now_us, deployment=deployment or None, dry_run=dry_run
        )
    value = {"dry_run": dry_run, "deployments": found}
    if not found:
        whose = f"Deployment {deployment!r} keeps" if deployment else "All deployments keep"
        screen.show(value, f"✓ {whose} scores for ever. ps.ScoreLog(keep='90d') says otherwise.")
        return
    title = "scores to remove" if dry_run else "scores removed"
    columns = ["deployment", "keeps", "made before", title, "without an outcome"]
    screen.show(value, table(columns, [_row(one) for one in found], right=columns[3:]))
    for one in found:
        if one.held_by:
            held = f"The experiment {one.held_by!r} of {one.deployment!r} is under way and holds"
            screen.hint(f"{held} what was scored since it began.")
    if dry_run:
        screen.hint("Nothing was removed. Leave out --dry-run to remove them.")


def _row(one: PrunedScores) -> list[str]:
    before = moment(one.before_us)
    return [one.deployment, one.keep, before, count(one.rows), count(one.unobserved)]
