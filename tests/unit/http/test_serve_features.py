"""Features by key over HTTP: every way to ask gives the same, and bad requests teach."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import penstock as ps
from penstock.access import token_hash
from penstock.features import OnlineReader
from penstock.plan import Catalogue, apply
from penstock.ports import Audit, Put
from penstock.records import Batch, Identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime import LocalServices

    from .conftest import Client, Reply

    Talk = Callable[..., None]

READER = "a token of theirs"
PATH = "/v1/features/scoring"
ARROW = b"application/vnd.apache.arrow.stream"
ARROW_IN = [(b"content-type", ARROW)]
SYMBOLS = ["BTC", "nobody", "ETH", "BTC"]
LATER = datetime(2026, 1, 20, tzinfo=UTC)
NEWEST = datetime(2026, 1, 11, tzinfo=UTC)


def json_of(**body: object) -> bytes:
    return msgspec.json.encode(body)


def stream(**columns: object) -> bytes:
    target = io.BytesIO()
    pl.DataFrame(columns).write_ipc_stream(target)
    return target.getvalue()


def frame_of(reply: Reply) -> pl.DataFrame:
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == ARROW.decode()
    return pl.read_ipc_stream(reply.body)


def expected(services: LocalServices, at: datetime, symbols: list[str]) -> pl.DataFrame:
    """What the reader gives, as a frame of the service's columns."""
    service = Catalogue.load(services.metadata).feature_service("scoring")
    reader = OnlineReader(services.online, service.views)
    at_us = int(at.timestamp() * 1e6)
    values, as_of_us = reader.read(symbols, at_us)
    columns = {
        name: pl.Series(values[:, place], nan_to_null=True).cast(
            pl.Int64 if dtype is ps.Int64 else pl.Float64
        )
        for place, (name, dtype) in enumerate(service.dtypes.items())
    }
    as_of = pl.Series(as_of_us).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(columns | {"as_of": as_of})


async def until(holds: Callable[[], bool]) -> None:
    """Wait, for ten seconds at most."""
    for _ in range(1_000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


def test_every_way_to_ask_gives_the_same(talk: Talk, services: LocalServices) -> None:
    async def conversation(client: Client) -> None:
        for at in (LATER, NEWEST):
            wanted = expected(services, at, SYMBOLS)
            assert wanted["momentum.last_close"].is_not_null().sum() == 3
            rows = [{"entity": {"symbol": name}, "at": at} for name in SYMBOLS]
            by_rows = await client.post(PATH, json_of(rows=rows))
            by_columns = await client.post(PATH, json_of(entities={"symbol": SYMBOLS}, at=at))
            by_times = await client.post(
                PATH, json_of(entities={"symbol": SYMBOLS}, at=[at] * len(SYMBOLS))
            )
            by_arrow = await client.post(
                PATH, stream(symbol=SYMBOLS, at=[at] * 4), headers=ARROW_IN
            )
            told = by_columns.json
            assert told == by_times.json
            assert pl.DataFrame(told["features"], schema=wanted.drop("as_of").schema).equals(
                wanted.drop("as_of")
            )
            assert [datetime.fromisoformat(text) for text in told["as_of"]] == wanted[
                "as_of"
            ].to_list()
            assert by_rows.json["rows"] == [
                {
                    "features": {name: column[row] for name, column in told["features"].items()},
                    "as_of": told["as_of"][row],
                }
                for row in range(len(SYMBOLS))
            ]
            assert_frame_equal(frame_of(by_arrow), wanted, check_exact=True)
            assert (told["unknown"], by_rows.json["unknown"]) == (1, 1)
            assert by_arrow.headers["x-penstock-unknown"] == "1"
            for row, name in enumerate(SYMBOLS):
                one = await client.post(PATH, json_of(entity={"symbol": name}, at=at))
                assert one.json["features"] == by_rows.json["rows"][row]["features"]
                assert one.json["as_of"] == told["as_of"][row]
                assert one.json["unknown"] == (name == "nobody")

    talk(conversation)


def test_a_count_is_a_whole_number_and_null_is_null(talk: Talk) -> None:
    async def conversation(client: Client) -> None:
        answer = await client.post(PATH, json_of(entity={"symbol": "BTC"}, at=NEWEST))
        count = answer.json["features"]["momentum.count_1d"]
        assert isinstance(count, int)
        assert count == 24
        unknown = await client.post(PATH, json_of(entity={"symbol": "?"}))
        assert unknown.json["features"] == {
            "momentum.last_close": None,
            "momentum.mean_ret_6h": None,
            "momentum.std_ret_1d": None,
            "momentum.max_close_2d": None,
            "momentum.count_1d": 0,
        }

    talk(conversation)


def test_the_answer_has_the_form_that_is_accepted(talk: Talk) -> None:
    async def conversation(client: Client) -> None:
        ask = json_of(entities={"symbol": ["BTC"]}, at=LATER)
        as_arrow = await client.post(PATH, ask, headers=[(b"accept", ARROW)])
        as_json = await client.post(
            PATH,
            stream(symbol=["BTC"], at=[LATER]),
            headers=[*ARROW_IN, (b"accept", b"application/json")],
        )
        whole = as_json.json["features"]
        assert frame_of(as_arrow).drop("as_of").to_dict(as_series=False) == whole
        assert as_json.json["service_id"] == as_arrow.headers["x-penstock-service-id"]
        nothing = await client.post(
            PATH, stream(symbol=pl.Series([], dtype=pl.String)), headers=ARROW_IN
        )
        assert frame_of(nothing).height == 0

    talk(conversation)


def test_streams_of_other_writers_are_read(talk: Talk) -> None:
    async def conversation(client: Client) -> None:
        wanted = frame_of(
            await client.post(PATH, stream(symbol=SYMBOLS, at=[LATER] * 4), headers=ARROW_IN)
        )
        frame = pl.DataFrame({"symbol": SYMBOLS, "at": [LATER] * 4})
        for unit in ("ms", "us", "ns"):
            for level in (pl.CompatLevel.oldest(), pl.CompatLevel.newest()):
                target = io.BytesIO()
                cast = frame.with_columns(pl.col("at").cast(pl.Datetime(unit, "UTC")))
                cast.write_ipc_stream(target, compat_level=level)
                found = await client.post(PATH, target.getvalue(), headers=ARROW_IN)
                assert frame_of(found).equals(wanted)

    talk(conversation)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "The body is no JSON"),
        (b"{", 400, "line 1, column 2"),
        (b"[]", 422, "Send an object"),
        (b"{}", 422, 'Send {"entity": {"symbol": ...}}'),
        (b'{"entity":{"symbol":"a"},"rows":[{"entity":{"symbol":"a"}}]}', 422, "Send one of them"),
        (b'{"entity":{"symbol":1}}', 422, "Expected `str`, got `int` - at `$.entity.symbol`"),
        (b'{"entity":{"symbl":"a"}}', 422, "'entity' has 'symbl'. Did you mean 'symbol'?"),
        (b'{"entity":{}}', 422, "'entity' lacks 'symbol'"),
        (b'{"entitis":{"symbol":["a"]}}', 422, "Did you mean 'entities'?"),
        (b'{"rows":[{"entity":{"symbol":"a"},"att":1}]}', 422, "rows[0] has 'att'"),
        (b'{"rows":[{"entity":{"x":"a"}}]}', 422, "rows[0].entity has 'x'"),
        (b'{"rows":[]}', 422, "There are 0 rows. Send 1 to 1,000 at once."),
        (json_of(entities={"symbol": ["a"] * 1001}), 422, "There are 1,001 keys"),
        (b'{"rows":[{"entity":{"symbol":"a"}}],"at":"2026-01-01T00:00:00Z"}', 422, "into each row"),
        (b'{"entity":{"symbol":"a"},"at":["2026-01-01T00:00:00Z"]}', 422, "Give one time"),
        (b'{"entities":{"symbol":["a"]},"at":[]}', 422, "'at' has 0 times for 1 keys"),
        (b'{"entity":{"symbol":"a"},"at":"2026-01-01T00:00:00"}', 422, "timezone"),
    ],
)
def test_a_bad_body_is_told_what_is_wrong(talk: Talk, body: bytes, status: int, words: str) -> None:
    async def conversation(client: Client) -> None:
        answer = await client.post(PATH, body)
        assert answer.status == status
        assert words in answer.message

    talk(conversation)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"symbl": ["a"]}, "the column 'symbl'. Did you mean 'symbol'?"),
        ({"at": [LATER]}, "lacks the column 'symbol'"),
        ({"symbol": [1]}, "is no text. Cast it."),
        ({"symbol": ["a", None]}, "has a null in row 1"),
        ({"symbol": ["a"], "at": [LATER.replace(tzinfo=None)]}, "no times with a zone"),
        ({"symbol": ["a"], "at": [1]}, "no times with a zone"),
        ({"symbol": ["a"], "at": pl.Series([None], dtype=pl.Datetime("us", "UTC"))}, "a null"),
        ({"symbol": ["a"], "at": pl.Series([1 << 62]).cast(pl.Datetime("us", "UTC"))}, "calendar"),
        ({"symbol": ["a"] * 1001}, "more than 1,000 rows"),
        ({"symbol": ["a"], "at": [[1]]}, "of an Arrow type that no request has"),
        ({"symbol": ["x" * 9_000]}, "A text is longer than 8,192 bytes"),
    ],
)
def test_a_bad_stream_is_told_what_is_wrong(
    talk: Talk, columns: dict[str, Any], words: str
) -> None:
    async def conversation(client: Client) -> None:
        answer = await client.post(PATH, stream(**columns), headers=ARROW_IN)
        assert answer.status == 422
        assert words in answer.message
        compressed = io.BytesIO()
        pl.DataFrame({"symbol": ["a"] * 500}).write_ipc_stream(compressed, compression="zstd")
        refused = await client.post(PATH, compressed.getvalue(), headers=ARROW_IN)
        assert "compress" in refused.message

    talk(conversation)


def test_only_who_may_and_only_what_is_there(talk: Talk, services: LocalServices) -> None:
    now = services.clock.now()
    reader = Identity(name="r", role="reader", token_sha256=token_hash(READER), created_at=now)
    services.metadata.write(Put(reader), audit=Audit(actor="t", action="x", subject="y"))

    async def conversation(client: Client) -> None:
        ask = json_of(entity={"symbol": "BTC"})
        assert (await client.post(PATH, ask, token="")).status == 401
        assert (await client.post(PATH, ask, token=READER)).status == 200
        assert (await client.get("/v1/features", token="")).status == 401
        gone = await client.post("/v1/features/scorin", ask)
        assert gone.status == 404
        assert "Did you mean 'scoring'?" in gone.message
        other = await client.send("PUT", PATH, ask)
        assert (other.status, other.headers["allow"]) == (405, "GET, POST")
        assert (await client.post("/v1/features", ask)).headers["allow"] == "GET"
        assert (await client.get("/v1/featuresx")).status == 404
        assert (await client.send("HEAD", PATH, b"")).body == b""

    talk(conversation)


def test_a_service_is_described_with_how_fresh_it_is(talk: Talk, services: LocalServices) -> None:
    async def conversation(client: Client) -> None:
        (one,) = (await client.get("/v1/features")).json["services"]
        assert (await client.get(PATH)).json == one
        assert one["entities"] == {"symbol": "string"}
        assert one["features"]["momentum.count_1d"] == "int64"
        service = Catalogue.load(services.metadata).feature_service("scoring")
        assert one["service_id"] == service.service_id
        (view,) = one["views"]
        assert (view["name"], view["ready"], view["last_batch"]) == ("momentum", True, 1)
        (batch,) = services.metadata.find(Batch)
        assert datetime.fromisoformat(view["arrived_at"]) == batch.arrived_at
        assert (view["waiting_batches"], view["stale"]) == (0, False)
        assert (view["freshness"], view["fresh_until"]) == (None, None)
        paths = (await client.get("/openapi.json")).json["paths"]
        assert list(paths[PATH]) == ["get", "post"]
        told = paths[PATH]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert told["anyOf"][0]["properties"]["features"]["required"] == list(service.names)

    talk(conversation)


def test_answers_name_the_views_that_are_stale(talk: Talk, services: LocalServices) -> None:
    catalogue = Catalogue.load(services.metadata)
    (view,) = catalogue.all(ps.FeatureView)
    limited = msgspec.structs.replace(view, freshness="2h")
    service = ps.FeatureService("first", features=[limited])
    project = ps.Project("served", declarations=[service])
    apply(services.metadata, project, actor="t", now=services.clock.now())
    (batch,) = services.metadata.find(Batch)
    arrived = services.clock.now() - timedelta(hours=5)
    services.metadata.write(Put(msgspec.structs.replace(batch, arrived_at=arrived)))
    path, until_then = "/v1/features/first", arrived + timedelta(hours=2)
    asks: list[dict[str, Any]] = [
        {"entity": {"symbol": "BTC"}},
        {"entities": {"symbol": ["BTC", "ETH"]}},
        {"rows": [{"entity": {"symbol": "BTC"}}]},
    ]

    async def conversation(client: Client) -> None:
        told: dict[str, str] = {}
        for ask in asks:
            told = (await client.post(path, json_of(**ask))).json["stale"]
            assert list(told) == ["momentum"]
            assert datetime.fromisoformat(told["momentum"]) == until_then
        arrow = await client.post(path, stream(symbol=["BTC"]), headers=ARROW_IN)
        assert msgspec.json.decode(arrow.headers["x-penstock-stale"]) == told
        earlier = await client.post(path, json_of(**asks[0], at=until_then))
        assert "stale" not in earlier.json
        counted = (await client.get("/metrics")).body.decode()
        of = 'service="first",view="momentum",worker="0"'
        assert f"penstock_feature_stale_total{{{of}}} 4" in counted
        services.metadata.write(Put(batch))  # it arrived only now
        reply = await client.post(path, json_of(**asks[0]))
        for _ in range(100):
            if "stale" not in reply.json:
                break
            await asyncio.sleep(0.1)
            reply = await client.post(path, json_of(**asks[0]))
        assert "stale" not in reply.json
        arrow = await client.post(path, stream(symbol=["BTC"]), headers=ARROW_IN)
        assert "x-penstock-stale" not in arrow.headers

    talk(conversation)


def test_a_service_whose_view_is_stale_says_so(talk: Talk, services: LocalServices) -> None:
    catalogue = Catalogue.load(services.metadata)
    (view,) = catalogue.all(ps.FeatureView)
    told: list[dict[str, Any]] = []

    async def conversation(client: Client) -> None:
        told.append((await client.get("/v1/features/first")).json["views"][0])

    for freshness in ("1ms", "7d"):
        limited = msgspec.structs.replace(view, freshness=freshness)
        service = ps.FeatureService("first", features=[limited])
        project = ps.Project("served", declarations=[service])
        apply(services.metadata, project, actor="t", now=services.clock.now())
        talk(conversation)
    (batch,) = services.metadata.find(Batch)
    assert [(one["stale"], one["freshness"]) for one in told] == [(True, "1ms"), (False, "7d")]
    until = [datetime.fromisoformat(one["fresh_until"]) - batch.arrived_at for one in told]
    assert until == [timedelta(milliseconds=1), timedelta(days=7)]


def test_what_is_asked_is_counted(talk: Talk) -> None:
    async def conversation(client: Client) -> None:
        await client.post(PATH, json_of(entities={"symbol": SYMBOLS}))
        await client.post(PATH, json_of(entity={"symbol": "BTC"}))
        await client.post(PATH, b"{}")
        lines = (await client.get("/metrics")).body.decode().splitlines()
        assert 'penstock_http_requests_total{kind="features",status="200",worker="0"} 2' in lines
        assert 'penstock_http_requests_total{kind="features",status="422",worker="0"} 1' in lines
        assert 'penstock_feature_rows_total{service="scoring",worker="0"} 5' in lines
        assert 'penstock_feature_unknown_rows_total{service="scoring",worker="0"} 1' in lines
        assert 'penstock_feature_seconds_count{service="scoring",worker="0"} 2' in lines
        assert 'penstock_feature_seconds_bucket{service="scoring",worker="0",le="+Inf"} 2' in lines

    talk(conversation)


def test_services_follow_what_is_applied(talk: Talk, services: LocalServices) -> None:
    catalogue = Catalogue.load(services.metadata)
    (view,) = catalogue.all(ps.FeatureView)
    first = ps.FeatureService("first", features=[view["count_1d"]])
    later = ps.FeatureService("first", features=[view["max_close_2d", "count_1d"]])
    unbuilt = ps.FeatureView("unbuilt", source=view.source, features=[ps.min("close")])
    other = ps.FeatureService("other", features=[unbuilt])

    def declare(*new: ps.FeatureService) -> None:
        project = ps.Project("served", declarations=[*catalogue.all(ps.Deployment), *new])
        apply(services.metadata, project, actor="t", now=services.clock.now())

    async def conversation(client: Client) -> None:
        ask = json_of(entity={"symbol": "BTC"}, at=NEWEST)
        assert (await client.post("/v1/features/first", ask)).status == 404
        declare(first, other)
        await until(lambda: "first" in client.keeper.features)
        found = await client.post("/v1/features/first", ask)
        assert found.json["features"] == {"momentum.count_1d": 24}
        assert found.json["service_id"] == first.service_id
        kept = client.keeper.features["scoring"]
        missing = await client.post("/v1/features/other", ask)
        assert (missing.status, missing.headers["retry-after"]) == (503, "1")
        assert "penstock features build unbuilt" in missing.message
        (told,) = (await client.get("/v1/features/other")).json["views"]
        assert told == {"name": "unbuilt", "ready": False, "last_batch": None}
        declare(later)
        await until(lambda: "other" not in client.keeper.features)
        found = await client.post("/v1/features/first", ask)
        assert list(found.json["features"]) == ["momentum.max_close_2d", "momentum.count_1d"]
        assert client.keeper.features["first"].counters.rows == 2
        assert client.keeper.features["scoring"] is kept
        assert (await client.post("/v1/features/other", ask)).status == 404

    talk(conversation)


def test_features_of_a_service_come_in_its_order(talk: Talk, services: LocalServices) -> None:
    reader = OnlineReader(
        services.online, Catalogue.load(services.metadata).feature_service("scoring").views
    )
    values, _ = reader.read(["ETH"], int(NEWEST.timestamp() * 1e6))
    assert np.isfinite(values).all()

    async def conversation(client: Client) -> None:
        answer = await client.post(PATH, json_of(entity={"symbol": "ETH"}, at=NEWEST))
        assert list(answer.json["features"].values()) == values[0].tolist()

    talk(conversation)
