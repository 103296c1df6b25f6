"""Rows as Arrow streams are scored as rows in JSON are."""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.deployment import deploy
from penstock.errors import InputError
from penstock.http.arrow_stream import Column, read_stream
from penstock.http.serve_predict_arrow import rows_of_arrow
from penstock.http.serve_schema import Schema
from penstock.scoring import find_score
from penstock.testing.manifests import manifest_of

if TYPE_CHECKING:
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

    from .conftest import Client

Talk = Any
PREDICT = "/v1/deployments/btc/predict"
ARROW = b"application/vnd.apache.arrow.stream"
ARROW_IN, ARROW_OUT = (b"content-type", ARROW), (b"accept", ARROW)
DICTIONARIES = Path(__file__).parent / "data" / "pyarrow_dictionaries.arrows"
WHEN = datetime(2026, 1, 11, tzinfo=UTC)
MANIFEST = manifest_of(
    "v.a",
    "v.n",
    dtypes={"v.a": "float64", "v.n": "int64"},
    entities={"shop": "int64"},
    request={"amount": "float64", "pieces": "int64", "card": "string", "member": "boolean"},
)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
COLUMNS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "symbol": (pl.String, st.text(max_size=20)),
    "shop": (pl.Int64, INT64),
    "amount": (pl.Float64, st.none() | FINITE),
    "pieces": (pl.Int64, st.none() | INT64),
    "card": (pl.String, st.none() | st.text(max_size=5)),
    "member": (pl.Boolean, st.none() | st.booleans()),
    "v.a": (pl.Float64, st.none() | FINITE),
    "v.n": (pl.Int64, st.none() | st.integers(-(1 << 53), 1 << 53)),
}
KEYS, FIELDS, FEATURES = ("symbol", "shop"), ("amount", "pieces", "card", "member"), ("v.a", "v.n")


def stream(columns: Any, **options: Any) -> bytes:  # noqa: ANN401 - as Polars takes them
    target = io.BytesIO()
    pl.DataFrame(columns).write_ipc_stream(target, **options)
    return target.getvalue()


def frame_of(body: bytes) -> pl.DataFrame:
    return pl.read_ipc_stream(body)


@given(st.data())
def test_a_row_is_the_same_row_in_json(data: st.DataObject) -> None:
    parts = data.draw(
        st.sampled_from([(KEYS, FIELDS), (FEATURES,), (KEYS, FEATURES), (KEYS, FIELDS, FEATURES)])
    )
    names = [name for part in parts for name in part]
    rows = data.draw(
        st.lists(st.fixed_dictionaries({n: COLUMNS[n][1] for n in names}), min_size=1, max_size=5)
    )
    at = data.draw(st.booleans())
    schema = {name: COLUMNS[name][0] for name in names}
    frame = pl.DataFrame(rows, schema=schema)
    if at:
        frame = frame.with_columns(at=pl.lit(WHEN).cast(pl.Datetime("ms", "UTC")))
    if data.draw(st.booleans()):
        frame = frame.with_columns(pl.col(pl.String).cast(pl.Categorical))
    places = {"entity": KEYS, "request": FIELDS, "features": FEATURES}
    told = [
        {part: {n: row[n] for n in of} for part, of in places.items() if of in parts}
        | ({"at": WHEN} if at else {})
        for row in rows
    ]
    wanted, _ = Schema(MANIFEST).rows_of(msgspec.json.encode({"rows": told}))

    assert rows_of_arrow(MANIFEST, stream(frame)) == wanted


def test_scores_are_those_of_json_and_logged_as_such(
    talk: Talk, services: LocalServices, served: ServedProject
) -> None:
    deploy(services, "btc", version=2)
    at = "2026-01-11T00:00:00Z"
    rows = [{"entity": {"symbol": name}, "at": at} for name in ("BTC", "nobody", "ETH")]
    asked = pl.DataFrame(
        {"symbol": pl.Series(["BTC", "nobody", "ETH"], dtype=pl.Categorical), "at": [WHEN] * 3}
    )

    async def conversation(client: Client) -> None:
        path = f"{PREDICT}?features=true"
        json = (await client.post(path, msgspec.json.encode({"rows": rows}))).json["predictions"]
        answer = await client.post(path, stream(asked), headers=[ARROW_IN])
        assert (answer.status, answer.headers["content-type"]) == (200, ARROW.decode())
        found = frame_of(answer.body)
        assert found["prediction"].to_list() == [one["prediction"] for one in json]
        for name in ("true", "false"):
            told = [one["probability"][name] for one in json]
            assert found[f"probability.{name}"].to_list() == told
        for name in served.features:
            assert found[f"features.{name}"].to_list() == [one["features"][name] for one in json]
        assert found["features.momentum.count_1d"].dtype == pl.Int64
        moments = [datetime.fromisoformat(one["as_of"]) for one in json]
        assert found["as_of"].to_list() == moments
        assert found["reason"].null_count() == 3
        assert set(found["route"]) == {"champion"}

        for row in found.iter_rows(named=True):
            score = find_score(services, row["prediction_id"])
            assert score is not None
            assert score.prediction == row["probability.true"]
            assert score.origin == "online"

        values = found.select(pl.col(f"features.{n}").alias(n) for n in served.features)
        # A frame of pandas has floats where a whole number is missing, and NaN for null.
        plain = values.with_columns(pl.all().cast(pl.Float64).fill_null(float("nan")))
        for given_ in (values, plain):
            again = await client.post(PREDICT, stream(given_), headers=[ARROW_IN])
            assert frame_of(again.body)["probability.true"].equals(found["probability.true"])

    talk(conversation)


def test_each_form_of_an_answer_is_had_for_either_form_of_a_request(
    talk: Talk, services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    body = stream({"symbol": ["BTC"], "at": [WHEN]})
    json = msgspec.json.encode({"entity": {"symbol": "BTC"}, "at": WHEN})

    async def conversation(client: Client) -> None:
        told = (await client.post(PREDICT, json)).json["probability"]["true"]
        accept = [ARROW_IN, (b"accept", b"application/json")]
        as_json = await client.post(PREDICT, body, headers=accept)
        assert [one["probability"]["true"] for one in as_json.json["predictions"]] == [told]
        as_arrow = await client.post(PREDICT, json, headers=[ARROW_OUT])
        assert frame_of(as_arrow.body)["probability.true"].to_list() == [told]

    talk(conversation)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "The stream has no row"),
    ({"symbol": []}, "The stream has no row"),
    ({"symbl": ["a"]}, "the column 'symbl'. Did you mean 'symbol'?"),
    ({"at": [WHEN]}, "lacks the column 'symbol'. Send the keys symbol, or all features"),
    ({"symbol": ["a", None]}, "has a null in row 1"),
    ({"symbol": [None]}, "is no text"),
    ({"symbol": [1]}, "is no text. Cast it."),
    ({"symbol": ["a"], "at": [datetime(2026, 1, 1)]}, "no times with a zone"),  # noqa: DTZ001
    ({"symbol": ["a"] * 1_001}, "more than 1,000 rows"),
    ({"momentum.last_close": [1.0]}, "lacks the features"),
    ({"momentum.last_close": ["1"]}, "lacks the features"),
]


@pytest.mark.parametrize(("columns", "words"), WRONG)
def test_a_stream_that_does_not_fit_is_told_so(
    talk: Talk, services: LocalServices, columns: dict[str, Any], words: str
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        answer = await client.post(PREDICT, stream(columns), headers=[ARROW_IN])
        assert (answer.status, answer.json["error"]["kind"]) == (422, "input")
        assert words in answer.message

    talk(conversation)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"v.a": ["x"]}, "'v.a' is no numbers"),
        ({"v.a": [True]}, "'v.a' is no numbers"),
        ({"v.a": [float("inf")]}, "has inf in row 0; send finite numbers"),
        ({"v.n": [1.5]}, "has 1.5 in row 0; it counts"),
        ({"v.n": [(1 << 53) + 1]}, "a number that a float64 holds"),
        ({"symbol": ["a"]}, "lacks the column 'shop'"),
        ({"amount": [1.0]}, "lacks the column 'pieces'"),
    ],
)
def test_features_that_no_model_has_are_refused(change: dict[str, Any], words: str) -> None:
    body = stream({"v.a": [1.0], "v.n": [1]} | change)
    with pytest.raises(InputError) as told:
        rows_of_arrow(MANIFEST, body)
    assert words in told.value.message


def test_fields_are_finite_and_nan_is_null() -> None:
    one: dict[str, Any] = {
        "symbol": ["a"], "shop": [1], "amount": [math.nan], "pieces": [1], "card": ["x"],
        "member": [True],
    }  # fmt: skip
    (row,) = rows_of_arrow(MANIFEST, stream(one))
    assert row.given["amount"] is None
    with pytest.raises(InputError, match="'amount' has inf in row 0; send finite numbers"):
        rows_of_arrow(MANIFEST, stream(one | {"amount": [math.inf]}))


def test_two_columns_of_one_name_are_refused() -> None:
    body = stream({"v.a": [1.0], "v.b": [2.0]}).replace(b"v.b", b"v.a")
    with pytest.raises(InputError, match="two columns of one name"):
        read_stream(body, most_rows=5)


def test_a_column_without_values_is_null() -> None:
    (row,) = rows_of_arrow(MANIFEST, stream({"v.a": [None], "v.n": [None]}))
    assert row.values == (None, None)


def test_dictionaries_that_grow_and_are_replaced_are_followed() -> None:
    """As pyarrow writes them, with a column of nulls between."""
    assert read_stream(DICTIONARIES.read_bytes(), most_rows=7) == [
        Column("symbol", "text", ["BTC", "ETH", None, "ADA", "BTC", "SOL", "BTC"]),
        Column("n", "null", [None] * 7),
        Column("d", "number", [1.5, 1.5, 2.5, 1.5, 2.5, 9.5, 9.5]),
    ]


def test_a_small_body_does_not_become_a_large_request() -> None:
    text = pl.Series(["x" * 8_000] * 1_000)
    body = stream({str(n): text.cast(pl.Categorical) for n in range(3)})
    assert len(body) < 1 << 16
    with pytest.raises(InputError, match="more than 16 MiB"):
        read_stream(body, most_rows=1_000)
    wide = stream({"t": pl.Series([str(n) for n in range(101)]).cast(pl.Categorical)})
    with pytest.raises(InputError, match="more than 100 values"):
        read_stream(wide, most_rows=10)
