"""Expressions over arrays of numbers, as closures: no frame, for one row as for a million.

What the operators mean is written in ``expressions.py``. Here null is NaN, and a condition gives 1,
0 or NaN. Every operator works row by row, so a row's value is the same whatever rows are beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from penstock.errors import DeclarationError
from penstock.spec import Call, Column, Constant, DType, Expression, Function, columns_of

from .functions import call_function, load_function
from .operators import ARITHMETIC, COMPARISONS, dtype_of
from .row_checks import RowCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .arrays import BoolArray, FloatArray

__all__ = ["VectorFunction", "compile_vector", "finite_or_null"]

VectorFunction: TypeAlias = "Callable[[Mapping[str, FloatArray]], FloatArray]"


def compile_vector(expression: Expression) -> VectorFunction:
    """Compile an expression over numbers into a function of arrays.

    Args:
        expression: The expression; it reads at least one column and looks at no lead.

    Returns:
        A function of float64 arrays of one length by name, NaN for null, that gives one such array.
        It raises ``UserCodeError`` where a function of the user fails.

    Raises:
        DeclarationError: An operator is given text, it gives text, or one of its functions cannot
            be found again.
    """
    dtype = dtype_of(expression, dict.fromkeys(columns_of(expression), DType.FLOAT64))
    if dtype is not None and not dtype.is_number:
        raise DeclarationError.of("expression", [f"gives {dtype.value}; it has to give a number"])
    return _compile(expression)


def _compile(node: Expression) -> VectorFunction:
    match node:
        case Column(name):
            return lambda arrays: finite_or_null(arrays[name])
        case Constant(value):
            number = np.array([np.nan if value is None else float(value)])
            return lambda _arrays: number
        case Function():
            return _function(node)
        case Call(op, args):
            return _call(op, [_compile(arg) for arg in args])
        case _:
            raise DeclarationError.of("expression", ["looks ahead; only a label may"])


def _function(node: Function) -> VectorFunction:
    body = load_function(node)
    check = RowCheck(node, body)
    args = [_compile(arg) for arg in node.args]

    def run(arrays: Mapping[str, FloatArray]) -> FloatArray:
        rows = len(next(iter(arrays.values())))
        given = [np.broadcast_to(arg(arrays), rows) for arg in args]
        result = call_function(node, body, given)
        check.see(given, result)
        return finite_or_null(result)

    return run


def _call(op: str, args: list[VectorFunction]) -> VectorFunction:
    if op in ARITHMETIC:
        apply = _ARITHMETIC[op]

        def arithmetic(arrays: Mapping[str, FloatArray]) -> FloatArray:
            with np.errstate(all="ignore"):
                return finite_or_null(apply(*(arg(arrays) for arg in args)))

        return arithmetic
    if op in COMPARISONS:
        compare = _COMPARISONS[op]

        def comparison(arrays: Mapping[str, FloatArray]) -> FloatArray:
            one, two = (arg(arrays) for arg in args)
            return _where(np.isnan(one) | np.isnan(two), np.nan, compare(one, two))

        return comparison
    logic = _LOGIC[op]
    return lambda arrays: logic(*(arg(arrays) for arg in args))


def finite_or_null(values: FloatArray) -> FloatArray:
    """The same values, with NaN in the place of what is infinite."""
    finite = np.isfinite(values)
    return values if finite.all() else _where(finite, values, np.nan)


def _where(
    condition: BoolArray, yes: FloatArray | float, no: FloatArray | BoolArray | float
) -> FloatArray:
    found: FloatArray = np.where(condition, yes, no)
    return found


def _and(one: FloatArray, two: FloatArray) -> FloatArray:
    no = (one == 0) | (two == 0)
    return _where(no, 0.0, _where(np.isnan(one) | np.isnan(two), np.nan, 1.0))


def _or(one: FloatArray, two: FloatArray) -> FloatArray:
    yes = (one == 1) | (two == 1)
    return _where(yes, 1.0, _where(np.isnan(one) | np.isnan(two), np.nan, 0.0))


_ARITHMETIC: dict[str, Callable[..., FloatArray]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "neg": np.negative, "abs": np.abs, "log": np.log, "exp": np.exp, "sqrt": np.sqrt,
}  # fmt: skip
_COMPARISONS: dict[str, Callable[..., BoolArray]] = {
    "gt": np.greater, "ge": np.greater_equal, "lt": np.less, "le": np.less_equal,
    "eq": np.equal, "ne": np.not_equal,
}  # fmt: skip
_LOGIC: dict[str, Callable[..., FloatArray]] = {
    "and": _and,
    "or": _or,
    "not": lambda value: 1.0 - value,
    "is_null": lambda value: np.isnan(value).astype(np.float64),
    "coalesce": lambda one, two: _where(np.isnan(one), two, one),
}
