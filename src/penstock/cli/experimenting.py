"""The commands about experiments: list, show, stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import typer
from rich.markup import escape

from penstock.control import (
    RATIO_LEVEL,
    experiment_page,
    experiments,
    find_experiment,
    rail_word,
    sentence,
    stop_experiment,
    waiting_for,
)
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.spec import Deployment

from .failures import UsageError
from .humanise import ago, count
from .profiles import written
from .screen import Screen, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ports import Services
    from penstock.records import Arm, ExperimentState

__all__ = ["experiments_list", "experiments_show", "experiments_stop"]

BEGINS = "the worker begins it at its next look, where the version passes its checks"
NAME = typer.Argument(help="The experiment; DEPLOYMENT/NAME where several have one of that name.")


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment that is declared and has not begun.

    Attributes:
        deployment: Name of the deployment.
        name: Name of the experiment.
        waits_for: Why it has not begun; empty where the next look of the worker begins it.
    """

    deployment: str
    name: str
    waits_for: str


def experiments_list(screen: Screen) -> None:
    """List experiments, the newest first, and what those that are declared wait for."""
    with open_services(screen.home) as services:
        found = experiments(services.metadata)
        waiting = _waiting(services, found)
        now = services.clock.now()
    columns = ["experiment", "deployment", "tried", "against", "began", "stage", "verdict"]
    rows = [
        [one.name, one.deployment, one.label, f"@{one.champion}", ago(one.asked_at, now), one.stage,
         one.verdict or "-"]
        for one in found
    ]  # fmt: skip
    rows += [[one.name, one.deployment, "-", "-", "-", "waits", "-"] for one in waiting]
    notes = [escape(f"{one.name} waits: {one.waits_for or BEGINS}.") for one in waiting]
    nothing = "No experiment is declared. Give a deployment experiment=ps.Experiment(...)."
    shown: list[object] = [table(columns, rows)] if rows else [nothing]
    screen.show({"experiments": found, "waiting": waiting}, *shown, *notes)


def experiments_show(
    screen: Screen,
    name: str = NAME,
    report: str = typer.Option(
        "", "--report", help="Write a page with plots into this file.", metavar="FILE"
    ),
) -> None:
    """Show an experiment: its arms, how they differ, and the verdict."""
    with open_services(screen.home) as services:
        found = find_experiment(services.metadata, name)
    screen.show(found, *_shown(found))
    if report:
        screen.hint(f"Report: {written(report, experiment_page(found))}")


def experiments_stop(
    screen: Screen,
    name: str = NAME,
    winner: bool | None = typer.Option(
        None, "--winner/--no-winner", help="Whether the tried version becomes the champion."
    ),
    reason: str = typer.Option("", "--reason", help="Why; kept with it and audited."),
) -> None:
    """End an experiment: promote the version that is tried, or give all traffic back."""
    if winner is None:
        raise UsageError("Say --winner to promote the tried version, or --no-winner.")
    with open_services(screen.home) as services:
        done = stop_experiment(services, name, winner=winner, reason=reason)
    screen.show(done, f"[green]✓[/] {escape(sentence(done))}")


def _waiting(services: Services, found: Sequence[ExperimentState]) -> list[Waiting]:
    known = {one.key for one in found}
    return [
        Waiting(
            deployment=one.name,
            name=one.experiment.name,
            waits_for=waiting_for(services, one),
        )
        for one in Catalogue.load(services.metadata).all(Deployment)
        if one.experiment is not None and f"{one.name}/{one.experiment.name}" not in known
    ]


def _shown(found: ExperimentState) -> list[object]:
    head = (
        f"{found.name} on {found.deployment}: {found.label} against @{found.champion}, "
        f"by {found.metric}; {found.stage}."
    )
    shown: list[object] = [head, escape(sentence(found))]
    if found.looks:
        look = found.looks[-1]
        columns = ["arm", "entities", "scores", "with an outcome", f"mean {found.metric}"]
        rows = [_row("tried", look.tried), _row("champion", look.champion)]
        shown.append(table(columns, rows, right=columns[1:]))
        if look.difference is not None:
            shown.append(
                f"Difference {look.difference:+.4g}, between {look.low:+.4g} and {look.high:+.4g} "
                "at every look."
            )
        shown += [f"Guardrail {one.metric}: {rail_word(one)}." for one in look.guardrails]
        evidence = min(look.ratio, look.observed_ratio)
        fall = "do not fall" if evidence < RATIO_LEVEL else "fall"
        shown.append(
            f"Entities {fall} to the arms as they should (evidence {evidence:.3g}; below "
            f"{RATIO_LEVEL:g} is invalid)."
        )
    return shown


def _row(name: str, arm: Arm) -> list[object]:
    mean = "-" if arm.mean is None else f"{arm.mean:.5g}"
    return [name, count(arm.entities), count(arm.scores), count(arm.observed), mean]
