"""How far rounding may move a feature, for each of its values by itself.

A floating sum has no fixed precision: one that cancels out to nearly nothing is as far from the
exact one as its largest terms make it. What a state promises is a share of the terms, so the terms
without their signs are aggregated too, in the same windows. What is computed on demand moves as its
expression does when what it reads is moved as far as it may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import polars as pl

from penstock.spec import Aggregate, DType, FeatureView, base_views, col, is_condition

from .composition import Composition
from .offline import MEMORY_BYTES, point_in_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.algebra import FloatArray, IntArray
    from penstock.ports import Tables
    from penstock.spec import Expression, View

__all__ = ["ROUNDING", "Expected", "expected_features"]

ROUNDING = 1e-9
"""How far two ways to a value may be apart, as a share of what it is rounded from."""

EXACT_BELOW = float(1 << 53)
"""Whole numbers are added without rounding while no sum reaches this."""

Terms = Literal["sum", "mean", "decayed_mean"]
TERMS: Mapping[str, Terms] = {
    "sum": "sum", "mean": "mean", "std": "mean", "var": "mean", "decayed_mean": "decayed_mean",
}  # fmt: skip
SQUARED = frozenset({"std", "var"})


class Expected(NamedTuple):
    """What features should be, by the batch engine.

    Attributes:
        values: The value of each row, float64 by full name, NaN for null.
        room: How far each may be from it by rounding alone; 0 where it has to be equal.
    """

    values: Mapping[str, FloatArray]
    room: Mapping[str, FloatArray]


def expected_features(
    tables: Tables,
    views: Sequence[View],
    spine: pl.DataFrame,
    *,
    batches: Mapping[str, int | IntArray],
    memory_bytes: int = MEMORY_BYTES,
) -> Expected:
    """Compute features at the rows of a spine, and how far rounding may move each value.

    Args:
        tables: Where the raw tables are.
        views: The views.
        spine: As ``point_in_time`` takes it.
        batches: Last raw batch to use, by name of the feature view, as ``point_in_time`` takes it.
        memory_bytes: As ``point_in_time`` takes it.

    Raises:
        NotReadyError: A source has no records.
        UserCodeError: A function of the user failed.
    """
    base = base_views(views)
    terms = {view.name: _terms(view) for view in base if not _is_exact(view)}
    frame = point_in_time(
        tables,
        [*base, *terms.values()],
        spine,
        batches={
            **batches,
            **{one.name: batches[name] for name, one in terms.items() if name in batches},
        },
        memory_bytes=memory_bytes,
    )
    room = {
        f"{view.name}.{name}": _room(view, feature, frame, terms)
        for view in base
        for feature in view.features
        for name in feature.names
    }
    composition = Composition(views)
    found = _features(composition, frame)
    return Expected(found, room | _moved(composition, frame, found, room))


def _is_exact(view: FeatureView) -> bool:
    return all(feature.is_exact for feature in view.features)


def _terms(view: FeatureView) -> FeatureView:
    """A view of the terms of each rounded feature, without their signs, in the same window."""
    made: dict[str, Expression] = {}
    features = []
    for feature in view.features:
        if feature.is_exact:
            continue
        value = col(feature.column) * 1.0  # a condition as a number
        squared = feature.op in SQUARED
        name = f"{feature.column}--{'square' if squared else 'size'}"
        made[name] = value * value if squared else abs(value)
        features.append(
            Aggregate(
                op=TERMS[feature.op],
                column=name,
                over=feature.over,
                hop=feature.hop,
                where=feature.where,
                name=feature.name,
                half_life=feature.half_life,
            )
        )
    return FeatureView(
        name=f"{view.name}--terms",
        source=view.source,
        derive={**view.derive, **made},
        features=features,
        ttl=view.ttl,
    )


def _room(
    view: FeatureView, feature: Aggregate, frame: pl.DataFrame, terms: Mapping[str, FeatureView]
) -> FloatArray:
    """How far each value of a stored feature may be moved."""
    if feature.is_exact:
        return np.zeros(frame.height)
    column = _floats(frame[f"{terms[view.name].name}.{feature.name}"])
    # Terms that are too large to be added are no bound.
    size = np.where(np.isnan(column), np.inf, column)
    if feature.op == "std":
        size = np.sqrt(size)
    room = ROUNDING * size
    if feature.op == "sum" and _is_whole(view, feature.column):
        room[size < EXACT_BELOW] = 0.0
    return room


def _is_whole(view: FeatureView, column: str) -> bool:
    if column in view.derive:
        return is_condition(view.derive[column])
    return view.source.columns[column] in {DType.INT64, DType.BOOLEAN}


def _features(composition: Composition, frame: pl.DataFrame) -> dict[str, FloatArray]:
    return {name: _floats(one) for name, one in composition.frame(frame).to_dict().items()}


def _floats(values: pl.Series) -> FloatArray:
    return values.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _moved(
    composition: Composition,
    frame: pl.DataFrame,
    found: Mapping[str, FloatArray],
    room: Mapping[str, FloatArray],
) -> dict[str, FloatArray]:
    """How far each value on demand may be moved: by its own rounding, and by what it reads."""
    moved = {
        name: ROUNDING * np.nan_to_num(np.abs(values))
        for name, values in found.items()
        if name not in room
    }
    if not moved:
        return {}
    for name, one in room.items():
        for way in (one, -one) if one.any() else ():
            column = pl.Series(name, _floats(frame[name]) + way, nan_to_null=True)
            there = _features(composition, frame.with_columns(column))
            for other in moved:
                moved[other] += _apart(there[other], found[other])
    return moved


def _apart(one: FloatArray, other: FloatArray) -> FloatArray:
    """How far values are apart; for ever where one of the two is null."""
    nulls = np.isnan(one) | np.isnan(other)
    apart = np.where(nulls, np.inf, np.abs(one - other))
    return np.where(np.isnan(one) & np.isnan(other), 0.0, apart)
