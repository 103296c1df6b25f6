from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.deployment import TOLERANCE, adversarial_rows, prove

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Fixed:
    def __init__(self, values: list[float]) -> None:
        self._values = np.array(values, dtype=np.float64)

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._values[: len(x)].copy()


X = np.zeros((3, 1))


def test_equal_predictions_hold() -> None:
    proof = prove(_Fixed([0.1, 0.5, 0.9]), _Fixed([0.1, 0.5, 0.9]), X, classification=True)

    assert proof.holds
    assert (proof.rows, proof.off, proof.flips, proof.max_difference) == (3, 0, 0, 0.0)
    assert "equal on 3 rows" in proof.text


def test_a_row_off_by_more_than_the_tolerance_counts() -> None:
    proof = prove(_Fixed([0.1, 0.6, 0.9]), _Fixed([0.1, 0.6002, 0.9]), X, classification=True)

    assert (proof.off, proof.flips, proof.holds) == (1, 0, False)


def test_the_smallest_flip_at_one_half_counts() -> None:
    proof = prove(_Fixed([0.1, 0.5, 0.9]), _Fixed([0.1, 0.4999999, 0.9]), X, classification=True)

    assert (proof.off, proof.flips, proof.holds) == (0, 1, False)


def test_a_missing_prediction_is_infinitely_wrong() -> None:
    proof = prove(_Fixed([0.1, 0.6, 0.9]), _Fixed([0.1, np.nan, 0.9]), X, classification=True)

    assert proof.off == 1
    assert proof.max_difference == np.inf


def test_values_are_compared_relative_to_their_size() -> None:
    proof = prove(_Fixed([1e6, -1e6, 0.1]), _Fixed([1e6 + 1, -1e6, 0.1]), X, classification=False)

    assert proof.holds
    assert proof.flips == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.data())
def test_what_holds_differs_nowhere(right: list[float], data: st.DataObject) -> None:
    shifts = st.floats(-2 * TOLERANCE, 2 * TOLERANCE)
    got = [value + data.draw(shifts) for value in right]
    proof = prove(_Fixed(right), _Fixed(got), np.zeros((len(right), 1)), classification=True)

    same_side = all((a >= 0.5) == (b >= 0.5) for a, b in zip(right, got, strict=True))
    near = all(abs(a - b) <= TOLERANCE for a, b in zip(right, got, strict=True))
    assert proof.holds == (same_side and near)


def test_adversarial_rows_keep_the_magnitudes_and_try_every_null() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 3)) * [1, 1e6, 1e-3]
    x[3, 1] = np.nan

    rows = adversarial_rows(x)

    assert rows.shape[1] == 3
    for column in range(3):
        alone = np.isnan(rows[:, column]) & (np.isnan(rows).sum(axis=1) == 1)
        assert alone.any()
    assert np.isnan(rows).all(axis=1).any()
    assert np.nanmax(rows[:, 1]) <= np.nanmax(x[:, 1]) * (1 + 1e-5)
    assert np.nanmin(rows[:, 2]) >= np.nanmin(x[:, 2]) * (1 + 1e-5)
