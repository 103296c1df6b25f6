"""On-demand views, compiled: the same expressions over a frame and over single rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from penstock.errors import DeclarationError
from penstock.spec import DType, OnDemandView, columns_of

from .expressions import tidy, to_polars
from .operators import dtype_of
from .rows import RowFunction, compile_row

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OnDemandProgram", "compile_on_demand"]


@dataclass(frozen=True, kw_only=True)
class OnDemandProgram:
    """A compiled on-demand view.

    Attributes:
        view: The view.
        needs: What its expressions read, and the types: features by full name, request fields.
        steps: Each feature's own name with the function of one row that gives it.
        expressions: Each feature's own name with the expression of a frame that gives it.
    """

    view: OnDemandView
    needs: Mapping[str, DType]
    steps: Sequence[tuple[str, RowFunction]]
    expressions: Sequence[tuple[str, pl.Expr]]

    def frame(self, frame: pl.DataFrame) -> list[pl.Series]:
        """Compute the features of every row of a frame.

        Args:
            frame: Has the columns of ``needs``.

        Returns:
            A Float64 series for each feature, under its full name; null for none.

        Raises:
            UserCodeError: A function of the user failed.
        """
        rows = tidy(pl.DataFrame([frame[name] for name in self.needs]))
        for name, expression in self.expressions:
            rows = rows.with_columns(expression.alias(name))
        return [
            rows[name].cast(pl.Float64).alias(full)
            for name, full in zip(self.view.features, self.view.names, strict=True)
        ]

    def row(self, row: dict[str, object]) -> Iterator[float | None]:
        """Compute the features of one row, in order.

        Args:
            row: The values of ``needs``; the features' own are added to it.

        Raises:
            InputError: A value is not of its declared type.
            UserCodeError: A function of the user failed.
        """
        for name, step in self.steps:
            row[name] = value = step(row)
            yield None if value is None else float(value)


def compile_on_demand(view: OnDemandView) -> OnDemandProgram:
    """Compile an on-demand view.

    Args:
        view: The view.

    Raises:
        DeclarationError: An expression is given types it does not take, or gives text; or one of
            its functions cannot be found again. Names every such fault.
    """
    schema = view.schema
    faults: list[str] = []
    for name, expression in view.expressions.items():
        try:
            dtype = dtype_of(expression, schema) or DType.FLOAT64
        except DeclarationError as error:
            faults += error.within(f"feature {name!r}")
            dtype = DType.FLOAT64
        if not dtype.is_number:
            faults.append(
                f"feature {name!r} gives {dtype.value}; a feature is a number or a condition"
            )
        schema[name] = dtype
    if faults:
        raise DeclarationError.of(f"OnDemandView({view.name!r})", faults)
    read = {name for each in view.expressions.values() for name in columns_of(each)}
    return OnDemandProgram(
        view=view,
        needs={name: dtype for name, dtype in view.schema.items() if name in read},
        steps=tuple((name, compile_row(each)) for name, each in view.expressions.items()),
        expressions=tuple((name, to_polars(each)) for name, each in view.expressions.items()),
    )
