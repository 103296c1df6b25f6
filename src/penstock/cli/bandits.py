"""The commands about bandits: list, show."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from penstock.control import bandits, find_bandit
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.spec import Deployment

from .humanise import ago, count
from .screen import Screen, table

if TYPE_CHECKING:
    from penstock.records import BanditArm, BanditState

__all__ = ["bandits_list", "bandits_show"]

COLUMNS = ["arm", "version", "share", "best", "scores", "entities", "mean reward", "by propensity"]


def bandits_list(screen: Screen) -> None:
    """List bandits, and those that are declared and have set no shares yet."""
    with open_services(screen.home) as services:
        found = bandits(services.metadata)
        declared = Catalogue.load(services.metadata).all(Deployment)
    known = {one.key for one in found if not one.ended}
    waiting = [
        f"{one.name}/{one.bandit.name}"
        for one in declared
        if one.bandit is not None and f"{one.name}/{one.bandit.name}" not in known
    ]
    rows = [[one.name, one.deployment, _shares(one), one.ended or one.held or "-"] for one in found]
    shown: list[object] = []
    if rows:
        shown.append(table(["bandit", "deployment", "shares", ""], rows))
    shown += [f"{name} waits for a champion, and the worker's next look." for name in waiting]
    nothing = "No bandit is declared. Give a deployment bandit=ps.Bandit(...)."
    screen.show({"bandits": found, "waiting": waiting}, *(shown or [nothing]))


def bandits_show(
    screen: Screen,
    name: str = typer.Argument(help="The bandit; DEPLOYMENT/NAME where several have that name."),
) -> None:
    """Show a bandit: the share of each arm, the chance that it is the best, what it brought."""
    with open_services(screen.home) as services:
        found = find_bandit(services.metadata, name)
        now = services.clock.now()
    at = datetime.fromtimestamp(found.at_us / 1e6, tz=UTC)
    metric = found.plan.get("metric", "outcome")
    head = f"{found.name} on {found.deployment}, by {metric}; looked at {ago(at, now)}."
    shown: list[object] = [
        head,
        table(COLUMNS, [_row(arm) for arm in found.arms], right=COLUMNS[2:]),
    ]
    shown += [escape(f"{arm.target}: {arm.reason}") for arm in found.arms if arm.reason]
    if found.held or found.ended:
        shown.append(escape(f"It leaves the shares alone: {found.ended or found.held}."))
    elif any(arm.chance is None for arm in found.arms if arm.version):
        shown.append("Even shares, until every arm has scores enough.")
    screen.show(found, *shown)


def _shares(found: BanditState) -> str:
    return ", ".join(f"{arm.target} {100 * arm.share:.4g} %" for arm in found.arms)


def _row(arm: BanditArm) -> list[object]:
    would = "-" if arm.weighed is None else f"{arm.weighed:.4g}"
    if arm.error is not None:
        would += f" ± {arm.error:.2g}"
    return [
        arm.target,
        arm.version or "-",
        f"{100 * arm.share:.4g} %",
        "-" if arm.chance is None else f"{100 * arm.chance:.3g} %",
        count(arm.scores),
        count(arm.entities),
        "-" if arm.mean is None else f"{arm.mean:.4g}",
        would,
    ]
