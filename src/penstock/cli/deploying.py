"""The commands that bring a version behind a deployment: deploy and approve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import typer
from rich.markup import escape

from penstock.control import deploy_run, release_run
from penstock.deployment import abort_rollout, begin_rollout, decide_rollout, rollouts
from penstock.deployment import deploy as deploy_version
from penstock.errors import GateError, NotFoundError, NotReadyError
from penstock.plan import Catalogue
from penstock.registry import aliases
from penstock.runtime import open_services
from penstock.spec import Approval, Canary

from .failures import UsageError
from .follow import follow
from .humanise import ago, plural
from .opening import opened_as
from .screen import table
from .serving import answer_lines, version_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.records import DeployCheck, Regression, Rollout
    from penstock.runtime import LocalServices

    from .screen import Screen

__all__ = ["approve", "deploy"]

DEPLOYMENT = typer.Argument(help="The deployment.")
REASON = typer.Option("", "--reason", help="Why; kept with it and in the audit table.")
BAD = ("refused", "rejected", "aborted", "returned", "failed")
SHOWN = 5
REPORT = "report.html"


def deploy(  # noqa: PLR0913, PLR0917 - the options of a command
    screen: Screen,
    deployment: str = DEPLOYMENT,
    version: str = typer.Option(
        "", "--version", help="The version, as 3 or MODEL@3; the newest that is ready otherwise."
    ),
    approve: bool = typer.Option(
        False, "--approve", help="Let somebody else approve it before it takes traffic."
    ),
    canary: bool = typer.Option(
        False,
        "--canary",
        help="Let it take traffic in steps: 5 %, 25 %, 50 % where none are declared.",
    ),
    status: bool = typer.Option(False, "--status", help="Show the newest rollout; change nothing."),
    abort: bool = typer.Option(False, "--abort", help="End the rollout that is under way."),
    reason: str = REASON,
) -> None:
    """Put a version behind a deployment."""
    if status + abort + bool(version or approve or canary) > 1:
        raise UsageError("Give one of --status, --abort, or what to deploy; not several.")
    with opened_as(screen, "reader" if status else "admin") as services:
        declared = Catalogue.load(services.metadata).deployment(deployment)
        if status:
            _show(screen, services, _newest(services, deployment))
            return
        if abort:
            ended = abort_rollout(services, _newest(services, deployment), reason=reason)
            screen.show(ended, f"[green]✓[/] {_standing(ended)}")
            return
        number = version_number(version, declared.model.name)
        pointers = aliases(services.metadata, declared.model.name)
        wanted = (pointers.candidate or pointers.champion) if number is None else number
        if pointers.champion and wanted == pointers.champion:
            done = deploy_version(services, deployment, version=pointers.champion)
            screen.show(done, *answer_lines(done))
            return
        rollout = begin_rollout(
            services,
            deployment,
            version=number,
            approval=Approval() if approve else None,
            canary=(declared.canary or Canary()) if canary else None,
        )
        follow(screen, services, deploy_run(rollout.rollout_id, deployment))
        _show(screen, services, _newest(services, deployment), ended=True)


def approve(
    screen: Screen,
    deployment: str = DEPLOYMENT,
    reject: bool = typer.Option(False, "--reject", help="Reject it instead; takes a reason."),
    reason: str = REASON,
) -> None:
    """Approve the rollout of a deployment that waits for it."""
    with open_services(screen.home) as services:
        Catalogue.load(services.metadata).deployment(deployment)
        waiting = _newest(services, deployment)
        decided = decide_rollout(services, waiting.rollout_id, approved=not reject, reason=reason)
        if reject:
            screen.show(decided, f"[green]✓[/] {_standing(decided)}")
            return
        follow(screen, services, release_run(decided.rollout_id, deployment))
        _show(screen, services, _newest(services, deployment), ended=True)


def _newest(services: LocalServices, deployment: str) -> Rollout:
    found = rollouts(services.metadata, deployment, limit=1)
    if not found:
        raise NotReadyError(
            f"Nothing has been rolled out on {deployment!r} yet. Run 'penstock deploy "
            f"{deployment}'.",
            deployment=deployment,
        )
    return found[0]


def _show(
    screen: Screen, services: LocalServices, rollout: Rollout, *, ended: bool = False
) -> None:
    """Show a rollout; one that has just ended badly is an error after that.

    Raises:
        GateError: It was refused, and that is news.
    """
    bad = rollout.state in BAD
    pointers = aliases(services.metadata, rollout.model)
    shown: list[object] = [_checks(rollout.checks)] if rollout.checks else []
    if rollout.regression is not None:
        shown += _regression(services, rollout.regression)
    if rollout.steps:
        shown.append(_steps(rollout))
    sign = "[red]✗[/]" if bad else "[green]✓[/]" if rollout.state == "done" else "…"
    shown.append(f"{sign} {escape(_standing(rollout))}")
    if rollout.state == "done" and pointers.champion == rollout.version and pointers.previous:
        shown.append(f"  Version {pointers.previous} is previous.")
    if rollout.state == "waiting":
        shown.append(f"  {escape(_awaited(rollout))}")
    if not ended:
        shown.append(
            f"[dim]Asked for by {escape(rollout.asked_by)} "
            f"{ago(rollout.asked_at, services.clock.now())}; run {rollout.run_id}.[/]"
        )
    screen.show(rollout, *shown)
    if ended and bad:
        raise GateError(
            f"{rollout.label} does not take traffic on {rollout.deployment!r}: {rollout.reason}",
            rollout_id=rollout.rollout_id,
            state=rollout.state,
        )


def _standing(rollout: Rollout) -> str:
    """Where a rollout stands, in a sentence."""
    what = f"{rollout.label} on {rollout.deployment}"
    said = {
        "checking": f"{what} is being checked.",
        "waiting": f"{what} passed its checks and waits for an approval.",
        "approved": f"{what} is approved and goes on.",
        "canary": f"{what} {_canary_words(rollout)}",
        "returning": f"{what} gives its traffic back.",
        "promoting": f"{what} is taking all traffic.",
        "done": f"{rollout.label} answers on {rollout.deployment}.",
    }.get(rollout.state, f"{what} is {rollout.state}.")
    if rollout.reason.startswith(f"{rollout.state} "):
        return f"{what} is {rollout.reason}"
    approver = rollout.approver
    if approver is not None and approver.approved:
        said += f" {approver.name} approved it{f': {approver.reason}' if approver.reason else ''}."
    return f"{said} {rollout.reason}".rstrip()


def _awaited(rollout: Rollout) -> str:
    """Who may decide, and how."""
    needed = msgspec.convert(rollout.approval, Approval)
    role = f"{'an' if needed.role == 'admin' else 'a'} {needed.role}"
    who = f"{role} other than {rollout.asked_by}, who asked" if needed.four_eyes else role
    return (
        f"It takes {who}: 'penstock approve {rollout.deployment} --reason TEXT', or the same "
        "with --reject."
    )


def _canary_words(rollout: Rollout) -> str:
    if not rollout.canary:
        return ""
    plan = msgspec.convert(rollout.canary, Canary)
    shares = ", ".join(f"{share:.0%}" for share in plan.steps)
    return (
        f"takes {plan.steps[rollout.step]:.0%} of the entities: step {rollout.step + 1} of "
        f"{shares}; each takes {plan.every} and {plan.min_scores} answers at least. "
        "A worker goes on with it."
    )


def _steps(rollout: Rollout) -> object:
    rows = [
        (
            "✓" if all(check.passed for check in one.checks) else "✗",
            f"{one.share:.0%}",
            one.answers or "",
            "; ".join(f"{check.name} {check.reason}" for check in one.checks),
        )
        for one in rollout.steps
    ]
    return table(
        ["", "share", "answers", "compared"], rows, title="Canary", right=["share", "answers"]
    )


def _checks(found: tuple[DeployCheck, ...]) -> object:
    """The checks; those of the package in one row where all of them hold."""
    package = [one for one in found if one.kind == "package"]
    rows: list[tuple[str, str, str, str]] = []
    if package and all(one.passed for one in package):
        rows.append(("✓", "package", ", ".join(one.name for one in package), "hold"))
        found = tuple(one for one in found if one.kind != "package")
    rows += [("✓" if one.passed else "✗", one.kind, one.name, one.reason) for one in found]
    return table(["", "kind", "check", "found"], rows, title="Checks")


def _regression(services: LocalServices, found: Regression) -> Iterator[object]:
    if not found.rows:
        return
    against = ", ".join(found.against)
    rows = [
        (one.prediction_id, f"{one.before:.4g}", "-" if one.after is None else f"{one.after:.4g}")
        for one in found.most[:SHOWN]
    ]
    median, most, nearly = found.quantiles
    yield f"[bold]{plural(found.rows, 'stored request')} of {against}, asked again[/]"
    if rows:
        yield table(["differ most", "then", "now"], rows, right=["then", "now"])
    yield (
        f"  Differences: mean {found.mean_difference:.4g}, median {median:.4g}, 90 % {most:.4g}, "
        f"99 % {nearly:.4g}, greatest {found.max_difference:.4g}; "
        f"{plural(found.flips, 'decision')} at 0.5 flipped."
    )
    try:
        yield f"  Report: {services.artifacts.path(found.report) / REPORT}"
    except NotFoundError:
        return
