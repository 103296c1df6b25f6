"""Expressions over the columns of a record, kept as a small tree of data.

A tree can be stored, hashed and compared, and means the same wherever it is evaluated: over a
frame, over one record, at request time. What it means is written in
``penstock.algebra.expressions``.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from typing import TYPE_CHECKING, Literal

import msgspec

from penstock.errors import DeclarationError

from .durations import duration_text, duration_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "Call",
    "Column",
    "Constant",
    "Expression",
    "Function",
    "Lead",
    "Operator",
    "as_expression",
    "col",
    "columns_of",
    "expression_fault",
    "expression_text",
    "function",
    "functions_of",
    "is_condition",
    "lead",
    "leads_of",
    "lit",
]

Scalar = float | int | str | bool | None

Operator = Literal[
    "add", "sub", "mul", "div", "neg", "abs", "log", "exp", "sqrt",
    "gt", "ge", "lt", "le", "eq", "ne", "and", "or", "not", "is_null", "coalesce",
]  # fmt: skip

SYMBOLS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "gt": ">", "ge": ">=", "lt": "<", "le": "<=",
    "eq": "==", "ne": "!=", "and": "&", "or": "|",
}  # fmt: skip
LOGICAL = frozenset({"gt", "ge", "lt", "le", "eq", "ne", "and", "or", "not", "is_null"})


class _Operators(msgspec.Struct, frozen=True):
    """The operators an expression answers to."""

    def __add__(self, other: object) -> Call:
        return _call("add", self, other)

    def __radd__(self, other: object) -> Call:
        return _call("add", other, self)

    def __sub__(self, other: object) -> Call:
        return _call("sub", self, other)

    def __rsub__(self, other: object) -> Call:
        return _call("sub", other, self)

    def __mul__(self, other: object) -> Call:
        return _call("mul", self, other)

    def __rmul__(self, other: object) -> Call:
        return _call("mul", other, self)

    def __truediv__(self, other: object) -> Call:
        return _call("div", self, other)

    def __rtruediv__(self, other: object) -> Call:
        return _call("div", other, self)

    def __neg__(self) -> Call:
        return _call("neg", self)

    def __abs__(self) -> Call:
        return _call("abs", self)

    def __gt__(self, other: object) -> Call:
        return _call("gt", self, other)

    def __ge__(self, other: object) -> Call:
        return _call("ge", self, other)

    def __lt__(self, other: object) -> Call:
        return _call("lt", self, other)

    def __le__(self, other: object) -> Call:
        return _call("le", self, other)

    def __and__(self, other: object) -> Call:
        return _call("and", self, other)

    def __or__(self, other: object) -> Call:
        return _call("or", self, other)

    def __invert__(self) -> Call:
        return _call("not", self)

    def __bool__(self) -> bool:
        raise TypeError(
            "an expression has no truth value before it sees a record; combine conditions with "
            "'&', '|' and '~' in parentheses, not with 'and', 'or', 'not' or 'a < b < c'"
        )

    def eq(self, other: object) -> Call:
        """Whether both are equal; ``==`` compares the expressions themselves."""
        return _call("eq", self, other)

    def ne(self, other: object) -> Call:
        """Whether both differ."""
        return _call("ne", self, other)

    def is_null(self) -> Call:
        """Whether there is no value; never null itself."""
        return _call("is_null", self)

    def coalesce(self, other: object) -> Call:
        """This value, or the other where there is none."""
        return _call("coalesce", self, other)

    def log(self) -> Call:
        """Natural logarithm; null for values <= 0."""
        return _call("log", self)

    def exp(self) -> Call:
        """Exponential; null where it overflows."""
        return _call("exp", self)

    def sqrt(self) -> Call:
        """Square root; null for negative values."""
        return _call("sqrt", self)


class Column(_Operators, frozen=True, tag="col"):
    """A column of the record, by name."""

    name: str


class Constant(_Operators, frozen=True, tag="lit"):
    """A value written in the definition."""

    value: float | int | str | bool | None


class Call(_Operators, frozen=True, tag="call"):
    """An operator over other expressions."""

    op: Operator
    args: tuple[Expression, ...]


class Lead(_Operators, frozen=True, tag="lead"):
    """A column of the same entity's record stamped exactly ``by`` later. Labels only.

    Null where that record does not exist.
    """

    column: str
    by: str


class Function(_Operators, frozen=True, tag="fn"):
    """A vectorised Python function of the user, stored by its source, module and hash.

    It is called with one float64 array per argument and returns an array of the same length.
    """

    module: str
    qualname: str
    source: str
    sha256: str
    args: tuple[Expression, ...] = ()


Expression = Column | Constant | Call | Lead | Function


def col(name: str) -> Column:
    """Refer to a column of the record."""
    return Column(name)


def lit(value: Scalar) -> Expression:
    """Write a constant where an expression has to stand.

    Raises:
        ValueError: The value is NaN or infinite.
    """
    return as_expression(value)


def lead(column: str, by: str) -> Lead:
    """Refer to the same entity's record stamped exactly ``by`` later; for labels only.

    Args:
        column: The column to take.
        by: How much later, such as ``"1h"``.

    Raises:
        DeclarationError: ``by`` is no positive duration.
    """
    try:
        ahead = duration_us(by)
    except ValueError as error:
        raise DeclarationError.of(f"lead({column!r})", [f"by: {error}"]) from None
    if ahead == 0:
        raise DeclarationError.of(f"lead({column!r})", ["by is zero; it has to look ahead"])
    return Lead(column, duration_text(ahead))


def function(body: Callable[..., object], *columns: str) -> Function:
    """Use a vectorised Python function as an expression.

    Args:
        body: A function at the top level of a module; takes one float64 array per column.
        columns: The columns to call it with, in order.

    Raises:
        DeclarationError: The function cannot be found again by its module and name.
    """
    name = getattr(body, "__qualname__", repr(body))
    module = getattr(body, "__module__", "")
    if "<" in name or not module:
        raise DeclarationError.of(
            f"function({name})", ["it is a lambda or local; define it at the top of a module"]
        )
    source = inspect.getsource(body)
    digest = hashlib.sha256(source.encode()).hexdigest()
    return Function(module, name, source, digest, tuple(Column(column) for column in columns))


def as_expression(value: object) -> Expression:
    """Take an expression as it is and a plain value as a constant.

    Raises:
        TypeError: The value is neither.
        ValueError: The value is NaN or infinite, which no expression ever yields.
    """
    if isinstance(value, Expression):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot stand in an expression; use None for no value")
    if value is None or isinstance(value, (bool, int, float, str)):
        return Constant(value)
    raise TypeError(
        f"{value!r} cannot stand in an expression; use a number, a text, a bool, None or ps.col"
    )


def expression_fault(value: object) -> str:
    """What is wrong with a value that is to be an expression; empty where it is one."""
    if isinstance(value, Expression):
        return ""
    if isinstance(value, bool):
        return (
            f"is {value}, no expression. Two expressions are compared by .eq() and .ne(): '==' "
            "asks whether they are written alike"
        )
    return f"is {value!r}, no expression. Make one of ps.col(...), ps.lit(...), ps.function(...)"


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield the expression and everything inside it, outermost first."""
    yield expression
    if isinstance(expression, (Call, Function)):
        for arg in expression.args:
            yield from walk(arg)


def columns_of(expression: Expression) -> frozenset[str]:
    """The columns of the record itself that the expression reads."""
    return frozenset(node.name for node in walk(expression) if isinstance(node, Column))


def leads_of(expression: Expression) -> tuple[Lead, ...]:
    """Every look ahead in the expression."""
    return tuple(node for node in walk(expression) if isinstance(node, Lead))


def functions_of(expression: Expression) -> tuple[Function, ...]:
    """Every Python function in the expression."""
    return tuple(node for node in walk(expression) if isinstance(node, Function))


def is_condition(expression: Expression) -> bool:
    """Whether the expression answers yes or no."""
    return isinstance(expression, Call) and expression.op in LOGICAL


def expression_text(expression: Expression) -> str:
    """The expression as a reader would write it."""
    match expression:
        case Column(name):
            return name
        case Constant(value):
            return repr(value)
        case Lead(column, by):
            return f"lead({column}, {by})"
        case Function():
            inner = ", ".join(expression_text(arg) for arg in expression.args)
            return f"{expression.qualname}({inner})"
        case Call(op, args) if op in SYMBOLS:
            return f"({f' {SYMBOLS[op]} '.join(expression_text(arg) for arg in args)})"
        case Call(op, args):
            return f"{op}({', '.join(expression_text(arg) for arg in args)})"


def _call(op: Operator, *args: object) -> Call:
    return Call(op, tuple(as_expression(arg) for arg in args))
