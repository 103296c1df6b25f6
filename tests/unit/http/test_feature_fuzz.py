"""Whatever bytes come, a feature service gives its values or says what is wrong: never more."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import InputError
from penstock.http.arrow_stream import read_stream
from penstock.http.serve_feature_arrow import arrow_wanted
from penstock.http.serve_feature_schema import MOST_ROWS, FeatureSchema
from penstock.testing.damage import damaged

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.http.serve_feature_schema import Wanted

FIELD_TYPES = {"f": float, "n": int, "b": bool, "t": str}
NOW_US = 1_800_000_000_000_000
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def schema_of(dtype: ps.DType) -> FeatureSchema:
    source = ps.Source(
        "s",
        entity=ps.Entity("key", dtype=dtype),
        timestamp="ts",
        schema={"key": dtype, "ts": ps.Timestamp, "x": ps.Float64},
    )
    view = ps.FeatureView("v", source=source, features=[ps.last("x"), ps.count()])
    return FeatureSchema(ps.FeatureService("s", features=[view]))


def composed_schema() -> FeatureSchema:
    """Of two entities, and of a request field of each type."""
    views: list[ps.FeatureView] = []
    for name, dtype in (("key", ps.String), ("place", ps.Int64)):
        source = ps.Source(
            name,
            entity=ps.Entity(name, dtype=dtype),
            timestamp="ts",
            schema={name: dtype, "ts": ps.Timestamp, "x": ps.Float64},
        )
        views.append(ps.FeatureView(f"v{name}", source=source, features=[ps.last("x")]))
    fields = {"f": ps.Float64, "n": ps.Int64, "b": ps.Boolean, "t": ps.String}
    view = ps.OnDemandView(
        "o", views=views, request=fields, features={"all": ps.col("f") + ps.col("n")}
    )
    return FeatureSchema(ps.FeatureService("c", features=[view]))


SCHEMAS: dict[str, FeatureSchema] = {
    "text": schema_of(ps.String),
    "whole": schema_of(ps.Int64),
    "composed": composed_schema(),
}
FRAME = pl.DataFrame(
    {"key": ["a", "b" * 40, "", "ü", None], "at": [WHEN, None, WHEN, None, WHEN],
     "n": [1, None, 3, 4, 5], "f": [1.5, None, 2.0, 3.0, 4.0],
     "b": [True, None, False, True, False]}
)  # fmt: skip


def stream_of(frame: pl.DataFrame, *, newest: bool) -> bytes:
    target = io.BytesIO()
    level = pl.CompatLevel.newest() if newest else pl.CompatLevel.oldest()
    frame.write_ipc_stream(target, compat_level=level)
    return target.getvalue()


def holds_or_teaches(read: Callable[[], Wanted]) -> None:
    try:
        wanted = read()
    except InputError:
        return
    assert 0 <= wanted.rows <= MOST_ROWS
    by_name = wanted.keys if isinstance(wanted.keys, Mapping) else {"key": wanted.keys}
    for keys in by_name.values():
        assert len(keys) == wanted.rows
        assert len({type(key) for key in keys} - {str, int}) == 0
    for name, values in wanted.request.items():
        assert len(values) == wanted.rows
        assert {type(value) for value in values} <= {FIELD_TYPES[name], type(None)}


STREAMS = [stream_of(FRAME, newest=newest) for newest in (True, False)]
WHOLE = FRAME.select("key", "at", "n", "f", "b", place="n", t="key").drop_nulls()
COMPOSED = [stream_of(WHOLE, newest=newest) for newest in (True, False)]
KEYS_ONLY = [
    stream_of(FRAME.select("key", pl.lit(WHEN).alias("at"))[:4], newest=n) for n in (True, False)
]
BODIES = [
    msgspec.json.encode(body)
    for body in (
        {"entity": {"key": "a"}, "at": WHEN},
        {"rows": [{"entity": {"key": 1}}, {"entity": {"key": "b"}, "at": None}]},
        {"entities": {"key": ["a", "b"]}, "at": [WHEN, WHEN]},
        {"entities": {"key": [1 << 63, -(1 << 63)]}},
        {"entity": {"key": "a", "place": 2}, "request": {"f": 1, "n": 2, "b": True, "t": None}},
        {
            "rows": [
                {"entity": {"key": "a", "place": 2}, "at": WHEN,
                 "request": {"f": 1.5, "n": None, "b": None, "t": "x"}}
            ]
        },
        {
            "entities": {"key": ["a", "b"], "place": [1, 2]},
            "request": {"f": [1.5, None], "n": [3, 4], "b": [True, None], "t": ["x", "y"]},
        },
    )
]  # fmt: skip


@pytest.mark.parametrize("kind", SCHEMAS)
def test_any_json_is_read_or_refused(kind: str) -> None:
    @given(st.one_of(st.binary(max_size=60), damaged(BODIES)))
    @example(b'{"entity":{"key":"\\ud800"}}')
    @example(b'{"entity":{"key":1e400}}')
    @example(b'{"entity":{"key":"a"},"at":"9999-12-31T23:59:59-23:59"}')
    @example(b'{"entity":{"key":"a"},"at":"0001-01-01T00:00:00+23:59"}')
    @example(b"[" * 100_000)
    def check(body: bytes) -> None:
        holds_or_teaches(lambda: SCHEMAS[kind].wanted(body, NOW_US))

    check()


@pytest.mark.parametrize("kind", SCHEMAS)
def test_any_stream_is_read_or_refused(kind: str) -> None:
    @given(st.one_of(st.binary(max_size=60), damaged([*STREAMS, *KEYS_ONLY, *COMPOSED])))
    def check(body: bytes) -> None:
        holds_or_teaches(lambda: arrow_wanted(SCHEMAS[kind], body, NOW_US))

    check()


@given(damaged(STREAMS))
def test_a_damaged_stream_is_no_other_error(body: bytes) -> None:
    try:
        columns = read_stream(body, most_rows=100)
    except InputError:
        return
    assert len({len(column.values) for column in columns}) <= 1


@given(
    st.lists(
        st.tuples(
            st.none() | st.text(max_size=30),
            st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
            st.none() | st.booleans(),
            st.none() | st.floats(allow_nan=False),
            st.none() | st.datetimes(timezones=st.just(UTC)),
        ),
        max_size=70,
    ),
    st.booleans(),
)
def test_what_polars_writes_is_read_as_it_is(rows: list[tuple[object, ...]], newest: bool) -> None:  # noqa: FBT001 - drawn
    columns = {"t": pl.String, "i": pl.Int64, "b": pl.Boolean, "f": pl.Float64}
    frame = pl.DataFrame(rows, schema=columns | {"at": pl.Datetime("us", "UTC")}, orient="row")
    found = read_stream(stream_of(frame, newest=newest), most_rows=70)
    assert [column.name for column in found] == frame.columns
    assert [column.kind for column in found] == ["text", "whole", "truth", "number", "time"]
    assert found[-1].zone == "UTC"
    plain = frame.with_columns(pl.col("at").cast(pl.Int64))
    for column in found:
        values = plain[column.name]
        nulls = values.is_null().to_list()
        given = [None if null else v for v, null in zip(column.values, nulls, strict=True)]
        assert given == values.to_list()
        assert [value is None for value in column.values] == nulls


def test_several_batches_are_one_frame() -> None:
    target = io.BytesIO()
    chunks = pl.concat([FRAME, FRAME[:2]], rechunk=False)
    chunks.write_ipc_stream(target)
    (keys, *_) = read_stream(target.getvalue(), most_rows=10)
    assert keys.values == [*FRAME["key"], *FRAME["key"][:2]]


@pytest.mark.parametrize("newest", [True, False])
def test_a_stream_that_is_cut_is_refused_and_not_read_in_part(*, newest: bool) -> None:
    body = stream_of(FRAME, newest=newest)
    whole = read_stream(body, most_rows=10)
    for length in range(len(body)):
        try:
            found = read_stream(body[:length], most_rows=10)
        except InputError:
            continue
        # Between two messages it ends as a stream may: after the schema, or after all of the rows.
        assert [column.values for column in found] in (
            [[] for _ in whole],
            [column.values for column in whole],
        )
