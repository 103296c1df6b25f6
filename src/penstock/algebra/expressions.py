"""What expressions mean, and how they are computed over frames.

The meaning, the same over a frame, over one record (``rows.py``) and in the naive oracle:

- Arithmetic is float64; booleans count as 0 and 1. The result of an arithmetic operator or function
  that is NaN or infinite becomes null where it arises: a division by zero, the logarithm of a value
  <= 0, the root of a negative, an overflow. So does a NaN or infinity in a column.
- Arithmetic with null is null; so is a comparison with null, ``null == null`` too.
- ``and``, ``or`` and ``not`` are three-valued: ``false and null`` is false, ``true or null`` true.
- Numbers and booleans compare as numbers (float64 as soon as one side is), text by code points,
  timestamps by time.
- ``is_null`` is never null; ``coalesce`` takes its second argument where the first is null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.errors import DeclarationError
from penstock.spec import Call, Column, Constant, Expression, Function, Lead, columns_of, leads_of

from .functions import call_function, load_function
from .operators import ARITHMETIC, COMPARISONS, TOTAL, is_number
from .row_checks import RowCheck
from .rows import compile_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["finite", "tidy", "to_polars"]


def to_polars(
    expression: Expression, *, lead_column: Callable[[Lead], str] | None = None
) -> pl.Expr:
    """Translate an expression for Polars.

    The frame holds no NaN or infinity (see ``tidy``) and columns of the types that ``dtype_of``
    accepted; those of ``Timestamp`` are ``Datetime("us", "UTC")``.

    Args:
        expression: The expression.
        lead_column: Names the frame's column that holds a ``Lead``; without it none is allowed.

    Returns:
        An expression of type Float64, Boolean or of the column it names.

    Raises:
        DeclarationError: It looks ahead although ``lead_column`` is not given, or one of its
            functions cannot be found again.
    """
    return _Translator(lead_column).translate(expression)


def finite(values: pl.Expr) -> pl.Expr:
    """Replace NaN and infinity by null.

    A function of numpy and not ``when(x.is_finite()).then(x)``: that names ``x`` twice, and a tree
    of n such levels has 2 to the n leaves.
    """
    return values.map_batches(_finite, return_dtype=pl.Float64, is_elementwise=True)


def tidy(frame: pl.DataFrame) -> pl.DataFrame:
    """Replace NaN and infinity in the float columns of a frame by null."""
    columns = frame.get_columns()
    return pl.DataFrame(
        [_finite(one.cast(pl.Float64)) if one.dtype.is_float() else one for one in columns]
    )


def _finite(values: pl.Series) -> pl.Series:
    array = values.to_numpy()
    kept = np.isfinite(array)
    if kept.all():
        return values
    return pl.Series(values.name, np.where(kept, array, np.nan), nan_to_null=True)


def _divide(columns: Sequence[pl.Series]) -> pl.Series:
    """Divide in numpy: Polars multiplies by the reciprocal of a constant, which is another number.

    A constant comes as a series of one value.
    """
    left, right = (column.to_numpy() for column in columns)
    with np.errstate(all="ignore"):
        return _finite(pl.Series(columns[0].name, left / right))


class _Translator:
    """Builds the Polars expression of a tree."""

    def __init__(self, lead_column: Callable[[Lead], str] | None) -> None:
        self._lead_column = lead_column

    def translate(self, node: Expression) -> pl.Expr:
        match node:
            case Column(name):
                return pl.col(name)
            case Constant(value):
                return pl.lit(value)
            case Lead():
                return pl.col(self._lead(node))
            case Function():
                return self._function(node)
            case _:
                return self._call(node)

    def _lead(self, node: Lead) -> str:
        if self._lead_column is None:
            fault = "it looks ahead; only the expression of a label may"
            raise DeclarationError.of(f"lead({node.column!r}, {node.by!r})", [fault])
        return self._lead_column(node)

    def _number(self, node: Expression) -> pl.Expr:
        return self.translate(node).cast(pl.Float64)

    def _call(self, node: Call) -> pl.Expr:
        if not columns_of(node) and not leads_of(node):
            return pl.lit(compile_row(node)({}))
        op, args = node.op, node.args
        if op in ARITHMETIC:
            return self._arithmetic(op, args)
        if op in COMPARISONS:
            return _method(op)(*self._alike(args))
        if op == "coalesce":
            return pl.coalesce(*self._alike(args))
        if op == "is_null":
            return self.translate(args[0]).is_null()
        return _method(op)(*(self.translate(arg).cast(pl.Boolean) for arg in args))

    def _arithmetic(self, op: str, args: Sequence[Expression]) -> pl.Expr:
        numbers = [self._number(arg) for arg in args]
        if op == "div":
            return pl.map_batches(numbers, _divide, pl.Float64)
        result = _method(op)(*numbers)
        return result if op in TOTAL else finite(result)

    def _alike(self, args: Sequence[Expression]) -> list[pl.Expr]:
        take = self._number if any(is_number(arg) for arg in args) else self.translate
        return [take(arg) for arg in args]

    def _function(self, node: Function) -> pl.Expr:
        body = load_function(node)
        check = RowCheck(node, body)

        def apply(columns: Sequence[pl.Series]) -> pl.Series:
            arrays = [column.to_numpy() for column in columns]
            result = call_function(node, body, arrays)
            check.see(arrays, result)
            return _finite(pl.Series(columns[0].name, result))

        numbers = [self._number(arg).fill_null(np.nan) for arg in node.args]
        return pl.map_batches(numbers, apply, return_dtype=pl.Float64)


_METHODS = {
    "add": "__add__",
    "sub": "__sub__",
    "mul": "__mul__",
    "neg": "neg",
    "abs": "abs",
    "log": "log",
    "exp": "exp",
    "sqrt": "sqrt",
    "gt": "gt",
    "ge": "ge",
    "lt": "lt",
    "le": "le",
    "eq": "eq",
    "ne": "ne",
    "and": "and_",
    "or": "or_",
    "not": "not_",
}
"""By names: whoever only computes rows one by one makes no use of Polars."""


def _method(op: str) -> Callable[..., pl.Expr]:
    found: Callable[..., pl.Expr] = getattr(pl.Expr, _METHODS[op])
    return found
