"""What is odd about a dataset is said, and nothing else."""

from __future__ import annotations

import polars as pl
import pytest

from penstock.datasets.warnings import warnings_of

PARTS: tuple[str, ...] = ("train", "validation", "test")


def frame_of(shares: dict[str, float], rows: int = 1000) -> pl.DataFrame:
    frames = [
        pl.DataFrame({"up": [row < share * rows for row in range(rows)], "x": 1.0, "part": part})
        for part, share in shares.items()
    ]
    return pl.concat(frames)


def warned(frame: pl.DataFrame, shares: dict[str, float], label: str = "up") -> str:
    return "; ".join(warnings_of(frame, label, ["x"], shares))


def test_an_even_dataset_has_no_warnings() -> None:
    shares = {"train": 0.5, "validation": 0.54, "test": 0.46}
    assert not warned(frame_of(shares), shares)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_uneven_labels_are_named_by_part(part: str) -> None:
    shares = dict.fromkeys(PARTS, 0.5) | {part: 0.62}
    assert warned(frame_of(shares), shares) == (
        f"labels are uneven: the share of true labels is 0.5 in train, 0.62 in {part}"
    )


def test_a_difference_that_chance_explains_is_none() -> None:
    shares = {"train": 0.5, "validation": 0.62, "test": 0.5}
    assert not warned(frame_of(shares, rows=60), shares)


@pytest.mark.parametrize(("share", "kind"), [(0.02, "true"), (0.98, "false")])
def test_a_rare_class_is_said(share: float, kind: str) -> None:
    shares = dict.fromkeys(PARTS, share)
    assert f"2.00% of the training labels are {kind}" in warned(frame_of(shares), shares)


def test_thin_parts_and_empty_features_are_said() -> None:
    shares = dict.fromkeys(PARTS, 0.5)
    frame = frame_of(shares, rows=20).with_columns(x=pl.lit(None, dtype=pl.Float64))
    found = warned(frame, shares)
    assert "the train part has only 20 rows" in found
    assert "feature 'x' has no value in any training row" in found


def test_a_mean_that_moves_is_said_of_a_numeric_label() -> None:
    frame = pl.concat(
        pl.DataFrame({"y": [float(i % 10) + shift for i in range(500)], "x": 1.0, "part": part})
        for part, shift in zip(PARTS, (0.0, 0.0, 5.0), strict=True)
    )
    found = warned(frame, {"train": 4.5, "validation": 4.5, "test": 9.5}, "y")
    assert found == "labels are uneven: the mean label is 4.5 in train, 9.5 in test"


def test_a_dataset_without_a_label_has_no_balance() -> None:
    assert not warned(frame_of(dict.fromkeys(PARTS, 0.5)), {}, label="")
