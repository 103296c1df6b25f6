"""The page of a profile, and the plots on it: whole in itself, and drawn where the values are."""

from __future__ import annotations

import re
from datetime import date, timedelta
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.algebra import spreads_of
from penstock.cli.plots import HEIGHT, WIDTH, bars, fan, steps
from penstock.cli.profile_page import profile_page
from penstock.features import ColumnProfile

DAY = date(2026, 1, 1)
VALUES = st.floats(-1e308, 1e308)
SOURCE = ps.Source(
    "pay",
    entity=ps.Entity("user"),
    timestamp="ts",
    schema={"user": ps.String, "ts": ps.Timestamp, "amount": ps.Float64},
)
VIEW = ps.FeatureView(
    "spending",
    source=SOURCE,
    description="<Customers> & what they spend.",
    tags=["money"],
    features=[ps.last("amount", unit="EUR"), ps.max("amount", where=ps.col("amount") < 5)],
)


def places(plot: str) -> list[float]:
    """Every coordinate of a plot, seen to be well-formed."""
    for element in ET.fromstring(plot).iter():  # noqa: S314 - of our own making
        for name, text in element.attrib.items():
            if name in {"x", "x1", "x2", "y", "y1", "y2", "cx", "cy", "height"}:
                yield_ = float(text)
                assert np.isfinite(yield_), (name, text)
    numbers = re.findall(r'points="([^"]*)"', plot)
    return [float(one) for text in numbers for pair in text.split() for one in pair.split(",")]


def days(count: int) -> list[date]:
    return [DAY + timedelta(days=2 * place) for place in range(count)]


@given(st.lists(st.lists(VALUES, min_size=5, max_size=5).map(sorted), min_size=1, max_size=6))
def test_bands_stay_within_the_plot(lines: list[list[float]]) -> None:
    plot = fan(days(len(lines)), [tuple(line) for line in lines])
    drawn = places(plot)
    assert all(0 <= x <= WIDTH for x in drawn[::2])
    assert all(0 <= y <= HEIGHT for y in drawn[1::2])
    assert plot.count("<circle") == len(lines)


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=6))
def test_bars_are_as_high_as_their_values(values: list[float]) -> None:
    plot = bars(days(len(values)), values)
    places(plot)
    heights = [float(text) for text in re.findall(r'<rect [^>]*height="([^"]*)"', plot)]
    top = max(values) or 1.0
    assert heights == pytest.approx([104 * value / top for value in values], abs=0.11)


def test_distributions_are_drawn_where_there_are_any() -> None:
    plot = steps([0.0, 1.0, 2.0], [[0.5, 0.5], [0.9, 0.1]])
    drawn = places(plot)
    assert plot.count("<polygon") == 2
    assert min(drawn[1::2]) == 8.0
    assert steps([0.0, 1.0], [[], [1.0]]).count("<polygon") == 1
    assert "no values" in steps([], [])
    assert "no values" in fan(days(2), [None, None])


def profiled(name: str, day: int, values: list[float]) -> ColumnProfile:
    (spread,) = spreads_of(np.array(values), np.array([0]), np.array([len(values)]))
    return ColumnProfile(feature=name, day=days(day + 1)[day], points=900, spread=spread, batch=1)


def test_a_page_is_whole_in_itself_and_says_what_it_shows() -> None:
    rng = np.random.default_rng(1)
    profiles = [
        profiled(name, day, [*rng.normal(day, 1, 300), np.nan, *[5.0] * 20])
        for day in range(4)
        for name in VIEW.names
    ]
    page = profile_page(VIEW, profiles)
    assert "&lt;Customers&gt; &amp; what they spend. Tags: money." in page
    assert "where amount &lt; 5" in page
    assert "EUR" in page
    assert "2026-01-01 to 2026-01-07, 4 days with records" in page
    assert "321 were looked at" in page
    assert "Distribution: 2026-01-07\nin blue, the days before in grey" in page
    assert page.count("<svg") == 1 + 3 * 2
    assert not re.search(r"(src|href)=|https?://|<script", page)
    for plot in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        places(plot)
    moved = [float(text) for text in re.findall(r"shift ([0-9.]+)", page)]
    assert all(value > 1 for value in moved)


def test_a_page_of_one_day_of_nulls_is_a_page() -> None:
    page = profile_page(VIEW, [profiled(name, 0, [np.nan] * 3) for name in VIEW.names])
    assert page.count("no values") == 4
    assert "1 day with records" in page
    assert (
        "Distribution: all days\nin grey, since none has the 100 values to be drawn by itself"
        in page
    )
    assert "nulls 100.0%" in page
