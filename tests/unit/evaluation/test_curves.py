"""Curves go through the points that scikit-learn says, and keep their ends when thinned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn import metrics as theirs

from penstock.evaluation.curves import calibration, precision_recall_curve, roc_curve
from penstock.evaluation.pictures import draw

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(5)


def rows(count: int, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    p = RANDOM.random(count)
    y = (RANDOM.random(count) < p).astype(float)
    return y, (np.round(p, 1) if ties else p)


@pytest.mark.parametrize("ties", [False, True])
def test_the_roc_curve_is_scikit_learns(*, ties: bool) -> None:
    y, p = rows(300, ties=ties)
    curve = roc_curve(y, p)
    x, found, _ = theirs.roc_curve(y, p, drop_intermediate=False)
    assert curve.x == pytest.approx(x)
    assert curve.y == pytest.approx(found)


@pytest.mark.parametrize("ties", [False, True])
def test_the_precision_recall_curve_is_scikit_learns(*, ties: bool) -> None:
    y, p = rows(300, ties=ties)
    curve = precision_recall_curve(y, p)
    precision, recall, _ = theirs.precision_recall_curve(y, p)
    assert curve.x == pytest.approx(recall[:-1][::-1])
    assert curve.y == pytest.approx(precision[:-1][::-1])


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    curve = roc_curve(*rows(5000))
    assert len(curve.x) == len(curve.y) == 1000
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)


def test_calibration_compares_groups_of_equal_size() -> None:
    y, p = rows(1003)
    found = calibration(y, p)
    assert found.rows.tolist() == [101] * 3 + [100] * 7
    lowest = np.argsort(p)[:101]
    assert found.predicted[0] == pytest.approx(p[lowest].mean())
    assert found.observed[0] == pytest.approx(y[lowest].mean())
    assert list(found.predicted) == sorted(found.predicted)
    assert calibration([0, 1], [0.1, 0.9]).rows.tolist() == [1, 1]


def test_a_classification_has_three_pictures(tmp_path: Path) -> None:
    files = draw(tmp_path, "m", "classification", {"validation": rows(80), "test": rows(80)})
    assert [path.name for path in files] == ["roc.png", "precision_recall.png", "calibration.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)


def test_a_regression_has_two_pictures(tmp_path: Path) -> None:
    part = (RANDOM.normal(size=50), RANDOM.normal(size=50))
    files = draw(tmp_path, "m", "regression", {"validation": part, "test": part})
    assert [path.name for path in files] == ["predicted.png", "residuals.png"]


def test_labels_that_are_all_alike_have_no_pictures(tmp_path: Path) -> None:
    alike = (np.ones(5), RANDOM.random(5))
    assert draw(tmp_path, "m", "classification", {"validation": alike, "test": alike}) == []
