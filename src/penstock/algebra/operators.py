"""The operators of expressions by kind, and the types they take and give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import DeclarationError, nearest
from penstock.spec import Call, Column, Constant, DType, Expression, Function, Lead, expression_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ARITHMETIC", "COMPARISONS", "LOGIC", "TOTAL", "dtype_of", "is_number"]

TOTAL = frozenset({"neg", "abs"})
"""Arithmetic that is finite for every finite value."""

ARITHMETIC = frozenset({"add", "sub", "mul", "div", "log", "exp", "sqrt"}) | TOTAL
COMPARISONS = frozenset({"gt", "ge", "lt", "le", "eq", "ne"})
LOGIC = frozenset({"and", "or", "not"})

NUMBERS = frozenset({DType.FLOAT64, DType.INT64, DType.BOOLEAN})


def is_number(node: Expression) -> bool:
    """Whether a tree gives a float64 whatever its columns hold; a plain column may be anything."""
    match node:
        case Constant(value):
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case Call(op, args):
            return op in ARITHMETIC or (op == "coalesce" and any(is_number(arg) for arg in args))
        case Function():
            return True
        case _:
            return False


def dtype_of(expression: Expression, schema: Mapping[str, DType]) -> DType | None:
    """Type of an expression over columns of known types.

    Args:
        expression: The expression.
        schema: Every column it may read and its type.

    Returns:
        The type; None for a constant null, which fits everywhere.

    Raises:
        DeclarationError: A column is unknown, or an operator is given what it does not take.
    """
    match expression:
        case Column(name) | Lead(name):
            return _column(name, schema)
        case Constant(value):
            return _constant(value)
        case Function(args=args):
            _expect(expression, [dtype_of(arg, schema) for arg in args], NUMBERS)
            return DType.FLOAT64
        case _:
            given = [dtype_of(arg, schema) for arg in expression.args]
            return _call(expression, expression.op, given)


def _column(name: str, schema: Mapping[str, DType]) -> DType:
    if name not in schema:
        fault = f"there is no column {name!r}. {nearest(name, schema)}"
        raise DeclarationError.of("expression", [fault])
    return schema[name]


def _constant(value: float | str | bool | None) -> DType | None:  # noqa: FBT001 - what a constant holds
    match value:
        case None:
            return None
        case bool():
            return DType.BOOLEAN
        case str():
            return DType.STRING
        case _:
            return DType.FLOAT64


def _call(node: Call, op: str, dtypes: Sequence[DType | None]) -> DType | None:
    if op in ARITHMETIC:
        _expect(node, dtypes, NUMBERS)
        return DType.FLOAT64
    if op in LOGIC:
        _expect(node, dtypes, frozenset({DType.BOOLEAN}))
        return DType.BOOLEAN
    if op == "is_null":
        return DType.BOOLEAN
    known = [dtype for dtype in dtypes if dtype is not None]
    if known:
        _expect(node, known, NUMBERS if known[0] in NUMBERS else frozenset({known[0]}))
    if op in COMPARISONS:
        return DType.BOOLEAN
    if len(set(known)) > 1:
        return DType.FLOAT64
    return known[0] if known else None


def _expect(node: Expression, dtypes: Sequence[DType | None], allowed: frozenset[DType]) -> None:
    wrong = [dtype.value for dtype in dtypes if dtype is not None and dtype not in allowed]
    if wrong:
        fault = f"takes {' or '.join(sorted(allowed))} here, but is given {', '.join(wrong)}"
        raise DeclarationError.of(expression_text(node), [fault])
