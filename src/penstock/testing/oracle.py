"""The naive oracle: features and expressions computed in the most obvious way, event by event.

It shares no code with the engine. It is slow, and right by reading it beside ``algebra.windows``,
``algebra.states`` and ``algebra.expressions``.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from penstock.spec import Call, Column, Constant, Expression, Function, Lead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from penstock.spec import Aggregate, FeatureView

    Record = Mapping[str, object]
    Value = float | int | str | bool | None

__all__ = ["naive_expression", "naive_feature", "naive_tolerance"]


def naive_feature(
    view: FeatureView, feature: Aggregate, records: Sequence[Record], at_us: int
) -> float | None:
    """Compute one feature of one entity at one time.

    Args:
        view: The view.
        feature: One of its features.
        records: The entity's records in the order of arrival; timestamps are int64 microseconds.
        at_us: The time.
    """
    seen = _values(view, feature, records, at_us)
    if feature.op == "count":
        return len(seen)
    numbers: list[float] = [value * 1.0 for value in seen]  # type: ignore[operator]
    if feature.op == "sum":
        return math.fsum(numbers)
    if not numbers or (feature.op == "std" and len(numbers) < 2):  # noqa: PLR2004 - n - 1
        return None
    return _FINISH[feature.op](numbers)


def naive_tolerance(
    view: FeatureView, feature: Aggregate, records: Sequence[Record], at_us: int
) -> float:
    """How far from the oracle a value of the engine may be, as ``algebra.states`` promises it.

    Args:
        view: The view.
        feature: One of its features.
        records: The entity's records.
        at_us: The time.
    """
    if feature.op not in {"sum", "mean", "std"}:
        return 0.0
    numbers = [value * 1.0 for value in _values(view, feature, records, at_us)]  # type: ignore[operator]
    if not numbers:
        return 0.0
    total = math.fsum(map(abs, numbers))
    if feature.op == "std":
        return 1e-9 * math.sqrt(math.fsum(number * number for number in numbers) / len(numbers))
    return 1e-9 * (total / len(numbers) if feature.op == "mean" else total)


def _values(
    view: FeatureView, feature: Aggregate, records: Sequence[Record], at_us: int
) -> list[Value]:
    """The values in the window, by time, then by arrival."""
    found: list[tuple[int, Value]] = []
    for record in records:
        row = dict(record)
        for name, expression in view.derive.items():
            row[name] = naive_expression(expression, row)
        stamp = row[view.source.timestamp]
        time = int(str(stamp)) + view.source.known_after_us
        if time > at_us:
            continue
        if feature.over and time <= (at_us - feature.over_us) // feature.hop_us * feature.hop_us:
            continue
        if feature.where is not None and naive_expression(feature.where, row) is not True:
            continue
        value = naive_expression(Column(feature.column), row) if feature.column else 1
        if value is not None:
            found.append((time, value))
    return [value for _, value in sorted(found, key=lambda pair: pair[0])]


def _mean(numbers: list[float]) -> float:
    return math.fsum(numbers) / len(numbers)


def _std(numbers: list[float]) -> float:
    exact = [Fraction(number) for number in numbers]
    center = sum(exact) / len(exact)
    return math.sqrt(sum((number - center) ** 2 for number in exact) / (len(exact) - 1))


def _last(numbers: list[float]) -> float:
    return numbers[-1]


_FINISH: Mapping[str, Callable[[list[float]], float]] = {
    "mean": _mean,
    "min": min,
    "max": max,
    "std": _std,
    "last": _last,
}


def naive_expression(expression: Expression, row: Record) -> Value:  # noqa: PLR0911 - one case each
    """Compute an expression over one record, without functions of the user and ``lead``.

    Args:
        expression: The expression.
        row: The record's columns by name.
    """
    match expression:
        case Column(name):
            return _finite(row.get(name))
        case Constant(value):
            return _finite(value)
        case Lead() | Function():
            raise TypeError("the oracle knows neither lead nor functions of the user")
        case Call("is_null", (arg,)):
            return naive_expression(arg, row) is None
        case Call("coalesce", (first, second)):
            value = naive_expression(first, row)
            return naive_expression(second, row) if value is None else value
        case Call("and", args):
            values = [naive_expression(arg, row) for arg in args]
            return False if False in values else None if None in values else True
        case Call("or", args):
            values = [naive_expression(arg, row) for arg in args]
            return True if True in values else None if None in values else False
        case Call(op, args):
            values = [naive_expression(arg, row) for arg in args]
            return None if None in values else _finite(_apply(op, *values))


def _finite(value: object) -> Value:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value  # type: ignore[return-value]


def _apply(op: str, *values: object) -> Value:
    """An operator over values, none of them null; NaN where it is not defined."""
    if op in {"gt", "ge", "lt", "le", "eq", "ne", "not"}:
        return _CONDITIONS[op](*values)
    try:
        return _ARITHMETIC[op](*(float(value) for value in values))  # type: ignore[arg-type]
    except (ZeroDivisionError, OverflowError, ValueError):
        return math.nan


_CONDITIONS: Mapping[str, Callable[..., bool]] = {
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "not": lambda a: not a,
}
_ARITHMETIC: Mapping[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "abs": lambda a: max(a, -a),
    "log": math.log,
    "exp": math.exp,
    "sqrt": math.sqrt,
}
