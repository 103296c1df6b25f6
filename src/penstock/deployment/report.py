"""The report of a rollout's checks: one page, whole in itself."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from .proof import THRESHOLD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.records import DeployCheck, Regression, Rollout

    from .regression import Replayed

__all__ = ["rollout_page"]

SIDE, LEFT, TOP, BOTTOM = 360, 54, 8, 24
BLUE, RED, GREY, LINE = "#1f5fbf", "#c0392b", "#8c96a8", "#e4e6ea"
DRAWN = 2_000
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.5rem; margin-bottom: .3rem }} h2 {{ font-size: 1.1rem; margin: 2rem 0 .4rem }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th {{ text-align: left; color: #667; font-weight: normal; border-bottom: 1px solid #bbb }}
td, th {{ padding: .2rem .7rem .2rem 0; vertical-align: top }} td.n, th.n {{ text-align: right }}
tr.no td {{ color: #c0392b; font-weight: 600 }} p {{ margin: .2rem 0 }} .dim {{ color: #667 }}
.side {{ display: flex; flex-wrap: wrap; gap: 2rem; align-items: flex-start }} figure {{ margin: 0; max-width: 360px }} figcaption {{ color: #667; font-size: .85rem }}
code {{ font-size: .9em }} svg text {{ font: 10px system-ui, sans-serif; fill: #667 }}
</style></head><body>
<h1>{title}</h1>
<p>{about}</p>
<h2>Stored requests, asked again</h2>
<p>{replayed}</p>
<div class="side">{plot}{numbers}</div>
{most}
<h2>Checks</h2>
<table><thead><tr><th></th><th>kind</th><th>check</th><th>found</th></tr></thead><tbody>{checks}</tbody></table>
</body></html>
"""  # noqa: E501 - a page is not code


def rollout_page(
    rollout: Rollout, checks: Sequence[DeployCheck], found: Replayed, regression: Regression
) -> str:
    """An HTML page of what was checked, and of how the answers differ.

    Args:
        rollout: The rollout.
        checks: Everything that was checked.
        found: The stored requests with both answers.
        regression: Their differences.
    """
    return PAGE.format(
        title=escape(f"{rollout.label} on {rollout.deployment}"),
        about=escape(f"Asked for by {rollout.asked_by}, {rollout.asked_at:%Y-%m-%d %H:%M} UTC."),
        replayed=_replayed(regression),
        plot=_scatter(found) if regression.rows else "",
        numbers=_numbers(regression, found) if regression.rows else "",
        most=_most(regression),
        checks="".join(_check(check) for check in checks),
    )


def _replayed(found: Regression) -> str:
    skipped = "".join(f" {count} {why}." for why, count in found.skipped.items())
    if not found.rows:
        return escape(f"None could be asked.{skipped}")
    against = ", ".join(found.against)
    return escape(f"{found.rows} requests that {against} had answered.{skipped}")


def _numbers(found: Regression, replayed: Replayed) -> str:
    rows = [("mean difference", f"{found.mean_difference:.4g}")]
    names = ("median", "90 %", "99 %")
    rows += [(name, f"{value:.4g}") for name, value in zip(names, found.quantiles, strict=True)]
    rows.append(("greatest", f"{found.max_difference:.4g}"))
    if replayed.classifies:
        rows.append(("other side of 0.5", f"{found.flips} ({found.flips / found.rows:.1%})"))
    rows.append(("without an answer", str(found.failed)))
    cells = "".join(f'<tr><td>{name}</td><td class="n">{text}</td></tr>' for name, text in rows)
    return f"<table><tbody>{cells}</tbody></table>"


def _most(found: Regression) -> str:
    if not found.most:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(one.prediction_id)}</code></td>"
        f'<td class="n">{one.before:.6g}</td><td class="n">{_text(one.after)}</td>'
        f'<td class="n">{_change(one.before, one.after)}</td></tr>'
        for one in found.most
    )
    head = "<tr><th>prediction</th><th class=n>then</th><th class=n>now</th><th class=n></th></tr>"
    return (
        f"<h2>Those that differ most</h2><table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    )


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _change(before: float, after: float | None) -> str:
    return "" if after is None else f"{after - before:+.4g}"


def _check(check: DeployCheck) -> str:
    cells = ("✓" if check.passed else "✗", check.kind, check.name, check.reason)
    inner = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr class="{"yes" if check.passed else "no"}">{inner}</tr>'


def _scatter(found: Replayed) -> str:
    """The answers now over those then; equal ones lie on the line, those that flipped are red."""
    places = np.flatnonzero(np.isfinite(found.after))[:DRAWN]
    if not len(places):
        return ""
    before, after = found.before[places], found.after[places]
    low = float(min(before.min(), after.min()))
    high = float(max(before.max(), after.max()))
    if high == low:
        low, high = low - 0.5, high + 0.5

    def scaled(value: float) -> float:
        return (value - low) / (high - low) * (SIDE - LEFT - TOP)

    def x(value: float) -> float:
        return LEFT + scaled(value)

    def y(value: float) -> float:
        return SIDE - BOTTOM - scaled(value) * (SIDE - BOTTOM - TOP) / (SIDE - LEFT - TOP)

    dots = [
        f'<circle cx="{x(then):.1f}" cy="{y(now):.1f}" r="2.2" fill-opacity="0.55" '
        f'fill="{_colour(found, then, now)}"/>'
        for then, now in zip(before.tolist(), after.tolist(), strict=True)
    ]
    equal = (
        f'<line x1="{x(low):.1f}" y1="{y(low):.1f}" x2="{x(high):.1f}" y2="{y(high):.1f}" '
        f'stroke="{GREY}"/>'
    )
    marks = [
        f'<line x1="{LEFT}" x2="{SIDE - TOP}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
        f'stroke="{LINE}"/><text x="{LEFT - 4}" y="{y(value) + 3:.1f}" text-anchor="end">'
        f'{value:.3g}</text><text x="{x(value):.1f}" y="{SIDE - 8}" text-anchor="{anchor}">'
        f"{value:.3g}</text>"
        for value, anchor in ((low, "middle"), ((low + high) / 2, "middle"), (high, "end"))
    ]
    inner = "".join([*marks, equal, *dots])
    return (
        "<figure><figcaption>now, over then; on the line where they are equal"
        f"{', red where the decision flips' if found.classifies else ''}</figcaption>"
        f'<svg width="{SIDE}" height="{SIDE}" viewBox="0 0 {SIDE} {SIDE}" role="img">{inner}</svg>'
        "</figure>"
    )


def _colour(found: Replayed, then: float, now: float) -> str:
    return RED if found.classifies and (then >= THRESHOLD) != (now >= THRESHOLD) else BLUE
