"""The command that compares features with the raw tables: online ones, and those scores saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from penstock.control import check_reads, check_scores, check_view, report_inconsistent
from penstock.errors import NotReadyError
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.scoring import drain_scores
from penstock.spec import Deployment, FeatureService, FeatureView, duration_us

from .failures import FAILED, UsageError
from .humanise import count, plural
from .screen import Screen, table

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import FeatureCheck, FeatureReport

__all__ = ["features_check"]

WHERE = {"online": "online", "served": "as scores saw them", "read": "as they were answered"}


def features_check(  # noqa: PLR0913, PLR0917 - one parameter for each option
    screen: Screen,
    name: str = typer.Argument(
        "",
        help="The feature view; with --served the deployment, with --read the feature service; all "
        "when left out.",
    ),
    served: bool = typer.Option(
        False, "--served", help="Compare what scores saw instead of what is online now."
    ),
    read: bool = typer.Option(
        False, "--read", help="Compare what feature servers answered, a few rows a second."
    ),
    over: str = typer.Option("1d", "--over", help="With --served, --read: how far to look back."),
    sample: int = typer.Option(
        500, "--sample", min=1, help="How many entities, scores, or answers."
    ),
    seed: int = typer.Option(0, "--seed", help="Which ones."),
) -> None:
    """Compute a sample of features again from the raw tables; exit 1 where they differ."""
    if served and read:
        raise UsageError("--served and --read are two checks. Give one of them.")
    with open_services(screen.home) as services:
        if read:
            reports = _read(services, name, _length(over), sample, seed)
        elif served:
            reports = _served(services, name, _length(over), sample, seed)
        else:
            reports = _online(services, name, sample, seed)
        for report in reports:
            report_inconsistent(services, report, max_rate=services.settings.features_check_max)
    shown: list[object] = []
    for report in reports:
        shown += _shown(report)
    wrong = [report for report in reports if report.above(0.0)]
    screen.show(reports, *shown, _said(reports, wrong))
    if wrong:
        raise typer.Exit(FAILED)


def _online(services: Services, name: str, sample: int, seed: int) -> list[FeatureReport]:
    catalogue = Catalogue.load(services.metadata)
    catalogue.require_applied()
    views = [catalogue.view(name)] if name else catalogue.all(FeatureView)
    at_us = services.clock.now_us()
    return [check_view(services, view, at_us=at_us, sample=sample, seed=seed) for view in views]


def _served(
    services: Services, name: str, over_us: int, sample: int, seed: int
) -> list[FeatureReport]:
    catalogue = Catalogue.load(services.metadata)
    catalogue.require_applied()
    chosen = [catalogue.deployment(name)] if name else catalogue.all(Deployment)
    drain_scores(services)
    to_us = services.clock.now_us()
    found: list[FeatureReport] = []
    for deployment in chosen:
        report = check_scores(
            services,
            deployment.name,
            from_us=to_us - over_us,
            to_us=to_us,
            sample=sample,
            seed=seed,
        )
        if report is not None:
            found.append(report)
    if not found:
        raise NotReadyError(
            f"There are no scores of {name or 'any deployment'} in that time whose features were "
            "looked up online. Give a longer --over, or ask for predictions by entity."
        )
    return found


def _read(
    services: Services, name: str, over_us: int, sample: int, seed: int
) -> list[FeatureReport]:
    catalogue = Catalogue.load(services.metadata)
    catalogue.require_applied()
    chosen = [catalogue.feature_service(name)] if name else catalogue.all(FeatureService)
    to_us = services.clock.now_us()
    since_us = to_us - over_us
    reports = [
        check_reads(services, one, from_us=since_us, to_us=to_us, sample=sample, seed=seed)
        for one in chosen
    ]
    found = [report for report in reports if report is not None]
    if not found:
        raise NotReadyError(
            f"No feature server has answered for {name or 'any feature service'} in that time. "
            "Give a longer --over, or read features over HTTP; what was answered is known after "
            "a second, of a busy service after two minutes."
        )
    return found


def _length(over: str) -> int:
    try:
        length_us = duration_us(over)
    except ValueError as error:
        raise UsageError(f"--over: {error}", over=over) from None
    if not length_us:
        raise UsageError(f"--over {over!r} is no time. Give one such as 1d.", over=over)
    return length_us


def _shown(report: FeatureReport) -> list[object]:
    columns = ["", "feature", "compared", "mismatches", "rate", "worst", "key"]
    scores = report.origin == "served"
    rows = [
        [
            "✗" if check.mismatches else "✓",
            check.feature,
            count(check.compared),
            count(check.mismatches),
            f"{check.rate:.2%}",
            _worst(check),
            "" if check.key is None else str(check.key),
            *([check.prediction_id] if scores else []),
        ]
        for check in report.checks
    ]
    made = table(
        [*columns, *(["prediction"] if scores else [])],
        rows,
        title=f"{report.subject}, {report.origin}",
        right=columns[2:6],
    )
    lost = [f"- {label} was not compared: {why}" for label, why in report.skipped.items()]
    return [made, *lost]


def _worst(check: FeatureCheck) -> str:
    if check.worst is None:
        return "null"
    return f"{check.worst:.0e}" if check.worst else "0"


def _said(reports: list[FeatureReport], wrong: list[FeatureReport]) -> str:
    (origin, *_) = {report.origin for report in reports} or {"online"}
    columns = sum(len(report.checks) for report in reports)
    differ = sum(len(report.above(0.0)) for report in wrong)
    if not differ:
        what = WHERE[origin]
        return f"✓ {plural(columns, 'column')} {what} are what the raw tables say."
    said = f"✗ {plural(differ, 'column')} of {columns} differ from the raw tables. "
    if origin == "served":
        return f"{said}See why with 'penstock replay PREDICTION'."
    return f"{said}Build the view from nothing with 'penstock features build VIEW --again'."
