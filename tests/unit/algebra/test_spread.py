"""Spreads against the plainest computation, and merged in any order."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra import (
    SPREAD_QUANTILES,
    Spread,
    equal_bins,
    inner_span,
    merge_spreads,
    psi,
    reference_bins,
    shift,
    spreads_of,
)
from penstock.algebra.drift import count_bins
from penstock.algebra.quantiles import bucket_edges

NUMBERS = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e15, -1e-9, 1e300, -1e300, 1e-300]),
    st.floats(-1e6, 1e6, allow_subnormal=False),
    st.just(math.nan),
)
MANY = st.lists(NUMBERS, max_size=300)


def spread_of(values: list[float]) -> Spread:
    (one,) = spreads_of(np.array(values, dtype=float), np.array([0]), np.array([len(values)]))
    return one


@given(MANY)
def test_a_spread_says_what_the_values_say(values: list[float]) -> None:
    found, known = spread_of(values), sorted(value for value in values if not math.isnan(value))
    assert (found.rows, found.nulls) == (len(values), len(values) - len(known))
    if not known:
        assert (found.least, found.greatest, found.mean, found.buckets) == (None, None, None, ())
        return
    size = max(map(abs, known))
    assert (found.least, found.greatest) == (known[0], known[-1])
    assert found.mean == pytest.approx(math.fsum(known) / len(known), abs=1e-12 * size)
    if len(known) > 1:
        assert found.std == pytest.approx(statistics.stdev(known), rel=1e-6, abs=1e-12 * size)
    else:
        assert found.std is None
    ranks = [max(math.ceil(q * len(known) - 1e-9), 1) for q in SPREAD_QUANTILES]
    assert found.quantiles == tuple(known[rank - 1] for rank in ranks)
    low, high = bucket_edges(np.array(found.buckets), np.full(len(found.buckets), found.level))
    # A bucket of negative values includes its far end and not its near one.
    inside = [
        sum((a < value <= b) if b <= 0 and a < 0 else (a <= value < b) for value in known)
        for a, b in zip(low, high, strict=True)
    ]
    assert inside == list(found.counts)


@given(st.lists(st.lists(NUMBERS, max_size=60), min_size=1, max_size=5), st.randoms())
def test_merged_spreads_are_the_spread_of_everything(
    parts: list[list[float]], random: object
) -> None:
    together = spread_of([value for part in parts for value in part])
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    merged = merge_spreads([spread_of(part) for part in shuffled])
    for name in ("rows", "nulls", "least", "greatest", "level", "buckets", "counts"):
        assert getattr(merged, name) == getattr(together, name), name
    size = max((abs(v) for part in parts for v in part if not math.isnan(v)), default=0.0)
    for name in ("mean", "std"):
        expected = getattr(together, name)
        if expected is None:
            assert getattr(merged, name) is None
        else:
            assert getattr(merged, name) == pytest.approx(expected, rel=1e-6, abs=1e-9 * size)


def test_runs_are_told_apart() -> None:
    values = np.array([1.0, np.inf, 2.0, 3.0])
    first, empty, last = spreads_of(values, np.array([0, 2, 2]), np.array([2, 2, 4]))
    assert (first.rows, first.nulls, first.greatest) == (2, 1, 1.0)
    assert (empty.rows, empty.mean) == (0, None)
    assert (last.least, last.greatest, last.mean) == (2.0, 3.0, 2.5)


def test_values_at_the_ends_of_float64_have_a_spread() -> None:
    most = float(np.finfo(np.float64).max)
    found = spread_of([-most, most])
    assert (found.mean, found.std, found.greatest) == (0.0, None, most)
    merged = merge_spreads([spread_of([-most, most / 2]), found])
    assert merged.mean == pytest.approx(-most / 8)
    edges, counts = equal_bins(found, 4)
    assert np.isfinite(edges).all()
    assert counts.sum() == pytest.approx(2)


@pytest.mark.parametrize("moved", [0.0, 0.3, 1.0])
def test_a_shift_is_nearly_the_index_of_the_values_themselves(moved: float) -> None:
    rng = np.random.default_rng(5)
    before, after = rng.normal(10, 1, 20_000), rng.normal(10 + moved, 1, 20_000)
    bins = reference_bins(before)
    exact = psi(bins.counts, count_bins(after, bins.edges))
    found = shift(spread_of(before.tolist()), spread_of(after.tolist()))
    assert found == pytest.approx(exact, rel=0.1, abs=0.003)


def test_nulls_and_constants_shift_too() -> None:
    one, two = spread_of([1.0] * 200), spread_of([2.0] * 200)
    nulls = spread_of([math.nan] * 200)
    assert shift(one, one) == pytest.approx(0)
    assert (shift(one, two) or 0) > 1
    assert (shift(one, nulls) or 0) > 1
    assert shift(nulls, nulls) == pytest.approx(0)
    assert shift(one, spread_of([1.0] * 99)) is None


@given(MANY, st.integers(1, 30))
def test_equal_bins_hold_every_value_once(values: list[float], bins: int) -> None:
    found = spread_of(values)
    edges, counts = equal_bins(found, bins)
    if found.least is None or found.greatest is None:
        assert len(edges) == len(counts) == 0
        return
    assert (len(edges), len(counts)) == (bins + 1, bins)
    assert edges[0] <= found.least <= found.greatest <= edges[-1]
    assert counts.sum() == pytest.approx(found.rows - found.nulls)
    assert (counts >= -1e-9).all()
    low, high = inner_span(found) or (0.0, 0.0)
    assert found.least <= low <= high <= found.greatest
    _, within = equal_bins(found, bins, span=(low, high))
    assert within.sum() == pytest.approx(found.rows - found.nulls)
