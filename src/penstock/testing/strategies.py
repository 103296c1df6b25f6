"""Hypothesis strategies: one vocabulary of data for every property test.

Histories hold late, repeated, tied and boundary times, nulls, infinities and outliers; views hold
every operator, with and without windows, derived columns and conditions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from hypothesis import strategies as st

from penstock.spec import (
    Aggregate,
    AggregateOp,
    Call,
    DType,
    Entity,
    Expression,
    FeatureView,
    Operator,
    Source,
    col,
    lit,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "MINUTE_US",
    "SCHEMA",
    "aggregates",
    "conditions",
    "deleted_histories",
    "feature_views",
    "histories",
    "is_deletion",
    "leaving_views",
    "newest_values",
    "numbers",
    "records",
    "repeated_histories",
    "source",
    "times",
    "windows",
]

MINUTE_US = 60_000_000
STEP_US = 5 * MINUTE_US
DELETED = "_deleted"
LEAST = 1e-30

SCHEMA: Mapping[str, DType] = {
    "key": DType.STRING,
    "ts": DType.TIMESTAMP,
    "x": DType.FLOAT64,
    "y": DType.FLOAT64,
    "n": DType.INT64,
    "flag": DType.BOOLEAN,
    "word": DType.STRING,
}
"""The columns of ``source``: all but the key and the timestamp may be null."""


def source(known_after: str = "") -> Source:
    """A source with a column of each type.

    Args:
        known_after: How long after its timestamp a record is known.
    """
    return Source(
        name="readings",
        entity=Entity(name="key"),
        timestamp="ts",
        schema=SCHEMA,
        nullable=("x", "y", "n", "flag", "word"),
        known_after=known_after,
    )


def floats() -> st.SearchStrategy[float | None]:
    """Values of a float column: small and huge, round and crooked, null, NaN and infinite."""
    return st.one_of(
        st.sampled_from([0.0, 1.0, -1.0, 0.1, 0.3, 100.0, 1e15, -1e15, 1e-9]),
        # A quotient by less leaves the range of float64, where sums have no defined value.
        st.floats(-1e3, 1e3).map(lambda value: value if abs(value) > LEAST else 0.0),
        st.sampled_from([None, None, float("nan"), float("inf"), float("-inf")]),
    )


def times() -> st.SearchStrategy[int]:
    """Times around the edges of tiles, before and after 1970, some of them often."""
    return st.builds(
        lambda tile, offset: tile * STEP_US + offset,
        st.integers(-20, 140),
        st.sampled_from([0, 0, 0, 1, -1, 17, MINUTE_US]),
    )


def records() -> st.SearchStrategy[dict[str, object]]:
    """One record of ``source``, with its timestamp in microseconds."""
    return st.fixed_dictionaries(
        {
            "key": st.sampled_from(["a", "b", "c"]),
            "ts": times(),
            "x": floats(),
            "y": floats(),
            "n": st.one_of(st.none(), st.integers(-5, 5), st.just(2**40 + 1)),
            "flag": st.sampled_from([None, True, False]),
            "word": st.sampled_from([None, "", "u", "v"]),
        }
    )


def histories(max_size: int = 40) -> st.SearchStrategy[list[dict[str, object]]]:
    """Records of three entities in the order of arrival, which is not that of their times."""
    return st.lists(records(), max_size=max_size)


def deletions() -> st.SearchStrategy[dict[str, object]]:
    """A deletion of all records of an entity so far, or of those of one time: ``DELETED`` in it.

    The time is the place of a record among those before; of arbitrary times few would meet.
    """
    place = st.one_of(st.none(), st.integers(0, 9))
    return st.fixed_dictionaries(
        {"key": st.sampled_from(["a", "a", "b", "c"]), "ts": place, DELETED: st.just(value=True)}
    )


def is_deletion(record: Mapping[str, object]) -> bool:
    """Whether something in a history is a deletion."""
    return DELETED in record


def deleted_histories(max_size: int = 40) -> st.SearchStrategy[list[dict[str, object]]]:
    """Histories with deletions in them; some records come again after theirs."""
    steps = st.one_of(records(), records(), deletions())
    sizes = st.integers(0, max_size)
    return sizes.flatmap(lambda size: st.lists(steps, min_size=size, max_size=size)).map(_placed)


def _placed(history: list[dict[str, object]]) -> list[dict[str, object]]:
    """Give deletions the time of the record that they name; all of the entity where there is none.

    Every third record that follows a deletion is of its entity and time again.
    """
    found: list[dict[str, object]] = []
    for step in history:
        own = [one for one in found if one["key"] == step["key"] and not is_deletion(one)]
        if is_deletion(step):
            place = step["ts"]
            at = own[int(str(place)) % len(own)]["ts"] if own and place is not None else None
            found.append(step | {"ts": at})
        elif found and is_deletion(found[-1]) and len(found) % 3 == 0:
            gone = found[-1]
            again = step["ts"] if gone["ts"] is None else gone["ts"]
            found.append(step | {"key": gone["key"], "ts": again})
        else:
            found.append(step)
    return found


def repeated_histories(max_size: int = 40) -> st.SearchStrategy[list[dict[str, object]]]:
    """Histories with deletions in which up to that many messages more come again.

    Some of them are the same record once more, others have another ``x`` under its key and time; of
    either some are of a record that has been deleted since.
    """
    changes: st.SearchStrategy[Mapping[str, object]] = st.one_of(
        st.just({}), st.fixed_dictionaries({"x": floats()})
    )
    repeat = st.one_of(st.none(), st.tuples(st.integers(0, 9), changes))
    repeats = st.lists(repeat, min_size=max_size, max_size=max_size)
    return st.builds(_repeated, deleted_histories(max_size), repeats)


def _repeated(
    history: list[dict[str, object]], repeats: list[tuple[int, Mapping[str, object]] | None]
) -> list[dict[str, object]]:
    """After each step the repeat of a record before it, counted from the newest, where one is."""
    found: list[dict[str, object]] = []
    for step, repeat in zip(history, repeats, strict=False):
        found.append(step)
        sent = [one for one in reversed(found) if not is_deletion(one)]
        if repeat is not None and sent:
            place, change = repeat
            found.append({**sent[place % len(sent)], **change})
    return found


def numbers(depth: int = 3) -> st.SearchStrategy[Expression]:
    """Expressions that give a number."""
    leaves: st.SearchStrategy[Expression] = st.one_of(
        st.sampled_from([col("x"), col("y"), col("n"), col("flag")]),
        st.builds(lit, st.one_of(st.sampled_from([0.0, 1, 2.5, 1e308]), st.floats(-5, 5))),
    )
    if not depth:
        return leaves
    inner = numbers(depth - 1)
    return st.one_of(
        leaves,
        _calls(["add", "sub", "mul", "div", "coalesce"], inner, inner),
        _calls(["neg", "abs", "log", "exp", "sqrt"], inner),
    )


def conditions(depth: int = 2) -> st.SearchStrategy[Expression]:
    """Expressions that answer yes or no."""
    compare: list[Operator] = ["gt", "ge", "lt", "le", "eq", "ne"]
    words: st.SearchStrategy[Expression] = st.one_of(
        st.just(col("word")), st.builds(lit, st.sampled_from(["", "u", None]))
    )
    leaves = st.one_of(
        _calls(compare, numbers(1), numbers(1)),
        _calls(compare, st.just(col("word")), words),
        _calls(["is_null"], st.one_of(numbers(1), words)),
    )
    if not depth:
        return leaves
    facts: list[Expression] = [col("flag"), lit(None), lit(value=True)]
    inner = st.one_of(conditions(depth - 1), st.sampled_from(facts))
    return st.one_of(leaves, _calls(["and", "or"], inner, inner), _calls(["not"], inner))


def feature_views() -> st.SearchStrategy[FeatureView]:
    """Views over ``source`` with one to six features; in some, all are newest values."""
    mixed = _views(aggregates())
    return st.one_of(mixed, mixed, mixed, _views(newest_values()))


def leaving_views() -> st.SearchStrategy[FeatureView]:
    """Views whose values may leave: with windows, or newest values under a time-to-live.

    Their source says that no column may be null, and not all histories keep to it: the declaration
    may have been another.
    """
    return feature_views().map(_leaving)


def _leaving(view: FeatureView) -> FeatureView:
    """The view with windows of some minutes or hours, or newest values, for the whole past."""
    own = msgspec.structs.replace(view.source, nullable=())
    features = list(view.features)
    for place, each in enumerate(features):
        if each.over:
            continue
        if view.ttl:
            features[place] = Aggregate(op="last", column="nx"[place % 2], name=each.name)
        else:
            features[place] = msgspec.structs.replace(each, over=("5m", "90m")[place % 2])
    return msgspec.structs.replace(view, source=own, features=features)


def _views(features: st.SearchStrategy[Aggregate]) -> st.SearchStrategy[FeatureView]:
    return st.builds(
        lambda known_after, ttl, features: FeatureView(
            name="view",
            source=source(known_after),
            ttl=ttl,
            derive=DERIVED,
            features=tuple(
                msgspec.structs.replace(feature, name=f"f{place}")
                for place, feature in enumerate(features)
            ),
        ),
        st.sampled_from(["", "1h"]),
        st.sampled_from(["", "", "5m", "2h"]),
        st.lists(features, min_size=1, max_size=6),
    )


def aggregates() -> st.SearchStrategy[Aggregate]:
    """Features of every operator, with and without window and condition."""
    wheres = st.one_of(st.none(), st.sampled_from(WHERES))
    columns = st.sampled_from(["x", "y", "n", "flag", "ratio", "up"])
    counted = st.sampled_from(["", "word", "ts", "key", "x", "up"])
    ops: list[AggregateOp] = ["sum", "mean", "min", "max", "std", "var", "first", "last"]
    whole: list[AggregateOp] = ["count", "approx_distinct"]
    many: list[AggregateOp] = ["first_k", "last_k", "top_k"]
    return st.one_of(
        st.builds(_aggregate, st.sampled_from(ops), columns, windows(), wheres),
        st.builds(_aggregate, st.sampled_from(whole), counted, windows(), wheres),
        st.builds(
            _aggregate, st.sampled_from(many), columns, windows(), wheres, k=st.integers(1, 4)
        ),
        st.builds(
            _aggregate, st.just("approx_quantile"), columns, windows(), wheres,
            q=st.sampled_from([0.01, 0.25, 0.5, 0.9]),
        ),
        st.builds(
            _aggregate, st.just("decayed_mean"), columns, windows(), wheres,
            half_life=st.sampled_from(["1s", "5m", "1h", "100d"]),
        ),
    )  # fmt: skip


def newest_values() -> st.SearchStrategy[Aggregate]:
    """Newest values of stored columns, with and without window."""
    columns = st.sampled_from(["x", "y", "n", "flag"])
    return st.builds(_aggregate, st.just("last"), columns, windows(), st.none())


def windows() -> st.SearchStrategy[tuple[str, str]]:
    """Lengths and hops of windows, as text; empty for what is not said."""
    return st.sampled_from(
        [
            ("", ""),
            ("5m", ""),
            ("1h", ""),
            ("6h", ""),
            ("6h", "1h"),
            ("90m", "7m"),
            ("13h", ""),
            ("1h", "0s"),
        ]
    )


def _aggregate(  # noqa: PLR0913 - what a feature is made of
    op: AggregateOp,
    column: str,
    window: tuple[str, str],
    where: Expression | None,
    *,
    k: int = 0,
    q: float = 0.0,
    half_life: str = "",
) -> Aggregate:
    over, hop = window
    # Counting records needs no column; telling distinct values apart does.
    column = column or ("word" if op == "approx_distinct" else "")
    return Aggregate(
        op=op, column=column, over=over, hop=hop, where=where, k=k, q=q, half_life=half_life
    )


DERIVED: Mapping[str, Expression] = {
    "ratio": col("x") / col("y"),
    "up": col("ratio") > 0,
    "unused": col("y") + 1,
}
WHERES: list[Expression] = [col("x") > 0, col("flag") | (col("word").eq("u")), ~col("up")]


def _calls(
    ops: Sequence[Operator], *args: st.SearchStrategy[Expression]
) -> st.SearchStrategy[Expression]:
    return st.builds(lambda op, *given: Call(op, given), st.sampled_from(ops), *args)
