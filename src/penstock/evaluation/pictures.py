"""Pictures of a candidate: ROC, precision and recall, calibration; predicted against true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.figure import Figure

from penstock.algebra import compute_metric

from .curves import calibration, precision_recall_curve, roc_curve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = tuple[Floats, Floats]

__all__ = ["draw"]

COLOURS = {"validation": "#8c96a8", "test": "#1f5fbf"}
GREY = "#b5b5b5"
WIDTH_IN, HEIGHT_IN, DOTS_PER_IN = 6.0, 5.0, 110
FONT_SMALL, FONT_TITLE = 9, 12


def draw(
    folder: Path,
    title: str,
    task: Literal["classification", "regression"],
    parts: Mapping[str, Rows],
) -> list[Path]:
    """Draw what a candidate predicted.

    Args:
        folder: Where the PNG files go.
        title: What stands above each picture, such as ``btc-direction, LogisticRegression``.
        task: The task.
        parts: Labels and predictions, float64 ``[n]`` each, of ``validation`` and ``test``.

    Returns:
        The files: ``roc.png``, ``precision_recall.png`` and ``calibration.png`` for a
        classification whose parts hold both classes, ``predicted.png`` and ``residuals.png`` for a
        regression. Parts that cannot be drawn are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if task == "regression":
        known = {part: rows for part, rows in parts.items() if len(rows[0])}
        pictures = {"predicted": _predicted, "residuals": _residuals}
    else:
        known = {part: rows for part, rows in parts.items() if len(np.unique(rows[0])) > 1}
        pictures = {"roc": _roc, "precision_recall": _pr, "calibration": _calibration}
    files: list[Path] = []
    for name, picture in pictures.items() if known else ():
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DOTS_PER_IN, layout="constrained")
        axes = figure.add_subplot()
        picture(axes, known)
        _finish(axes, title)
        files.append(folder / f"{name}.png")
        figure.savefig(files[-1])
    return files


def _finish(axes: Axes, title: str) -> None:
    heading = axes.get_title()
    axes.set_title("")
    axes.set_title(heading, loc="left", fontsize=FONT_TITLE, fontweight="bold", pad=20)
    axes.text(0, 1.02, title, transform=axes.transAxes, fontsize=FONT_SMALL, color="#555555")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=FONT_SMALL)


def _named(part: str, metric: str, rows: Rows, text: str) -> str:
    value = compute_metric(metric, *rows)
    return f"{part}: {text} {value:.4f}" if value is not None else part


def _roc(axes: Axes, parts: Mapping[str, Rows]) -> None:
    for part, rows in parts.items():
        curve = roc_curve(*rows)
        name = _named(part, "roc_auc", rows, "AUC")
        axes.plot(curve.x, curve.y, color=COLOURS[part], label=name, linewidth=1.8)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="chance")
    axes.set(
        title="ROC",
        xlabel="false positive rate",
        ylabel="true positive rate",
        xlim=(0, 1),
        ylim=(0, 1.005),
        aspect="equal",
    )


def _pr(axes: Axes, parts: Mapping[str, Rows]) -> None:
    for part, rows in parts.items():
        curve = precision_recall_curve(*rows)
        name = _named(part, "average_precision", rows, "AP")
        axes.plot(curve.x, curve.y, color=COLOURS[part], label=name, linewidth=1.8)
        share = float(rows[0].mean())
        axes.axhline(share, color=COLOURS[part], linestyle=":", linewidth=1)
    axes.plot([], [], color=GREY, linestyle=":", label="share of true")
    axes.set(title="Precision and recall", xlabel="recall", ylabel="precision")
    axes.set(xlim=(0, 1), ylim=(0, 1.005))


def _calibration(axes: Axes, parts: Mapping[str, Rows]) -> None:
    seen: list[Floats] = []
    for part, rows in parts.items():
        found = calibration(*rows)
        name = _named(part, "brier", rows, "Brier")
        axes.plot(
            found.predicted,
            found.observed,
            color=COLOURS[part],
            label=name,
            linewidth=1.8,
            marker="o",
            markersize=4,
        )
        seen += [found.predicted, found.observed]
    low, high = _limits(np.concatenate(seen))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="honest")
    axes.set(
        title="Calibration, tenths of the rows",
        xlabel="mean predicted probability",
        ylabel="share of true",
        xlim=(low, high),
        ylim=(low, high),
        aspect="equal",
    )


def _predicted(axes: Axes, parts: Mapping[str, Rows]) -> None:
    for part, (truth, predicted) in parts.items():
        name = _named(part, "r2", (truth, predicted), "R²")
        axes.scatter(
            truth, predicted, s=6, alpha=0.35, color=COLOURS[part], label=name, linewidths=0
        )
    both = np.concatenate([values for rows in parts.values() for values in rows])
    low, high = float(both.min()), float(both.max())
    axes.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1, label="exact")
    axes.set(title="Predicted against true", xlabel="true", ylabel="predicted")


def _residuals(axes: Axes, parts: Mapping[str, Rows]) -> None:
    for part, (truth, predicted) in parts.items():
        name = _named(part, "rmse", (truth, predicted), "RMSE")
        axes.hist(
            predicted - truth, bins=60, histtype="step", density=True, color=COLOURS[part],
            label=name, linewidth=1.6,
        )  # fmt: skip
    axes.axvline(0, color=GREY, linestyle="--", linewidth=1)
    axes.set(title="Residuals", xlabel="predicted - true", ylabel="density")


def _limits(values: Floats) -> tuple[float, float]:
    """Where the values lie, within 0 and 1, with some air around them."""
    low, high = float(values.min()), float(values.max())
    air = max(0.05 * (high - low), 0.01)
    return max(0.0, low - air), min(1.0, high + air)
