"""The command that compares online features with the raw tables."""

from __future__ import annotations

import typer
from rich.console import Group

from penstock.features import check_online
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.spec import FeatureView

from .failures import FAILED
from .humanise import count, plural
from .screen import Screen, table

__all__ = ["features_check"]


def features_check(
    screen: Screen,
    view: str = typer.Argument("", help="The feature view; all when left out."),
    sample: int = typer.Option(500, "--sample", min=1, help="How many entities of each view."),
    seed: int = typer.Option(0, "--seed", help="Which entities."),
) -> None:
    """Compute a sample of online features again from the raw tables; exit 1 where they differ."""
    with open_services(screen.home) as services:
        catalogue = Catalogue.load(services.metadata)
        catalogue.require_applied()
        views = [catalogue.view(view)] if view else catalogue.all(FeatureView)
        now_us = services.clock.now_us()
        found = [
            check
            for one in views
            for check in check_online(
                services.tables, services.online, one, at_us=now_us, sample=sample, seed=seed
            )
        ]
    columns = ["", "feature", "compared", "mismatches", "rate", "worst", "key"]
    rows = [
        [
            "✗" if check.mismatches else "✓",
            check.feature,
            count(check.compared),
            count(check.mismatches),
            f"{check.rate:.2%}",
            f"{check.worst:.0e}" if check.worst else "0",
            "" if check.key is None else str(check.key),
        ]
        for check in found
    ]
    wrong = sum(check.mismatches > 0 for check in found)
    said = (
        f"✗ {plural(wrong, 'column')} of {len(found)} differ from the raw tables. Build the view "
        "from nothing with 'penstock features build VIEW --again'."
        if wrong
        else f"✓ {plural(len(found), 'column')} online are what the raw tables say."
    )
    screen.show(found, Group(table(columns, rows, right=columns[2:6]), said))
    if wrong:
        raise typer.Exit(FAILED)
