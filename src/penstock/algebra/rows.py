"""Expressions over one record, as closures: microseconds per row, no frame.

What the operators mean is written in ``expressions.py``.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from penstock.errors import DeclarationError, InputError
from penstock.spec import Call, Column, Constant, Expression, Function, Lead, expression_text

from .functions import call_function, load_function
from .operators import ARITHMETIC, COMPARISONS, is_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.spec import Operator

__all__ = ["RowFunction", "Scalar", "compile_row"]

Scalar: TypeAlias = "float | int | str | bool | None"
RowFunction: TypeAlias = "Callable[[Mapping[str, object]], Scalar]"


def compile_row(
    expression: Expression, *, lead_column: Callable[[Lead], str] | None = None
) -> RowFunction:
    """Compile an expression into a function of one record.

    Args:
        expression: The expression.
        lead_column: Names the record's entry that holds a ``Lead``; without it none is allowed.

    Returns:
        A function of the record's columns by name; a missing one is null. It raises ``InputError``
        where a value's type does not fit, ``UserCodeError`` where a function of the user fails.

    Raises:
        DeclarationError: It looks ahead although ``lead_column`` is not given, or one of its
            functions cannot be found again.
    """
    body = _Compiler(lead_column).compile(expression)

    def run(row: Mapping[str, object]) -> Scalar:
        try:
            return body(row)
        except TypeError as error:
            raise InputError(
                f"{expression_text(expression)} does not fit the record: {error}. "
                "Give each column a value of its declared type.",
                expression=expression_text(expression),
            ) from error

    return run


class _Compiler:
    """Builds the closure of a tree."""

    def __init__(self, lead_column: Callable[[Lead], str] | None) -> None:
        self._lead_column = lead_column

    def compile(self, node: Expression) -> RowFunction:
        match node:
            case Column(name):
                return _column(name)
            case Constant(value):
                return _constant(value)
            case Lead():
                return _column(self._lead(node))
            case Function():
                return self._function(node)
            case _:
                return self._call(node)

    def _lead(self, node: Lead) -> str:
        if self._lead_column is None:
            fault = "it looks ahead; only the expression of a label may"
            raise DeclarationError.of(f"lead({node.column!r}, {node.by!r})", [fault])
        return self._lead_column(node)

    def _call(self, node: Call) -> RowFunction:
        op = node.op
        args = [self.compile(arg) for arg in node.args]
        if op in ARITHMETIC:
            return _binary(op, *args) if len(args) == 2 else _unary(op, *args)  # noqa: PLR2004 - of two
        numbers = any(is_number(arg) for arg in node.args)
        if op in COMPARISONS:
            return _comparison(op, *args, numbers=numbers)
        if op == "coalesce":
            return _coalesce(*args, numbers=numbers)
        return _LOGIC[op](*args)

    def _function(self, node: Function) -> RowFunction:
        body = load_function(node)
        args = [self.compile(arg) for arg in node.args]

        def run(row: Mapping[str, object]) -> Scalar:
            arrays = [np.array([_number(arg(row), math.nan)]) for arg in args]
            return _finite(float(call_function(node, body, arrays)[0]))

        return run


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: Scalar, empty: float) -> float:
    return empty if value is None else value * 1.0  # type: ignore[operator]  # text raises


def _column(name: str) -> RowFunction:
    def run(row: Mapping[str, object]) -> Scalar:
        value = row.get(name)
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value  # type: ignore[return-value]  # an operator it does not fit refuses it

    return run


def _constant(value: Scalar) -> RowFunction:
    return lambda _row: value


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan


def _sqrt(value: float) -> float:
    return math.sqrt(value) if value >= 0 else math.nan


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _div(left: float, right: float) -> float:
    return left / right if right else math.nan


_UNARY: dict[str, Callable[[float], float]] = {
    "neg": operator.neg, "abs": abs, "log": _log, "exp": _exp, "sqrt": _sqrt,
}  # fmt: skip
_BINARY: dict[str, Callable[[float, float], float]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": _div,
}  # fmt: skip
_COMPARE: dict[str, Callable[..., bool]] = {
    "gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le,
    "eq": operator.eq, "ne": operator.ne,
}  # fmt: skip


def _unary(op: Operator, arg: RowFunction) -> RowFunction:
    apply = _UNARY[op]

    def run(row: Mapping[str, object]) -> Scalar:
        value = arg(row)
        return None if value is None else _finite(apply(value * 1.0))  # type: ignore[operator]

    return run


def _binary(op: Operator, left: RowFunction, right: RowFunction) -> RowFunction:
    apply = _BINARY[op]

    def run(row: Mapping[str, object]) -> Scalar:
        one, two = left(row), right(row)
        if one is None or two is None:
            return None
        return _finite(apply(one * 1.0, two * 1.0))  # type: ignore[operator]  # text raises

    return run


def _comparison(
    op: Operator, left: RowFunction, right: RowFunction, *, numbers: bool
) -> RowFunction:
    apply = _COMPARE[op]

    def run(row: Mapping[str, object]) -> Scalar:
        one, two = left(row), right(row)
        if one is None or two is None:
            return None
        if numbers or type(one) is not type(two):
            return apply(one * 1.0, two * 1.0)  # type: ignore[operator]  # text raises
        return apply(one, two)

    return run


def _coalesce(left: RowFunction, right: RowFunction, *, numbers: bool) -> RowFunction:
    def run(row: Mapping[str, object]) -> Scalar:
        value = left(row)
        if value is None:
            value = right(row)
        return value * 1.0 if numbers and value is not None else value  # type: ignore[operator]

    return run


def _and(left: RowFunction, right: RowFunction) -> RowFunction:
    def run(row: Mapping[str, object]) -> Scalar:
        one, two = left(row), right(row)
        if one is False or two is False:
            return False
        return None if one is None or two is None else True

    return run


def _or(left: RowFunction, right: RowFunction) -> RowFunction:
    def run(row: Mapping[str, object]) -> Scalar:
        one, two = left(row), right(row)
        if one is True or two is True:
            return True
        return None if one is None or two is None else False

    return run


def _not(arg: RowFunction) -> RowFunction:
    def run(row: Mapping[str, object]) -> Scalar:
        value = arg(row)
        return None if value is None else not value

    return run


def _is_null(arg: RowFunction) -> RowFunction:
    return lambda row: arg(row) is None


_LOGIC: dict[str, Callable[..., RowFunction]] = {
    "and": _and, "or": _or, "not": _not, "is_null": _is_null,
}  # fmt: skip
