"""The report of a feature selection: a page with a table, and two pictures."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from penstock.records import FeatureRank, FeatureSelection

__all__ = ["draw_selection", "write_report"]

KEPT, LEFT = "#1f5fbf", "#c3c9d4"
DOTS_PER_IN = 110
FONT_SMALL, FONT_TITLE = 8, 12
LONGEST_NAME = 44
LABELLED_CELLS = 12
METRICS = {"roc_auc": "ROC AUC", "r2": "R²"}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.15rem; margin-top: 2rem }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }}
th {{ text-align: left; color: #667; font-weight: normal; border-bottom: 1px solid #bbb }}
td, th {{ padding: .2rem .6rem }} td.n, th.n {{ text-align: right }}
tr.kept td:nth-child(2) {{ font-weight: 600 }} tr:not(.kept) {{ color: #778 }}
img {{ max-width: 100% }} code {{ background: #f2f3f6; padding: .1rem .3rem }}
</style></head><body>
<h1>{title}</h1>
<p>{kept} of {all} features are kept. Use them: <code>select="{id}"</code> in the dataset.</p>
<p>Ranked on {train:,} training rows; a quick model of the best feature of each group has a {metric}
of {score:.4f} on {validation:,} validation rows. The test part was not looked at.</p>
<h2>Ranking</h2><img src="ranking.png" alt="What each feature tells, by three measures">
<h2>Groups of features that say the same</h2>
<img src="correlation.png" alt="Correlation of the features, ordered by group">
<h2>Every feature</h2>
<table><thead><tr><th class="n">#</th><th>feature</th><th class="n">chi-square</th><th class="n">p</th>
<th class="n">mutual information</th><th class="n">importance</th><th class="n">group</th><th></th></tr></thead>
<tbody>
{rows}
</tbody></table>
<p>Chi-square and mutual information (in nats) are of each feature's ten bins by quantile, nulls in a
bin of their own. Features whose Spearman correlation is 0.9 or more, either way, form a group; the
best of it stands for it. Importance is what the quick model's score loses when the feature is
shuffled, with its standard deviation over the shuffles. A feature counts as noise when neither its
chi-square (p below 0.01 over all features together) nor its importance (twice its deviation) speaks
for it.</p>
</body></html>
"""  # noqa: E501 - a page is not code


def draw_selection(
    folder: Path,
    selection: FeatureSelection,
    shown: Sequence[FeatureRank],
    by_group: Sequence[str],
    rho: NDArray[np.float64],
) -> None:
    """Draw ``ranking.png`` and ``correlation.png``.

    Args:
        folder: Where the files go.
        selection: What is drawn.
        shown: The features in the pictures, the best first.
        by_group: Their names, ordered by group.
        rho: Their correlations in that order.
    """
    height_in = 1.4 + 0.22 * max(len(shown), 4)
    figure = Figure(figsize=(11, height_in), dpi=DOTS_PER_IN, layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    measures = ("chi2", "mutual_information", "importance")
    titles = (
        "chi-square",
        "mutual information, nats",
        f"importance, loss of {METRICS[selection.metric]}",
    )
    for one, measure, title in zip(axes, measures, titles, strict=True):
        _bars(one, shown, measure, title)
    figure.suptitle(
        f"{selection.dataset} · kept blue, left out grey", fontsize=FONT_TITLE, x=0.01, ha="left"
    )
    figure.savefig(folder / "ranking.png")
    _heat(folder, by_group, rho)


def write_report(folder: Path, selection: FeatureSelection) -> None:
    """Write ``report.html`` beside the pictures."""
    page = PAGE.format(
        title=escape(f"Features of {selection.dataset}"),
        kept=len(selection.kept),
        all=len(selection.ranks),
        id=selection.selection_id,
        train=selection.rows["train"],
        validation=selection.rows["validation"],
        metric=METRICS[selection.metric],
        score=selection.score,
        rows="\n".join(_row(one) for one in selection.ranks),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def _bars(axes: Axes, shown: Sequence[FeatureRank], measure: str, title: str) -> None:
    values = [getattr(one, measure) for one in shown]
    colours = [KEPT if one.verdict == "kept" else LEFT for one in shown]
    places = np.arange(len(shown))
    spread = [one.importance_std or 0.0 for one in shown] if measure == "importance" else None
    axes.barh(
        places, [value or 0.0 for value in values], color=colours, xerr=spread, ecolor="#555555",
        height=0.7,
    )  # fmt: skip
    for place, value in enumerate(values):
        if value is None:
            axes.text(
                0.02, place, f"stands behind {shown[place].redundant_with}", va="center",
                transform=axes.get_yaxis_transform(), fontsize=FONT_SMALL - 1, color="#888888",
            )  # fmt: skip
    axes.set_yticks(places, [_short(one.name) for one in shown], fontsize=FONT_SMALL)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_title(title, loc="left", fontsize=FONT_SMALL + 2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=FONT_SMALL)
    axes.grid(axis="x", color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)


def _heat(folder: Path, names: Sequence[str], rho: NDArray[np.float64]) -> None:
    side_in = 3.0 + 0.2 * max(len(names), 6)
    figure = Figure(figsize=(side_in + 1, side_in), dpi=DOTS_PER_IN, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(rho, vmin=-1, vmax=1, cmap="RdBu_r")
    ticks = np.arange(len(names))
    axes.set_xticks(ticks, [_short(name) for name in names], rotation=90, fontsize=FONT_SMALL)
    axes.set_yticks(ticks, [_short(name) for name in names], fontsize=FONT_SMALL)
    if len(names) <= LABELLED_CELLS:
        for row, column in np.ndindex(rho.shape):
            value = float(rho[row, column])
            dark = abs(value) > 0.6  # noqa: PLR2004 - from here on the cell is dark
            axes.text(
                column, row, f"{value:.2f}", ha="center", va="center", fontsize=FONT_SMALL - 1,
                color="white" if dark else "#333333",
            )  # fmt: skip
    figure.colorbar(image, ax=axes, shrink=0.6, label="Spearman's correlation")
    figure.savefig(folder / "correlation.png")


def _row(one: FeatureRank) -> str:
    why = f"redundant with {one.redundant_with}" if one.redundant_with else one.verdict
    if one.correlation is not None:
        why += f" ({one.correlation:+.2f})"
    loss = _number(one.importance)
    if one.importance_std is not None:
        loss += f" ± {one.importance_std:.4f}"
    cells = [
        ("n", str(one.rank)), ("", one.name), ("n", _number(one.chi2, 1)),
        ("n", "" if one.chi2_p is None else f"{one.chi2_p:.2g}"),
        ("n", _number(one.mutual_information)), ("n", loss), ("n", str(one.group or "")), ("", why),
    ]  # fmt: skip
    inner = "".join(f'<td class="{kind}">{escape(text)}</td>' for kind, text in cells)
    return f'<tr class="{one.verdict}">{inner}</tr>'


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
