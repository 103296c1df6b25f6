"""The naive oracle: features and expressions computed in the most obvious way, event by event.

It shares no code with the engine. It is slow, and right by reading it beside ``algebra.windows``,
``algebra.states`` and ``algebra.expressions``.
"""

from __future__ import annotations

import math
import operator
from fractions import Fraction
from typing import TYPE_CHECKING

from penstock.spec import Call, Column, Constant, Expression, Function, Lead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from penstock.spec import Aggregate, FeatureView, Lookup

    Record = Mapping[str, object]
    Value = float | int | str | bool | None

__all__ = [
    "naive_expression",
    "naive_feature",
    "naive_lookup",
    "naive_remaining",
    "naive_tolerance",
]


def naive_remaining(
    view: FeatureView, history: Sequence[Record], is_deletion: Callable[[Record], bool]
) -> list[Record]:
    """The records of a history that its deletions leave.

    Args:
        view: The view.
        history: Records and deletions in the order of arrival. A deletion has the entity's key, and
            as timestamp the one of the records it names, or None for all of the entity.
        is_deletion: Tells a deletion.
    """
    key, stamp = view.source.entity.name, view.source.timestamp
    left: list[Record] = []
    for each in history:
        if not is_deletion(each):
            left.append(each)
            continue
        left = [
            record
            for record in left
            if record[key] != each[key] or each[stamp] not in {None, record[stamp]}
        ]
    return left


def naive_lookup(lookup: Lookup, records: Sequence[Record], key: object, at_us: int) -> Record:
    """What a record finds in another source: its columns, each null where nothing is found.

    Args:
        lookup: How it looks.
        records: The other source's records that count, in the order of arrival; timestamps are
            int64 microseconds.
        key: The key it looks for.
        at_us: When the record is known.

    Returns:
        The new columns; features of the approximate operators as they would be if they were exact.
    """
    source = lookup.into
    if lookup.view is not None:
        own = [record for record in records if record[source.entity.name] == key]
        values = {
            name: value
            for feature in lookup.view.features
            for name, value in zip(
                feature.names, naive_feature(lookup.view, feature, own, at_us), strict=True
            )
        }
        return {name: values[column] for name, column in lookup.columns.items()}
    newest: Record = {}
    newest_us = -math.inf
    for record in records:
        known_us = int(str(record[source.timestamp])) + source.known_after_us
        if record[source.entity.name] == key and newest_us <= known_us <= at_us:
            newest, newest_us = record, known_us
    if lookup.within and newest_us <= at_us - lookup.within_us:
        newest = {}
    return {name: newest.get(column) for name, column in lookup.columns.items()}


def naive_feature(  # noqa: PLR0911 - one case each
    view: FeatureView, feature: Aggregate, records: Sequence[Record], at_us: int
) -> list[float | None]:
    """Compute one feature of one entity at one time.

    Args:
        view: The view.
        feature: One of its features.
        records: The entity's records in the order of arrival; timestamps are int64 microseconds.
        at_us: The time.

    Returns:
        Its value, or its k values; those of the approximate operators as they would be if they were
        exact.
    """
    seen = _values(view, feature, records, at_us)
    if view.ttl and not _is_known(view, records, at_us):
        return [None] * max(feature.k, 1)
    if feature.op == "count":
        return [len(seen)]
    if feature.op == "approx_distinct":
        return [len({value for _, value in seen})]
    numbers = [value * 1.0 for _, value in seen]  # type: ignore[operator]
    if feature.k:
        return _padded(_MANY[feature.op](numbers), feature.k)
    if feature.op == "sum":
        return [math.fsum(numbers)]
    if not numbers or (feature.op in {"std", "var"} and len(numbers) < 2):  # noqa: PLR2004 - n - 1
        return [None]
    if feature.op == "decayed_mean":
        weights = _weights(feature, [time for time, _ in seen])
        return [math.fsum(map(operator.mul, weights, numbers)) / math.fsum(weights)]
    if feature.op == "approx_quantile":
        return [sorted(numbers)[max(math.ceil(feature.q * len(numbers)) - 1, 0)]]
    return [_FINISH[feature.op](numbers)]


def naive_tolerance(
    view: FeatureView, feature: Aggregate, records: Sequence[Record], at_us: int
) -> float:
    """How far from the oracle a value of the engine may be, as ``algebra`` promises it.

    Args:
        view: The view.
        feature: One of its features.
        records: The entity's records.
        at_us: The time.
    """
    if feature.op not in _TOLERANCES:
        return 0.0
    seen = _values(view, feature, records, at_us)
    if feature.op == "approx_distinct":
        # The rounding to a whole number, and four standard errors; or, where these are less, two
        # values that share one of 1,024 registers, as they do in every hundredth long history.
        return 0.5 + max(1.0, 4 * 1.04 / 32 * len(seen))
    numbers = [value * 1.0 for _, value in seen]  # type: ignore[operator]
    if not numbers:
        return 0.0
    sizes = list(map(abs, numbers))
    if feature.op == "decayed_mean":
        weights = _weights(feature, [time for time, _ in seen])
        return 1e-9 * math.fsum(map(operator.mul, weights, sizes)) / math.fsum(weights)
    if feature.op == "approx_quantile":
        # Histories have fewer distinct values than there are buckets: level 0.
        (value,) = naive_feature(view, feature, records, at_us)
        return abs(value or 0.0) / 128 + 1e-300
    square = math.fsum(size * size for size in sizes) / len(sizes)
    total = math.fsum(sizes)
    bounds = {"sum": total, "mean": total / len(sizes), "std": math.sqrt(square), "var": square}
    return 1e-9 * bounds[feature.op]


def _is_known(view: FeatureView, records: Sequence[Record], at_us: int) -> bool:
    """Whether a record is known that is younger than the view's time-to-live."""
    times = [int(str(row[view.source.timestamp])) + view.source.known_after_us for row in records]
    return any(at_us - view.ttl_us < time <= at_us for time in times)


def _weights(feature: Aggregate, times: list[int]) -> list[float]:
    """The weight of values of those times, as of the newest of them."""
    half_life = feature.half_life_us
    return [2.0 ** (-(max(times) - time) / half_life) for time in times]


def _padded(numbers: list[float], k: int) -> list[float | None]:
    return [*numbers[:k], *[None] * (k - len(numbers))]


def _values(
    view: FeatureView, feature: Aggregate, records: Sequence[Record], at_us: int
) -> list[tuple[int, Value]]:
    """The values in the window and their times, by time, then by arrival."""
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
    return sorted(found, key=lambda pair: pair[0])


def _mean(numbers: list[float]) -> float:
    return math.fsum(numbers) / len(numbers)


def _var(numbers: list[float]) -> float:
    exact = [Fraction(number) for number in numbers]
    center = sum(exact) / len(exact)
    return float(sum((number - center) ** 2 for number in exact) / (len(exact) - 1))


_TOLERANCES = frozenset(
    {"sum", "mean", "std", "var", "decayed_mean", "approx_distinct", "approx_quantile"}
)
_FINISH: Mapping[str, Callable[[list[float]], float]] = {
    "mean": _mean,
    "min": min,
    "max": max,
    "std": lambda numbers: math.sqrt(_var(numbers)),
    "var": _var,
    "first": operator.itemgetter(0),
    "last": operator.itemgetter(-1),
}
_MANY: Mapping[str, Callable[[list[float]], list[float]]] = {
    "first_k": list,
    "last_k": lambda numbers: numbers[::-1],
    "top_k": lambda numbers: sorted(numbers, reverse=True),
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
