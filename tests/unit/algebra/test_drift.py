from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra import PSI_FLOOR, count_bins, psi, reference_bins
from penstock.errors import InputError

NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=64)
ATOMS = st.sampled_from([0.0, -0.0, 1.0, 2.5, -3.0, 1e-300, math.nan])
COLUMNS = st.one_of(
    st.lists(NUMBERS, max_size=60), st.lists(ATOMS, max_size=60), st.lists(NUMBERS | ATOMS)
)
COUNTS = st.integers(min_value=0, max_value=10**6)


def naive_place(value: float, edges: tuple[float, ...]) -> int:
    """Index of the value's bin, word for word as ColumnBins says it."""
    if math.isnan(value):
        return len(edges) + 1
    for place, edge in enumerate(edges):
        if edge >= value:
            return place
    return len(edges)


def naive_counts(values: list[float], edges: tuple[float, ...]) -> list[int]:
    counts = [0] * (len(edges) + 2)
    for value in values:
        counts[naive_place(value, edges)] += 1
    return counts


def naive_psi(reference: list[int], counts: list[int]) -> float:
    total = 0.0
    for expected, found in zip(reference, counts, strict=True):
        p = max(expected / sum(reference), PSI_FLOOR)
        q = max(found / sum(counts), PSI_FLOOR)
        total += (q - p) * math.log(q / p)
    return total


@given(COLUMNS, st.integers(min_value=2, max_value=12))
def test_edges_grow_and_counts_are_those_of_the_naive_rule(values: list[float], bins: int) -> None:
    found = reference_bins(values, bins=bins)
    assert all(math.isfinite(edge) for edge in found.edges)
    assert all(a < b for a, b in zip(found.edges, found.edges[1:], strict=False))
    assert len(found.edges) <= 2 * (bins - 1)
    assert list(found.counts) == naive_counts(values, found.edges)


@given(COLUMNS, COLUMNS, COLUMNS)
def test_counts_of_parts_add_up_to_those_of_the_whole(
    reference: list[float], first: list[float], second: list[float]
) -> None:
    edges = reference_bins(reference).edges
    whole = count_bins(first + second, edges)
    assert whole.dtype == np.int64
    assert list(whole) == list(count_bins(first, edges) + count_bins(second, edges))
    assert list(whole - count_bins(first, edges)) == naive_counts(second, edges)


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=20))
def test_psi_is_that_of_the_naive_sum(pairs: list[tuple[int, int]]) -> None:
    reference, counts = [a for a, _ in pairs], [b for _, b in pairs]
    if not sum(reference) or not sum(counts):
        with pytest.raises(InputError, match="no rows"):
            psi(reference, counts)
        return
    value = psi(reference, counts)
    assert value == pytest.approx(naive_psi(reference, counts), rel=1e-9, abs=1e-12)
    assert value >= 0
    assert value == pytest.approx(psi(counts, reference), rel=1e-9, abs=1e-12)
    assert psi(reference, [3 * count for count in reference]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("constant", [0.0, 1.0, -5e300, 1e-310])
def test_a_constant_column_sees_a_move_to_either_side(constant: float) -> None:
    found = reference_bins([constant] * 50)
    assert sorted(found.counts) == [0, 0, 0, 50]
    stay, up = count_bins([constant] * 9, found.edges), count_bins([constant + 1] * 9, found.edges)
    down = count_bins([constant - max(1.0, abs(constant))] * 9, found.edges)
    assert psi(found.counts, stay) == 0
    assert psi(found.counts, down) > 1
    assert psi(found.counts, up) > 1 or constant + 1 == constant


def test_a_nearly_constant_column_keeps_its_value_apart() -> None:
    found = reference_bins([0.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.counts == (0, 95, 5, 0)
    assert psi(found.counts, count_bins([-1.0] * 100, found.edges)) > 1


def test_the_same_number_computed_in_another_order_is_no_drift() -> None:
    found = reference_bins([0.1 + 0.2] * 100)
    assert psi(found.counts, count_bins([0.3] * 100, found.edges)) == 0


def test_ten_bins_of_many_distinct_values_are_equal() -> None:
    found = reference_bins(np.random.default_rng(3).permutation(1000))
    assert found.counts == (100,) * 10 + (0,)
    assert found.edges == tuple(float(100 * k - 1) for k in range(1, 10))


def test_more_nulls_are_drift() -> None:
    found = reference_bins([*range(100), *[math.nan] * 10])
    same = count_bins([*range(100), *[math.nan] * 10], found.edges)
    more = count_bins([*range(100), *[math.nan] * 100], found.edges)
    assert psi(found.counts, same) == 0
    assert psi(found.counts, more) > 0.2


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="3 bins cannot be compared with a reference of 2"):
        psi([1, 2], [1, 2, 3])
    with pytest.raises(InputError, match="at least 2 bins"):
        reference_bins([1.0, 2.0], bins=1)
