"""How a view's features lie, as one page with plots: opened in a browser, mailed, kept."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from penstock.algebra import equal_bins, inner_span, merge_spreads, shift
from penstock.spec import FeatureView, expression_words, feature_words

from .humanise import measured
from .plots import bars, fan, steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.algebra import Spread
    from penstock.features import ColumnProfile
    from penstock.spec import Described, View

__all__ = ["profile_page"]

BINS = 40
LEAST_ROWS = 100
"""With fewer rows a day's distribution is not drawn beside that of the others."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 74rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.5rem; margin-bottom: .3rem }} h2 {{ font-size: 1.05rem; margin: 2.2rem 0 0 }}
p {{ margin: .2rem 0 }} .dim {{ color: #667 }} section {{ break-inside: avoid }}
.plots {{ display: flex; flex-wrap: wrap; gap: 1.2rem; margin-top: .4rem }}
footer {{ margin-top: 2.2rem; color: #667 }} figure {{ margin: 0 }} figcaption {{ color: #667; font-size: .8rem }} svg {{ display: block }}
svg text {{ font: 10px system-ui, sans-serif; fill: #667 }}
</style></head><body>
<h1>{title}</h1>
<p>{about}</p>
<p class="dim">{first} to {last}, {days}. The values of a day are those at its records: for each entity and time at
which a record is known on that day (UTC), the features of that entity then.{sampled}</p>
<div class="plots">{points}</div>
{sections}
<footer>Bands by day: from the 5 % to the 95 % quantile, darker from 25 % to 75 %, with the median. Distribution: {drawn};
the outermost bars hold what lies beyond. Shift is the population stability
index of the newest day against the days before: below 0.1 is commonly read as none, above 0.2 as much.</footer>
</body></html>
"""  # noqa: E501 - a page is not code


def profile_page(view: View, profiles: Sequence[ColumnProfile]) -> str:
    """An HTML page, whole in itself, of how some columns of a view lie day by day.

    Args:
        view: The view.
        profiles: Of at least one column and day, by day; as ``profiles_of`` gives them.
    """
    columns: dict[str, list[ColumnProfile]] = {}
    for one in profiles:
        columns.setdefault(one.feature, []).append(one)
    days = next(iter(columns.values()))
    sampled = [one.spread.rows for one in days if one.spread.rows < one.points]
    newest = _drawn(days)
    said = [view.description, f"Owner: {view.owner}." if view.owner else "", _tags(view)]
    return PAGE.format(
        title=escape(f"Features of {view.name}"),
        about=escape(" ".join(text for text in said if text)),
        first=days[0].day,
        last=days[-1].day,
        days=f"{len(days)} day{'s' * (len(days) > 1)} with records",
        sampled=f" Of days with more points, {max(sampled):,} were looked at." if sampled else "",
        points=_figure("points by day", bars([one.day for one in days], _points(days))),
        sections="\n".join(_section(view, name, some) for name, some in columns.items()),
        drawn=f"all days\nin grey, since none has the {LEAST_ROWS} values to be drawn by itself"
        if newest is None
        else f"{days[newest].day}\nin blue, the days before in grey",
    )


def _figure(title: str, plot: str) -> str:
    return f"<figure><figcaption>{title}</figcaption>{plot}</figure>"


def _tags(view: View) -> str:
    return f"Tags: {', '.join(view.tags)}." if view.tags else ""


def _points(days: Sequence[ColumnProfile]) -> list[float]:
    return [float(one.points) for one in days]


def _section(view: View, name: str, days: Sequence[ColumnProfile]) -> str:
    dates = [one.day for one in days]
    lines = [one.spread.quantiles[1:6] or None for one in days]
    plots = [
        _figure("values by day", fan(dates, lines)),
        _figure("nulls by day", bars(dates, [one.null_rate for one in days], most=1.0, share=True)),
        _figure("distribution", _distribution(days)),
    ]
    said = " · ".join(escape(text) for text in _said(view, name))
    numbers = " · ".join(f"{label} {value}" for label, value in _numbers(days).items())
    return (
        f'<section><h2>{escape(name)}</h2><p class="dim">{said}</p><p>{numbers}</p>'
        f'<div class="plots">{"".join(plots)}</div></section>'
    )


def _said(view: View, name: str) -> Iterator[str]:
    column = name.removeprefix(f"{view.name}.")
    meaning, told = _meaning(view, column)
    yield meaning
    yield from (text for text in (told.unit, told.description) if text)
    if told.deprecated:
        yield f"deprecated from {told.deprecated} on"


def _meaning(view: View, column: str) -> tuple[str, Described]:
    """What a column of a view is, in words, and what is said of its feature."""
    if isinstance(view, FeatureView):
        (feature,) = (one for one in view.features if column in one.names)
        return feature_words(feature), feature
    return expression_words(view.expressions[column]), view.described[column]


def _numbers(days: Sequence[ColumnProfile]) -> Mapping[str, str]:
    """What is told of the newest day in words."""
    one = days[-1]
    spread = one.spread
    told = {
        f"{one.day}: mean": _number(spread.mean),
        "std": _number(spread.std),
        "min": _number(spread.least),
        "median": _number(spread.quantiles[3] if spread.quantiles else None),
        "max": _number(spread.greatest),
        "nulls": f"{one.null_rate:.1%}",
    }
    before = [each.spread for each in days[:-1]]
    moved = shift(merge_spreads(before), spread) if before else None
    return told if moved is None else told | {"shift": f"{moved:.2f}"}


def _number(value: float | None) -> str:
    return "none" if value is None else measured(value)


def _drawn(days: Sequence[ColumnProfile]) -> int | None:
    """Place of the newest day with enough rows to be drawn alone; none where there is none."""
    return next((p for p in reversed(range(len(days))) if days[p].spread.rows >= LEAST_ROWS), None)


def _distribution(days: Sequence[ColumnProfile]) -> str:
    place = _drawn(days)
    newest = [] if place is None else [days[place].spread]
    before = [one.spread for one in days[: len(days) if place is None else place]]
    every = merge_spreads([one.spread for one in days])
    span = inner_span(every)
    if span is None:
        return steps([], [])
    shown = [_shares(merge_spreads(some), span) if some else [] for some in (before, newest)]
    edges, _ = equal_bins(every, BINS, span=span)
    return steps(edges.tolist(), shown)


def _shares(spread: Spread, span: tuple[float, float]) -> list[float]:
    _, counts = equal_bins(spread, BINS, span=span)
    total = counts.sum()
    return (counts / total).tolist() if len(counts) and total else []
