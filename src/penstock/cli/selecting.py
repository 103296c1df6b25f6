"""The command that ranks the features of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from penstock.access import require_features
from penstock.evaluation import select_features
from penstock.plan import Catalogue
from penstock.records import to_plain
from penstock.spec import key_of

from .failures import UsageError
from .humanise import count, number
from .opening import opened_as
from .screen import Screen, table

if TYPE_CHECKING:
    from rich.table import Table

    from penstock.records import FeatureRank, FeatureSelection

__all__ = ["features_select"]

SIGNS = {"kept": "✓", "redundant": "=", "noise": "·", "constant": "-", "beyond top": "↓"}


def features_select(
    screen: Screen,
    dataset: str = typer.Argument(help="The dataset."),
    top: int = typer.Option(
        0,
        "--top",
        help="Keep at most so many; all that have evidence when left out.",
        show_default=False,
    ),
    seed: int = typer.Option(0, "--seed", help="Of the samples, the quick model, the shuffles."),
) -> None:
    """Rank a dataset's features and keep the best by an id."""
    if top < 0:
        raise UsageError(f"--top {top} keeps nothing. Give a number from 1, or leave it out.")
    with opened_as(screen, "writer") as services:
        declared = Catalogue.load(services.metadata).dataset(dataset)
        require_features(services, declared.feature_names, subject=key_of(declared))
        with screen.progress(f"select {dataset}") as report:
            found = select_features(services, declared, top=top, seed=seed, progress=report)
        page = services.artifacts.path(found.artifact) / "report.html"
    value = {**_plain(found), "report": str(page)}
    metric = {"roc_auc": "ROC AUC", "r2": "R²"}[found.metric]
    screen.show(
        value,
        _ranks(found),
        f"[green]✓[/] {len(found.kept)} of {len(found.ranks)} features are kept as "
        f"{found.selection_id}: ranked on {count(found.rows['train'])} training rows; the quick "
        f"model's {metric} is {number(found.score)} on {count(found.rows['validation'])} "
        "validation rows.",
    )
    screen.hint(
        f'Use them: put select="{found.selection_id}" into Dataset("{dataset}") and apply.',
        f"Report: {page}",
    )


def _ranks(found: FeatureSelection) -> Table:
    columns = ["#", "", "feature", "chi-square", "mutual information", "importance", "why"]
    rows = [
        (
            one.rank,
            SIGNS[one.verdict],
            one.name,
            f"{one.chi2:,.1f}",
            number(one.mutual_information),
            number(one.importance),
            _why(one),
        )
        for one in found.ranks
    ]
    title = f"Features of {found.dataset}, the best first"
    return table(columns, rows, title=title, right=["#", *columns[3:6]])


def _why(one: FeatureRank) -> str:
    if one.redundant_with:
        return f"redundant with {one.redundant_with} ({one.correlation:+.2f})"
    return one.verdict


def _plain(found: FeatureSelection) -> dict[str, object]:
    plain = to_plain(found)
    return plain if isinstance(plain, dict) else {}
