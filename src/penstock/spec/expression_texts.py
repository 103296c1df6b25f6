"""Expressions read from text, for commands and requests: what ``expression_text`` writes, back."""

from __future__ import annotations

import ast
import io
import itertools
import tokenize
from typing import TYPE_CHECKING, cast

from penstock.errors import InputError

from .expressions import Call, Constant, Expression, Operator, as_expression, col

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read_expression"]

LONGEST = 2_000
DEEPEST = 100
BINARY: Mapping[type[ast.operator], Operator] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.BitAnd: "and",
    ast.BitOr: "or",
}  # fmt: skip
COMPARED: Mapping[type[ast.cmpop], Operator] = {
    ast.Gt: "gt", ast.GtE: "ge", ast.Lt: "lt", ast.LtE: "le", ast.Eq: "eq", ast.NotEq: "ne",
}  # fmt: skip
UNARY: Mapping[type[ast.unaryop], Operator] = {ast.USub: "neg", ast.Not: "not", ast.Invert: "not"}
OPERANDS: Mapping[str, int] = {
    "neg": 1, "abs": 1, "log": 1, "exp": 1, "sqrt": 1, "is_null": 1,
    "coalesce": 2, "eq": 2, "ne": 2,
}  # fmt: skip
HINT = (
    "Write it as in Python, such as amount > 1000 and country == 'DE'; a name that is no word as "
    "col('the name')."
)


def read_expression(text: str) -> Expression:
    """The expression that a text says.

    Names are columns. There are numbers, texts in quotes, ``True``, ``False`` and ``None``;
    ``+ - * /``, ``> >= < <= == !=``; ``and``, ``or`` and ``not``, or ``&``, ``|`` and ``~``; and
    ``abs``, ``log``, ``exp``, ``sqrt``, ``is_null`` and ``coalesce``, as functions or as methods.
    ``not(a)`` without a space is a function as well, and binds as one.
    What ``expression_text`` writes of such an expression is read as that expression. Functions of
    users cannot be written as text.

    Args:
        text: The text.

    Raises:
        InputError: It is no such expression; says where.
    """
    if len(text) > LONGEST:
        raise InputError(f"The condition has {len(text)} characters; give {LONGEST} at most.")
    line = " ".join(text.split("\n")).strip()
    try:
        line = _with_signs(line)
        tree = ast.parse(line, mode="eval")
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError) as error:
        said = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise InputError(f"{text!r} is no condition: {said}. {HINT}") from None
    return _read(tree.body, line, 0)


def _with_signs(line: str) -> str:
    """The text with ``~`` for each ``not`` that is written as a function.

    It is one where ``expression_text`` writes it, and binds as one: to what is in its brackets
    alone. Python would have ``not(a) & b`` mean ``not (a & b)``.
    """
    tokens = list(tokenize.generate_tokens(io.StringIO(line).readline))
    for word, after in itertools.pairwise(tokens):
        if word.string == "not" and after.string == "(" and word.end == after.start:
            start, end = word.start[1], word.end[1]
            line = line[:start] + "~  " + line[end:]  # as long, so the other places stay
    return line


def _read(node: ast.expr, text: str, depth: int) -> Expression:
    if depth > DEEPEST:
        raise InputError(f"{text[:80]!r}... is nested deeper than {DEEPEST}. Write it simpler.")
    match node:
        case ast.Name(name):
            return col(name)
        case ast.Constant(value):
            return _constant(node, value, text)
        case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as value)):
            return _constant(node, -value, text)
        case ast.BoolOp(joint, values):
            return _joined("and" if isinstance(joint, ast.And) else "or", values, text, depth)
        case ast.Call(func, args, []):
            return _called(node, func, args, text, depth + 1)
        case _:
            pass
    op, operands = _operation(node, text)
    return Call(op, tuple(_read(one, text, depth + 1) for one in operands))


def _operation(node: ast.expr, text: str) -> tuple[Operator, list[ast.expr]]:
    """An operator that is a sign, and what it stands between or before."""
    match node:
        case ast.UnaryOp(op, operand) if type(op) in UNARY:
            return UNARY[type(op)], [operand]
        case ast.BinOp(left, op, right) if type(op) in BINARY:
            return BINARY[type(op)], [left, right]
        case ast.Compare(left, [op], [right]) if type(op) in COMPARED:
            return COMPARED[type(op)], [left, right]
        case _:
            raise _unread(node, text)


def _joined(op: Operator, values: list[ast.expr], text: str, depth: int) -> Expression:
    """Several conditions as one, which is nested once for each."""
    first, *others = [_read(value, text, depth + len(values)) for value in values]
    found = first
    for other in others:
        found = Call(op, (found, other))
    return found


def _called(
    node: ast.expr, func: ast.expr, args: list[ast.expr], text: str, depth: int
) -> Expression:
    """A function: ``col``, ``lit``, or an operator that has a name, which may be a method too."""
    match func, args:
        case ast.Name("col") | ast.Attribute(ast.Name("ps"), "col"), [ast.Constant(str() as name)]:
            return col(name)
        case ast.Name("lit") | ast.Attribute(ast.Name("ps"), "lit"), [value]:
            return _read(value, text, depth)
        case ast.Name(name), _:
            operands = args
        case ast.Attribute(value, name), _:
            operands = [value, *args]
        case _:
            raise _unread(node, text)
    if OPERANDS.get(name) != len(operands):
        raise _unread(node, text)
    return Call(cast("Operator", name), tuple(_read(one, text, depth) for one in operands))


def _constant(node: ast.expr, value: object, text: str) -> Expression:
    try:
        read = as_expression(value)
    except (TypeError, ValueError):
        raise _unread(node, text) from None
    if isinstance(read, Constant):
        return read
    raise _unread(node, text)


def _unread(node: ast.expr, text: str) -> InputError:
    part = ast.get_source_segment(text, node) or text
    return InputError(f"{part[:80]!r} cannot stand in a condition. {HINT}", text=text)
