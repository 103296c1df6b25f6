"""Several views read together: the features that are stored, and those computed on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.algebra import compile_on_demand
from penstock.errors import InputError, nearest
from penstock.spec import (
    DType,
    FeatureView,
    OnDemandView,
    base_views,
    entities_of,
    request_fields,
    view_faults,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.algebra import FloatArray
    from penstock.spec import View

__all__ = ["Composition", "request_dtype"]

FEW_ROWS = 64
"""Up to so many rows are computed one by one; a frame costs more than that to set up."""

LARGEST = (1 << 63) - 1


def request_dtype(dtype: DType) -> pl.DataType:
    """The Polars type of a request field."""
    match dtype:
        case DType.INT64:
            return pl.Int64()
        case DType.BOOLEAN:
            return pl.Boolean()
        case DType.STRING:
            return pl.String()
        case _:
            return pl.Float64()


class Composition:
    """The features of some views, from those of the feature views below them.

    Args:
        views: The views, at least one.

    Attributes:
        base: The feature views whose values are needed, each once.
        names: Full names of the features, in order.
        dtypes: Type of each feature by its full name.
        entities: What the features are about, each once.
        request: The fields a request has to bring, and their types.
        is_plain: Whether nothing is computed on demand, so that the features are those of
            ``base``, in order.

    Raises:
        InputError: No view is given, or they cannot be read together.
        DeclarationError: An on-demand view cannot be compiled.
    """

    def __init__(self, views: Sequence[View]) -> None:
        faults = list(view_faults(views)) if views else ["no view is given; give at least one"]
        if faults:
            raise InputError(f"The views cannot be read together: {'; '.join(faults)}.")
        self.base = base_views(views)
        self.names = tuple(name for view in views for name in view.names)
        self.dtypes = {name: dtype for view in views for name, dtype in view.dtypes.items()}
        self.entities = entities_of(views)
        self.request = request_fields(views)
        self.is_plain = tuple(views) == self.base
        self._programs = [compile_on_demand(view) for view in _on_demand(views)]
        stored = [name for view in self.base for name in view.names]
        self._places = {name: place for place, name in enumerate(stored)}

    def frame(self, stored: pl.DataFrame) -> pl.DataFrame:
        """The features of every row of a frame, in order.

        Args:
            stored: The features of ``base`` and the request fields.

        Raises:
            UserCodeError: A function of the user failed.
        """
        computed = self._computed(stored)
        return pl.DataFrame([computed[name] for name in self.names])

    def _computed(self, stored: pl.DataFrame) -> pl.DataFrame:
        for program in self._programs:
            stored = stored.hstack(program.frame(stored))
        return stored

    def values(self, stored: FloatArray, request: Mapping[str, Sequence[object]]) -> FloatArray:
        """The features of every row, in order.

        Args:
            stored: The features of ``base``, float64 of shape (rows, features), NaN for null.
            request: The values of each request field, one per row; None for null.

        Returns:
            float64 of shape (rows, features), NaN for null.

        Raises:
            InputError: A request field is missing, or a value is not of its type.
            UserCodeError: A function of the user failed.
        """
        if self.is_plain:
            return stored
        self._check_request(stored.shape[0], request)
        if stored.shape[0] > FEW_ROWS:
            return self._many(stored, request)
        result = np.empty((stored.shape[0], len(self.names)))
        fields = {name: request[name] for name in self.request}
        for place, row in enumerate(stored.tolist()):
            result[place] = self._row(row, {name: given[place] for name, given in fields.items()})
        return result

    def _row(self, stored: Sequence[float], known: dict[str, object]) -> list[float]:
        """The features of one row; ``known`` begins with the request's fields."""
        for name, place in self._places.items():
            known[name] = stored[place]
        for program in self._programs:
            row = {name: known[name] for name in program.needs}
            for name, value in zip(program.view.names, program.row(row), strict=True):
                known[name] = np.nan if value is None else value
        return [known[name] for name in self.names]  # type: ignore[misc]  # a feature is a float

    def _many(self, stored: FloatArray, request: Mapping[str, Sequence[object]]) -> FloatArray:
        read = {name for program in self._programs for name in program.needs}
        columns = [
            pl.Series(name, stored[:, place], nan_to_null=True)
            for name, place in self._places.items()
            if name in read
        ]
        fields = [
            pl.Series(name, list(request[name]), dtype=request_dtype(dtype), strict=False)
            for name, dtype in self.request.items()
        ]
        computed = self._computed(pl.DataFrame([*columns, *fields]))
        result = np.empty((stored.shape[0], len(self.names)))
        for place, name in enumerate(self.names):
            if name in self._places:
                result[:, place] = stored[:, self._places[name]]
            else:
                result[:, place] = computed[name].to_numpy()  # NaN for null
        return result

    def _check_request(self, rows: int, request: Mapping[str, Sequence[object]]) -> None:
        for name, dtype in self.request.items():
            if name not in request:
                raise InputError(
                    f"The features need the request field {name!r}. "
                    f"{nearest(name, list(request))} Give it for every row, None where it has no "
                    "value.",
                    field=name,
                )
            if len(request[name]) != rows:
                raise InputError(
                    f"The request field {name!r} has {len(request[name])} values for {rows} rows. "
                    "Give one for each row.",
                    field=name,
                )
            if {type(value) for value in request[name]} <= _SURE[dtype]:
                continue
            for value in request[name]:
                if not _fits(value, dtype):
                    raise InputError(
                        f"The request field {name!r} has the value {value!r}, which is no "
                        f"{dtype.value}. Give each row one of that type, or None.",
                        field=name,
                    )


def _fits(value: object, dtype: DType) -> bool:
    if value is None:
        return True
    if isinstance(value, bool):
        return dtype is DType.BOOLEAN
    if isinstance(value, int) and dtype is DType.INT64:
        return -LARGEST - 1 <= value <= LARGEST
    return isinstance(value, _KINDS[dtype])


_SURE: Mapping[DType, frozenset[type]] = {
    DType.FLOAT64: frozenset({int, float, type(None)}),
    DType.INT64: frozenset({type(None)}),
    DType.BOOLEAN: frozenset({bool, type(None)}),
    DType.STRING: frozenset({str, type(None)}),
}
"""Types whose every value fits, which is soon seen of many; a large int may not fit Int64."""

_KINDS: Mapping[DType, tuple[type, ...]] = {
    DType.FLOAT64: (int, float),
    DType.INT64: (int,),
    DType.BOOLEAN: (bool,),
    DType.STRING: (str,),
}


def _on_demand(views: Sequence[View]) -> Iterator[OnDemandView]:
    """The on-demand views among some views and below them, each once, inner ones first."""
    found: dict[str, OnDemandView] = {}

    def visit(view: View) -> None:
        if isinstance(view, FeatureView) or view.name in found:
            return
        for inner in view.views:
            visit(inner)
        found[view.name] = view

    for view in views:
        visit(view)
    yield from found.values()
