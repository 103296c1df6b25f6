"""Features about several entities, and such as are computed from the request, over HTTP."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from penstock.features import point_in_time
from penstock.testing.composed import add_composed

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime import LocalServices
    from penstock.spec import FeatureService

    from .conftest import Client

    Talk = Callable[..., None]

PATH = "/v1/features/composed"
ARROW_IN = [(b"content-type", b"application/vnd.apache.arrow.stream")]
AT = datetime(2026, 1, 12, 3, 30, tzinfo=UTC)
ASKED: dict[str, list[Any]] = {
    "symbol": ["BTC", "ETH", "nobody", "BTC"],
    "shop": [1, 9, 2, 3],
    "amount": [80.0, None, 7.5, -1.0],
    "pieces": [2, 3, None, 1 << 40],
    "card": ["debit", "credit", "debit", None],
    "member": [True, True, None, False],
}
KEYS, FIELDS = ("symbol", "shop"), ("amount", "pieces", "card", "member")
ENTITY = {"symbol": "BTC", "shop": 1}
REQUEST = {"amount": 80, "pieces": 2, "card": "debit", "member": True}


@pytest.fixture
def composed(services: LocalServices) -> FeatureService:
    return add_composed(services)


def json_of(**body: object) -> bytes:
    return msgspec.json.encode(body)


def stream(**columns: object) -> bytes:
    target = io.BytesIO()
    pl.DataFrame(columns).write_ipc_stream(target)
    return target.getvalue()


def part(names: tuple[str, ...], row: int) -> dict[str, object]:
    return {name: ASKED[name][row] for name in names}


def test_every_way_to_ask_gives_what_the_tables_give(
    talk: Talk, services: LocalServices, composed: FeatureService
) -> None:
    spine = pl.DataFrame(ASKED).with_columns(at=pl.lit(AT).cast(pl.Datetime("us", "UTC")))
    wanted = point_in_time(services.tables, composed.views, spine).select(composed.names)
    assert wanted.null_count().row(0) == (2, 2, 1, 1, 0, 1, 0)

    async def conversation(client: Client) -> None:
        columns = {name: ASKED[name] for name in KEYS}, {name: ASKED[name] for name in FIELDS}
        by_columns = await client.post(
            PATH, json_of(entities=columns[0], request=columns[1], at=AT)
        )
        told = by_columns.json
        frame = pl.DataFrame(told["features"], schema=wanted.schema, strict=False)
        assert_frame_equal(frame, wanted, rel_tol=1e-9)
        assert told["unknown"] == 0  # each row has an entity that somebody knows
        rows = [
            {"entity": part(KEYS, row), "request": part(FIELDS, row), "at": AT} for row in range(4)
        ]
        by_rows = await client.post(PATH, json_of(rows=rows))
        for row, found in enumerate(by_rows.json["rows"]):
            of_row = {name: column[row] for name, column in told["features"].items()}
            assert found["features"] == of_row
            one = await client.post(PATH, json_of(**rows[row]))
            assert (one.status, one.json["features"]) == (200, of_row)
        by_arrow = await client.post(PATH, stream(**ASKED, at=[AT] * 4), headers=ARROW_IN)
        assert by_arrow.status == 200, by_arrow.body
        streamed = pl.read_ipc_stream(by_arrow.body)
        assert_frame_equal(streamed.drop("as_of"), frame, check_exact=True)

    talk(conversation)


@pytest.mark.usefixtures("composed")
def test_whole_numbers_are_numbers(talk: Talk) -> None:
    async def conversation(client: Client) -> None:
        asked = ASKED | {"amount": [1, 2, 3, 4]}
        by_arrow = await client.post(PATH, stream(**asked), headers=ARROW_IN)
        by_float = await client.post(
            PATH, stream(**asked | {"amount": [1.0, 2.0, 3.0, 4.0]}), headers=ARROW_IN
        )
        assert by_arrow.status == 200
        features = [pl.read_ipc_stream(one.body).drop("as_of") for one in (by_arrow, by_float)]
        assert features[0].equals(features[1])

    talk(conversation)


@pytest.mark.usefixtures("composed")
def test_many_rows_are_computed_as_one_is(talk: Talk) -> None:
    """Few rows go one by one and many as columns; both give the same."""
    rng = np.random.default_rng(5)
    places = rng.integers(0, 4, 300)
    many = {name: [column[place] for place in places] for name, column in ASKED.items()}

    async def conversation(client: Client) -> None:
        told = await client.post(
            PATH,
            json_of(
                entities={name: many[name] for name in KEYS},
                request={name: many[name] for name in FIELDS},
                at=AT,
            ),
        )
        for place in range(4):
            one = await client.post(
                PATH, json_of(entity=part(KEYS, place), request=part(FIELDS, place), at=AT)
            )
            row = int(np.flatnonzero(places == place)[0])
            for name, value in one.json["features"].items():
                found = told.json["features"][name][row]
                assert found == (value if value is None else pytest.approx(value, rel=1e-12))

    talk(conversation)


@pytest.mark.usefixtures("composed")
def test_a_service_of_the_request_alone_takes_no_key(talk: Talk) -> None:
    path = "/v1/features/asked"

    async def conversation(client: Client) -> None:
        for body in (json_of(entity={}, request={"amount": 25}), b'{"request": {"amount": 25}}'):
            one = await client.post(path, body)
            assert one.json["features"] == {"alone.root": 4.0}
        rows = [{"request": {"amount": 18}}, {"entity": {}, "request": {"amount": None}}]
        by_rows = await client.post(path, json_of(rows=rows))
        found = [row["features"]["alone.root"] for row in by_rows.json["rows"]]
        assert found == [3.0, None]
        by_columns = await client.post(path, json_of(entities={}, request={"amount": [8, 10]}))
        assert by_columns.json["features"] == {"alone.root": [None, 1.0]}
        by_arrow = await client.post(path, stream(amount=[10.0, 8.0]), headers=ARROW_IN)
        assert pl.read_ipc_stream(by_arrow.body)["alone.root"].to_list() == [1.0, None]

    talk(conversation)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no request": ({"entity": ENTITY}, "lacks 'request'. Send it with amount, pieces"),
    "no request in a row": (
        {"rows": [{"entity": ENTITY}]},
        "rows[0] lacks 'request'. Send it with amount",
    ),
    "request beside rows": (
        {"rows": [{"entity": ENTITY, "request": REQUEST}], "request": REQUEST},
        "'request' stands beside 'rows'",
    ),
    "a key missing": (
        {"entity": {"symbol": "BTC"}, "request": REQUEST}, "'entity' lacks 'shop'"),
    "a field missing": (
        {"entity": ENTITY, "request": {"amount": 1}}, "'request' lacks 'pieces'. Send null"),
    "an unknown key": (
        {"entity": ENTITY | {"shpo": 1}, "request": REQUEST},
        "'entity' has 'shpo'. Did you mean 'shop'?",
    ),
    "an unknown field": (
        {"entity": ENTITY, "request": REQUEST | {"amuont": 1}},
        "'request' has 'amuont'. Did you mean 'amount'?",
    ),
    "an unknown field in a row": (
        {"rows": [{"entity": ENTITY, "request": REQUEST | {"amuont": 1}}]},
        "rows[0].request has 'amuont'. Did you mean 'amount'?",
    ),
    "a number as text": (
        {"entity": ENTITY, "request": REQUEST | {"amount": "80"}}, "$.request.amount"),
    "a broken number": (
        {"entity": ENTITY, "request": REQUEST | {"pieces": 1.5}}, "$.request.pieces"),
    "a large number": (
        {"entity": ENTITY, "request": REQUEST | {"pieces": 1 << 63}}, "$.request.pieces"),
    "a number for a condition": (
        {"entity": ENTITY, "request": REQUEST | {"member": 1}}, "$.request.member"),
    "a list for one": (
        {"entity": ENTITY, "request": REQUEST | {"amount": [80]}}, "a list of 'amount' for one"),
    "one for a list": (
        {"entities": {"symbol": ["BTC"], "shop": [1]}, "request": REQUEST},
        "no list of 'amount'",
    ),
    "unlike lengths": (
        {
            "entities": {"symbol": ["BTC"], "shop": [1]},
            "request": {name: [value] * 2 for name, value in REQUEST.items()},
        },
        "There are 1 of 'symbol' and 2 of 'amount'",
    ),
    "unlike numbers of keys": (
        {
            "entities": {"symbol": ["BTC"], "shop": [1, 2]},
            "request": {name: [value] for name, value in REQUEST.items()},
        },
        "There are 1 of 'symbol' and 2 of 'shop'",
    ),
    "nothing": ({}, '{"entity": {"symbol": ..., "shop": ...}}'),
}  # fmt: skip


@pytest.mark.usefixtures("composed")
def test_what_a_request_lacks_is_said(talk: Talk) -> None:
    async def conversation(client: Client) -> None:
        for case, (body, words) in WRONG.items():
            answer = await client.post(PATH, json_of(**body))
            assert answer.status == 422, case
            assert words in answer.message, (case, answer.message)
        plain = await client.post(
            "/v1/features/scoring", json_of(entity={"symbol": "BTC"}, request={"amount": 1})
        )
        assert plain.message == "'request' has 'amount'. It takes none."

    talk(conversation)


@pytest.mark.usefixtures("composed")
def test_what_a_stream_lacks_is_said(talk: Talk) -> None:
    cases = {
        "lacks the column 'shop', the key": {n: c for n, c in ASKED.items() if n != "shop"},
        "lacks the column 'card', a request field": {n: c for n, c in ASKED.items() if n != "card"},
        "has the column 'amuont'. Did you mean 'amount'?": ASKED | {"amuont": [1.0] * 4},
        "Column 'shop' is no whole numbers": ASKED | {"shop": ["1"] * 4},
        "Column 'amount' is no numbers": ASKED | {"amount": ["1"] * 4},
        "Column 'pieces' is no whole numbers": ASKED | {"pieces": [1.0] * 4},
        "Column 'member' is no booleans": ASKED | {"member": [1] * 4},
        "Column 'card' is no text": ASKED | {"card": [True] * 4},
        "Column 'symbol' has a null in row 1": ASKED | {"symbol": ["BTC", None, "ETH", "BTC"]},
    }

    async def conversation(client: Client) -> None:
        for words, columns in cases.items():
            answer = await client.post(PATH, stream(**columns), headers=ARROW_IN)
            assert answer.status == 422, words
            assert words in answer.message
        large = pl.Series([1 << 63] * 4, dtype=pl.UInt64)
        answer = await client.post(PATH, stream(**ASKED | {"pieces": large}), headers=ARROW_IN)
        assert (answer.status, "is no int64" in answer.message) == (422, True)

    talk(conversation)


def test_it_is_described_with_what_it_takes(talk: Talk, composed: FeatureService) -> None:

    async def conversation(client: Client) -> None:
        told = (await client.get(PATH)).json
        assert told["entities"] == {"symbol": "string", "shop": "int64"}
        assert told["request"] == {
            "amount": "float64", "pieces": "int64", "card": "string", "member": "boolean",
        }  # fmt: skip
        assert list(told["features"]) == list(composed.names)
        assert [view["name"] for view in told["views"]] == ["momentum", "trade"]
        asked = (await client.get("/openapi.json")).json["paths"][PATH]["post"]["requestBody"]
        row, rows, columns = asked["content"]["application/json"]["schema"]["anyOf"]
        assert row["required"] == ["entity", "request"]
        assert rows["properties"]["rows"]["items"] == row
        assert columns["properties"]["request"]["properties"]["card"]["items"] == {
            "type": ["string", "null"]
        }

    talk(conversation)
