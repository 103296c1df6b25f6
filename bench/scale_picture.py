"""Draw what ``python -m bench scale --json FILE`` measured.

python -m bench.scale_picture FILE docs/figures/scale.svg
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import msgspec
import numpy as np
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .figure import Figure
from .scale import BUILT, HTTP, LOADED, PEAK, READ_ALONE, READ_AT_ONCE, SERVING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, GREY, LINE = "#1f5fbf", "#8c96a8", "#b5b5b5"
FONT_SMALL, FONT_TITLE = 9, 11


class Panel(NamedTuple):
    """One pair of axes.

    Attributes:
        title: What stands above it.
        curves: What is drawn, each with its words and how it is drawn.
        scale: What the values are multiplied by.
        each: Whether they are of an entity, and all of them are drawn.
        slope: How far the dashed lines rise, and what they are called.
        legend: Where the words stand, as shares of the panel, where no curve is.
    """

    title: str
    curves: dict[str, tuple[str, str, str]]
    scale: float = 1.0
    each: bool = False
    slope: tuple[int, str] = (1, "in proportion")
    legend: tuple[float, float] = (0.0, 0.78)


PANELS = (
    Panel(
        "Loading, seconds of processor time",
        {LOADED: (LOADED, GREY, "s"), BUILT: (BUILT, BLUE, "o")}, scale=1e-6, each=True,
    ),
    Panel(
        "Reading, us of processor time",
        {
            HTTP[100]: (HTTP[100], BLUE, "o"),
            HTTP[1]: (HTTP[1], BLUE, "^"),
            READ_AT_ONCE: ("one of 1,000 read at once, in process", GREY, "s"),
            READ_ALONE: (READ_ALONE, GREY, "D"),
        }, slope=(0, "no growth"), legend=(0.0, 0.28),
    ),
    Panel(
        "Memory, MB",
        {PEAK: ("loading, serving and checking", BLUE, "o"), SERVING: ("serving", GREY, "s")},
        legend=(0.28, 0.02),
    ),
)  # fmt: skip


def draw(figures: list[Figure], path: Path) -> None:
    """Draw the panels side by side, both axes of each logarithmic.

    Args:
        figures: What was measured.
        path: Where the picture goes; its ending says in which format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same figures make the same bytes.
    with mpl.rc_context({"svg.hashsalt": "penstock"}):
        picture = Picture(figsize=(12, 4.4), dpi=110, layout="constrained")
        for axes, panel in zip(picture.subplots(1, len(PANELS)), PANELS, strict=True):
            _panel(axes, panel, figures)
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        picture.savefig(path, metadata=metadata)


def _panel(axes: Axes, panel: Panel, figures: list[Figure]) -> None:
    slope, rising = panel.slope
    for curve, (words, colour, marker) in panel.curves.items():
        points = sorted((f.at or 0.0, f.ours) for f in figures if f.curve == curve)
        sizes, values = np.array(points).T
        drawn = values * panel.scale * (sizes if panel.each else 1.0)
        axes.plot(
            sizes, drawn, color=colour, marker=marker, markersize=4.5, linewidth=1.6, label=words
        )
        ends = sizes[[0, -1]]
        straight = drawn[-1] * (ends / ends[-1]) ** slope
        axes.plot(ends, straight, color=LINE, linestyle="--", linewidth=1, zorder=1)
    axes.plot([], [], color=LINE, linestyle="--", linewidth=1, label=rising)
    axes.set(xscale="log", yscale="log", xlabel="entities")
    for axis, steps in ((axes.xaxis, (1,)), (axes.yaxis, (1, 2, 5))):
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_title(panel.title, loc="left", fontsize=FONT_TITLE, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=FONT_SMALL)
    axes.legend(frameon=False, fontsize=FONT_SMALL, loc="lower left", bbox_to_anchor=panel.legend)


if __name__ == "__main__":
    report = msgspec.json.decode(Path(sys.argv[1]).read_bytes())
    draw(msgspec.convert(report["figures"], list[Figure]), Path(sys.argv[2]))
