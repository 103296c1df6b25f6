"""The report of an experiment: one page, whole in itself, made from its record alone."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from html import escape
from typing import TYPE_CHECKING

import msgspec

from penstock.spec import Experiment

from .experiment_looks import EFFECTIVE, RATIO_LEVEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from penstock.records import Arm, ExperimentLook, ExperimentState, GuardrailLook

__all__ = ["experiment_page", "rail_word", "sentence"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 260, 70, 12, 12, 26
BLUE, PALE, RED, GREY, LINE = "#1f5fbf", "#d5e2f5", "#c0392b", "#8c96a8", "#e4e6ea"
TICKS = 6
TOO_WIDE = 12.0  # the first intervals are so wide that nothing else would be seen
DAY_US = 86_400_000_000
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 56rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.5rem; margin-bottom: .3rem }} h2 {{ font-size: 1.1rem; margin: 2rem 0 .4rem }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th {{ text-align: left; color: #667; font-weight: normal; border-bottom: 1px solid #bbb }}
td, th {{ padding: .2rem 1.2rem .2rem 0; vertical-align: top }} td.n, th.n {{ text-align: right }}
p {{ margin: .3rem 0 }} .dim {{ color: #667 }} .said {{ border-left: 4px solid {colour}; padding: .5rem 1rem; background: #f6f7f9; font-size: 1.05rem }}
tr.no td {{ color: #c0392b; font-weight: 600 }} svg {{ max-width: 100%; height: auto }} svg text {{ font: 11px system-ui, sans-serif; fill: #667 }}
</style></head><body>
<h1>{title}</h1>
<p class="dim">{about}</p>
<p class="said">{said}</p>
<h2>The difference over time</h2>
<p class="dim">{axis}</p>
{plot}
<h2>The arms</h2>
{arms}
<h2>The sample ratio: do entities fall to the arms as they should?</h2>
{ratio}
{rails}
</body></html>
"""  # noqa: E501 - a page is not code
COLOURS = {"win": "#2e7d32", "loss": RED, "invalid": RED, "": BLUE}


def sentence(state: ExperimentState) -> str:
    """Where an experiment stands, in a sentence."""
    words = {
        "win": "Won",
        "loss": "Lost",
        "undecided": "Undecided",
        "invalid": "Invalid",
        "disturbed": "Ended without a verdict",
    }
    if state.verdict:
        outcome = f" Now: {state.outcome}." if state.outcome else ""
        said = state.reason[:1].upper() + state.reason[1:]
        head = f"{words[state.verdict]}: {state.reason}" if state.verdict in words else said
        return f"{head}.{outcome}"
    if not state.looks:
        return "It has begun; nothing was looked at yet."
    look, plan = state.looks[-1], msgspec.convert(state.plan, Experiment)
    few = min(look.tried.observed, look.champion.observed)
    if few < plan.min_scores:
        return f"Runs: {few} scores with an outcome in the smaller arm, {plan.min_scores} needed."
    effective = min(look.tried.effective, look.champion.effective)
    if effective < EFFECTIVE:
        return (
            f"Runs: an arm counts as {effective:.1f} entities, {EFFECTIVE:g} needed; a few "
            "entities bring most of its scores."
        )
    return "Runs: no difference is sure yet."


def experiment_page(state: ExperimentState) -> str:
    """An HTML page of an experiment: the difference over time, the arms, the ratio, the verdict.

    Args:
        state: The experiment.
    """
    plan = msgspec.convert(state.plan, Experiment)
    better = "smaller" if state.smaller_is_better else "larger"
    level = f"{100 - 100 * plan.alpha:.4g} %"
    ended = f", ended {state.ended_at:%Y-%m-%d %H:%M}" if state.ended_at else ""
    about = (
        f"{state.label} for {100 * plan.share:.4g} % of the entities, against {state.model}@"
        f"{state.champion}. Began {state.asked_at:%Y-%m-%d %H:%M} UTC{ended}."
    )
    axis = (
        f"Mean {state.metric} of the tried version less the champion's; {better} is better. The "
        f"band holds the true difference at every look at once with a chance of {level}."
    )
    last = state.looks[-1] if state.looks else None
    return PAGE.format(
        title=escape(f"Experiment {state.name} on {state.deployment}"),
        colour=COLOURS.get(state.verdict, GREY),
        about=escape(about),
        said=escape(sentence(state)),
        axis=escape(axis),
        plot=_plot(state.looks),
        arms=_arms(state, last) if last else "<p>Nothing was looked at yet.</p>",
        ratio=_ratio(last, plan, state) if last else "<p>Nothing was looked at yet.</p>",
        rails=_rails(last, plan) if last and last.guardrails else "",
    )


def _arms(state: ExperimentState, look: ExperimentLook) -> str:
    heads = ("arm", "entities", "scores", "by its version", "with an outcome", "count as entities")
    head = "".join(f'<th class="n">{name}</th>' for name in heads[1:])
    sides = (
        (f"{state.label} (tried)", look.tried),
        (f"{state.model}@{state.champion} (champion)", look.champion),
    )
    body = "".join(_arm(name, arm) for name, arm in sides)
    unkeyed = ""
    if look.without_key:
        unkeyed = (
            f'<p class="dim">{look.without_key:,} scores named no entity and belong to neither.</p>'
        )
    mean = f'<th class="n">mean {escape(state.metric)}</th>'
    return (
        f"<table><thead><tr><th>{heads[0]}</th>{head}{mean}</tr></thead><tbody>{body}</tbody>"
        f"</table>{unkeyed}"
    )


def _arm(name: str, arm: Arm) -> str:
    answered = f"{arm.answered / arm.scores:.1%}" if arm.scores else "-"
    cells = [
        f"{arm.entities:,}", f"{arm.scores:,}", answered, f"{arm.observed:,}",
        f"{arm.effective:,.1f}", "-" if arm.mean is None else f"{arm.mean:.5g}",
    ]  # fmt: skip
    inner = "".join(f'<td class="n">{cell}</td>' for cell in cells)
    return f"<tr><td>{escape(name)}</td>{inner}</tr>"


def _ratio(look: ExperimentLook, plan: Experiment, state: ExperimentState) -> str:
    share = plan.share / (1 - sum(state.shares.values()) + plan.share)
    rows = (
        ("scored", look.tried.entities, look.champion.entities, look.ratio),
        ("with an outcome", look.tried.observed_entities, look.champion.observed_entities,
         look.observed_ratio),
    )  # fmt: skip
    body = "".join(_ratio_row(*row) for row in rows)
    return (
        f'<p class="dim">{100 * share:.4g} % of them should meet the tried version. Evidence below '
        f"{RATIO_LEVEL:g} makes the experiment invalid, whenever it is looked at.</p>"
        '<table><thead><tr><th>entities</th><th class="n">tried</th><th class="n">champion</th>'
        '<th class="n">share</th><th class="n">evidence</th><th></th></tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _ratio_row(what: str, tried: int, other: int, evidence: float) -> str:
    share = f"{tried / (tried + other):.2%}" if tried + other else "-"
    wrong = evidence < RATIO_LEVEL
    cells = (f"{tried:,}", f"{other:,}", share, f"{evidence:.3g}")
    inner = "".join(f'<td class="n">{cell}</td>' for cell in cells)
    said = "they do not" if wrong else "as they should"
    return f'<tr class="{"no" if wrong else "yes"}"><td>{what}</td>{inner}<td>{said}</td></tr>'


def _rails(look: ExperimentLook, plan: Experiment) -> str:
    allowed = {one.metric: f"{one.worse:g}" for one in plan.guardrails}
    rows = "".join(
        f'<tr class="{"no" if one.breached else "yes"}"><td>{escape(one.metric)}</td>'
        f'<td class="n">{_number(one.difference)}</td><td class="n">{_number(one.low)}</td>'
        f'<td class="n">{_number(one.high)}</td><td class="n">{allowed[one.metric]}</td>'
        f"<td>{rail_word(one)}</td>"
        "</tr>"
        for one in look.guardrails
    )
    heads = ("difference", "at least", "at most", "may be worse by")
    head = "".join(f'<th class="n">{name}</th>' for name in heads)
    return (
        f"<h2>Guardrails</h2><table><thead><tr><th>metric</th>{head}<th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def rail_word(look: GuardrailLook) -> str:
    """Whether a guardrail holds, in a word or two."""
    if look.difference is None:
        return "too little is known"
    return "broken" if look.breached else "holds"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4g}"


def _plot(looks: Sequence[ExperimentLook]) -> str:
    """The difference as a line in its band, over time, with zero marked."""
    known = [
        (one.at_us, one.low, one.difference or 0.0, one.high)
        for one in looks
        if one.low is not None and one.high is not None
    ]
    if not known:
        return '<p class="dim">There are too few outcomes to draw.</p>'
    first, last = known[0][0], known[-1][0]
    _, low, _, high = known[-1]
    room = TOO_WIDE / 2 * max(high - low, 1e-12)
    bottom = max(min(0.0, *(one for _, one, _, _ in known)), min(0.0, low) - room)
    top = min(max(0.0, *(one for _, _, _, one in known)), max(0.0, high) + room)

    def x(at_us: float) -> float:
        return LEFT + (at_us - first) / max(last - first, 1) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        inside = min(max(value, bottom), top)
        return TOP + (top - inside) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    there = [f"{x(at):.1f},{y(high):.1f}" for at, _, _, high in known]
    back = [f"{x(at):.1f},{y(low):.1f}" for at, low, _, _ in reversed(known)]
    line = " ".join(f"{x(at):.1f},{y(middle):.1f}" for at, _, middle, _ in known)
    end = known[-1]
    # Where there was one look, it is the whole band.
    reach = f'x1="{x(end[0]):.1f}" x2="{x(end[0]):.1f}" y1="{y(high):.1f}" y2="{y(low):.1f}"'
    parts = [
        f'<polygon points="{" ".join([*there, *back])}" fill="{PALE}"/>',
        *_across(bottom, top, y),
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}" stroke="{RED}"/>',
        f'<polyline points="{line}" fill="none" stroke="{BLUE}" stroke-width="1.8"/>',
        f'<line {reach} stroke="{BLUE}"/>',
        f'<circle cx="{x(end[0]):.1f}" cy="{y(end[2]):.1f}" r="3" fill="{BLUE}"/>',
        *_times(first, last),
    ]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">{"".join(parts)}</svg>'


def _across(bottom: float, top: float, y: Callable[[float], float]) -> Iterator[str]:
    size = 10 ** math.floor(math.log10((top - bottom) / TICKS))
    step = next(size * times for times in (1, 2, 5, 10) if (top - bottom) / (size * times) <= TICKS)
    for place in range(math.ceil(bottom / step), math.floor(top / step) + 1):
        value = place * step
        yield (
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'stroke="{LINE}"/><text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">'
            f"{f'{value:+.3g}' if place else '0'}</text>"
        )


def _times(first_us: int, last_us: int) -> Iterator[str]:
    form = "%Y-%m-%d" if last_us - first_us > DAY_US else "%H:%M:%S"
    ends = [(first_us, LEFT, "start"), (last_us, WIDTH - RIGHT, "end")]
    for at_us, place, anchor in ends if last_us > first_us else ends[:1]:
        text = f"{EPOCH + timedelta(microseconds=at_us):{form}}"
        yield f'<text x="{place}" y="{HEIGHT - 6}" text-anchor="{anchor}">{text}</text>'
