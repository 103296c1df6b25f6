"""What a reader of a dataset should know: uneven labels, rare classes, thin or empty parts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from .splits import PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["warnings_of"]

UNEVEN_SHARE = 0.05
UNEVEN_ERRORS = 4.0
RARE_SHARE = 0.05
THIN_ROWS = 50


def warnings_of(
    frame: pl.DataFrame, label: str, features: Sequence[str], balance: Mapping[str, float]
) -> tuple[str, ...]:
    """Look a dataset over.

    Args:
        frame: Its rows with the features, the label and ``part``.
        label: Name of the label; empty for none.
        features: Names of the features.
        balance: Share of true labels, or mean label, of each part.

    Returns:
        Warnings as sentences; none for a dataset without oddities.
    """
    parts = {part: frame.filter(pl.col("part") == part) for part in PARTS}
    found = [
        f"the {part} part has only {len(rows)} rows"
        for part, rows in parts.items()
        if len(rows) < THIN_ROWS
    ]
    if label:
        found += _uneven(parts, label, balance)
    if label and frame.schema[label] == pl.Boolean:
        found += _rare(balance["train"])
    empty = [name for name in features if parts["train"][name].null_count() == len(parts["train"])]
    found += [f"feature {name!r} has no value in any training row" for name in empty]
    return tuple(found)


def _uneven(
    parts: Mapping[str, pl.DataFrame], label: str, balance: Mapping[str, float]
) -> Iterator[str]:
    """Parts whose labels differ from the training rows' by more than chance and by much."""
    train = parts["train"][label].cast(pl.Float64)
    spread = _std(train)
    classifies = parts["train"].schema[label] == pl.Boolean
    least = UNEVEN_SHARE if classifies else spread / 4
    what = "share of true labels" if classifies else "mean label"
    for part in PARTS[1:]:
        chance = spread * math.sqrt(1 / len(train) + 1 / max(len(parts[part]), 1))
        if abs(balance[part] - balance["train"]) > max(least, UNEVEN_ERRORS * chance):
            yield (
                f"labels are uneven: the {what} is {balance['train']:.4g} in train, "
                f"{balance[part]:.4g} in {part}"
            )


def _rare(share: float) -> Iterator[str]:
    if min(share, 1 - share) < RARE_SHARE:
        kind = "true" if share < RARE_SHARE else "false"
        yield (
            f"classes are out of balance: {min(share, 1 - share):.2%} of the training labels are "
            f"{kind}; accuracy says little, choose by average_precision"
        )


def _std(values: pl.Series) -> float:
    found = values.std()
    return float(found) if isinstance(found, (int, float)) else 0.0
