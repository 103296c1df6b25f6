"""Small plots as SVG text: nothing is loaded for them, and a page with them is one file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

__all__ = ["bars", "fan", "steps"]

WIDTH, HEIGHT = 360, 130
LEFT, RIGHT, TOP, BOTTOM = 54, 6, 8, 18
BLUE, PALE, PALER, GREY, LINE = "#1f5fbf", "#9dbbe6", "#d5e2f5", "#c3c9d4", "#e4e6ea"
MOST_LABELS = 2
THOUSAND, MILLION = 1e3, 1e6


def bars(
    days: Sequence[date], values: Sequence[float], *, most: float = 0.0, share: bool = False
) -> str:
    """A bar for each day.

    Args:
        days: The days, growing; those between them that have no value stay empty.
        values: A value of at least 0 for each.
        most: The top of the scale; the greatest value when 0.
        share: Whether the values are shares, to be told in per cent.
    """
    top = most or max(values, default=0.0) or 1.0
    low, high = _span(days)
    width = max((WIDTH - LEFT - RIGHT) / (high - low + 1) * 0.8, 1.0)
    drawn = [
        f'<rect x="{_x(day.toordinal(), low, high) - width / 2:.1f}" '
        f'y="{_y(value, 0.0, top):.1f}" width="{width:.1f}" '
        f'height="{_y(0.0, 0.0, top) - _y(value, 0.0, top):.1f}" fill="{BLUE}">'
        f"<title>{day}: {_text(value, share=share)}</title></rect>"
        for day, value in zip(days, values, strict=True)
    ]
    return _svg([*_scale(0.0, top, share=share), *drawn, *_dates(days)])


def fan(days: Sequence[date], lines: Sequence[Sequence[float] | None]) -> str:
    """Bands around a line.

    Args:
        days: The days, growing.
        lines: For each the 5, 25, 50, 75 and 95 % quantiles; none for a day without values.
    """
    known = [(day, quantiles) for day, quantiles in zip(days, lines, strict=True) if quantiles]
    if not known:
        return _svg([_nothing()])
    bottom, top = min(each[0] for _, each in known), max(each[4] for _, each in known)
    low, high = _span(days)
    points = [
        (_x(day.toordinal(), low, high), [_y(value, bottom, top) for value in quantiles])
        for day, quantiles in known
    ]
    dots = [
        f'<circle cx="{x:.1f}" cy="{ys[2]:.1f}" r="2.5" fill="{BLUE}"><title>{day}: '
        f"{', '.join(_text(value) for value in quantiles)}</title></circle>"
        for (x, ys), (day, quantiles) in zip(points, known, strict=True)
    ]
    median = " ".join(f"{x:.1f},{ys[2]:.1f}" for x, ys in points)
    line = f'<polyline points="{median}" fill="none" stroke="{BLUE}" stroke-width="1.5"/>'
    inner = [_band(points, 0, 4, PALER), _band(points, 1, 3, PALE), line, *dots]
    return _svg([*_scale(bottom, top), *inner, *_dates(days)])


def steps(edges: Sequence[float], shown: Sequence[Sequence[float]]) -> str:
    """Two distributions over the same bins, the first grey, the second a blue line.

    Args:
        edges: The edges of the bins.
        shown: The share in each bin; empty for one that is not drawn.
    """
    top = max((value for shares in shown for value in shares), default=0.0)
    if not top:
        return _svg([_nothing()])
    low, high = edges[0], edges[-1]
    drawn: list[str] = []
    for shares, look in zip(shown, _LOOKS, strict=True):
        if shares:
            path = " ".join(_outline(edges, shares, top))
            drawn.append(f'<polygon points="{path}" {look}/>')
    ends = [
        _label(LEFT, HEIGHT - 5, _text(low), "start"),
        _label(WIDTH - RIGHT, HEIGHT - 5, _text(high), "end"),
    ]
    return _svg([*_scale(0.0, top, share=True), *drawn, *ends])


_LOOKS = (f'fill="{GREY}"', f'fill="none" stroke="{BLUE}" stroke-width="1.5"')


def _outline(edges: Sequence[float], shares: Sequence[float], top: float) -> Iterator[str]:
    low, high, ground = edges[0], edges[-1], _y(0.0, 0.0, top)
    yield f"{_x(low, low, high):.1f},{ground:.1f}"
    for place, share in enumerate(shares):
        for edge in (edges[place], edges[place + 1]):
            yield f"{_x(edge, low, high):.1f},{_y(share, 0.0, top):.1f}"
    yield f"{_x(high, low, high):.1f},{ground:.1f}"


def _band(
    points: Sequence[tuple[float, Sequence[float]]], lower: int, upper: int, colour: str
) -> str:
    there = [f"{x:.1f},{ys[upper]:.1f}" for x, ys in points]
    back = [f"{x:.1f},{ys[lower]:.1f}" for x, ys in reversed(points)]
    return f'<polygon points="{" ".join([*there, *back])}" fill="{colour}"/>'


def _scale(bottom: float, top: float, *, share: bool = False) -> Iterator[str]:
    """Lines across, with what they stand for."""
    for value in dict.fromkeys((bottom, (bottom + top) / 2, top)):
        y = _y(value, bottom, top)
        yield (
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{LINE}"/>'
            + _label(LEFT - 5, y + 3, _text(value, share=share), "end")
        )


def _dates(days: Sequence[date]) -> Iterator[str]:
    low, high = _span(days)
    if len(days) < MOST_LABELS:
        yield _label(_x(low, low, high), HEIGHT - 5, str(days[0]), "middle")
        return
    yield _label(LEFT, HEIGHT - 5, str(days[0]), "start")
    yield _label(WIDTH - RIGHT, HEIGHT - 5, str(days[-1]), "end")


def _span(days: Sequence[date]) -> tuple[float, float]:
    """From half a day before the first to half a day after the last."""
    return days[0].toordinal() - 0.5, days[-1].toordinal() + 0.5


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (value - low) / (high - low or 1.0) * (WIDTH - LEFT - RIGHT)


def _y(value: float, bottom: float, top: float) -> float:
    """A constant lies in the middle."""
    room = HEIGHT - TOP - BOTTOM
    if math.isinf(top - bottom):
        value, bottom, top = value / 2, bottom / 2, top / 2
    share = (value - bottom) / (top - bottom) if top > bottom else 0.5
    return TOP + (1 - share) * room


def _text(value: float, *, share: bool = False) -> str:
    if share:
        return f"{value:.1%}"
    return f"{value:,.0f}" if THOUSAND <= abs(value) < MILLION else f"{value:.3g}"


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _nothing() -> str:
    return _label(WIDTH / 2, HEIGHT / 2, "no values", "middle")


def _svg(parts: Sequence[str]) -> str:
    inner = "".join(parts)
    return f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">{inner}</svg>'
