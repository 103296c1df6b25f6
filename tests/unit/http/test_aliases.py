"""Bodies as clients of other servers send them give the scores that our own give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import penstock as ps
from penstock.deployment import deploy
from penstock.plan import Catalogue, apply
from penstock.records import Score
from penstock.scoring import RouteTable, find_score
from penstock.scoring.score_log import segments

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

    from .conftest import Client

Json = Any
V1, INVOCATIONS = "/v1/models/btc:predict", "/v1/deployments/btc/invocations"
ROWS: list[list[Json]] = [[100.0, None, 0.02, 101.0, 24], [50.0, -0.01, 0.1, 52.0, 3]]


def encoded(**body: Json) -> bytes:
    return msgspec.json.encode(body)


async def expected(client: Client) -> list[float]:
    tensor = {"name": "x", "shape": [2, 5], "datatype": "FP64", "data": ROWS}
    told = await client.post("/v2/models/btc/infer", encoded(inputs=[tensor]))
    found: list[float] = told.json["outputs"][0]["data"]
    return found


def test_every_form_of_a_body(
    talk: Callable[..., None], services: LocalServices, served: ServedProject
) -> None:
    deploy(services, "btc", version=2)
    names = list(served.features)
    records = [dict(zip(names, row, strict=True)) for row in ROWS]
    columns = {name: [row[place] for row in ROWS] for place, name in enumerate(names)}
    table = {"columns": names[::-1], "index": [0, 1], "data": [row[::-1] for row in ROWS]}
    header = ",".join(names)
    lines = [",".join("" if one is None else str(one) for one in row) for row in ROWS]
    csv = "\r\n".join([header, *lines, ""]).encode()

    async def conversation(client: Client) -> None:
        wanted = await expected(client)
        predictions, outputs = {"predictions": wanted}, {"outputs": wanted}
        for path in (V1, INVOCATIONS):
            for body, answer in [
                (encoded(instances=ROWS), predictions),
                (encoded(instances=records, signature_name="serving_default"), predictions),
                (encoded(inputs=ROWS), outputs),
                (encoded(inputs=columns), outputs),
                (encoded(inputs={n: [[one] for one in c] for n, c in columns.items()}), outputs),
                (encoded(dataframe_records=records, params={}), predictions),
                (encoded(dataframe_split=table), predictions),
            ]:
                told = await client.post(path, body)
                assert told.json == answer, told.body
            told = await client.post(path, csv, headers=[(b"content-type", b"text/csv")])
            assert told.json == predictions

        keys = await client.post(V1, encoded(instances=[{"symbol": "BTC"}, {"symbol": "ETH"}]))
        by_csv = await client.post(
            INVOCATIONS, b"symbol\nBTC\nETH\n", headers=[(b"content-type", b"text/csv; x=y")]
        )
        assert keys.json == by_csv.json
        assert len(keys.json["predictions"]) == 2

    talk(conversation)


def test_a_version_and_what_is_served(talk: Callable[..., None], services: LocalServices) -> None:
    deploy(services, "btc", version=1)
    deploy(services, "btc", version=2)

    async def conversation(client: Client) -> None:
        body = encoded(instances=[{"symbol": "BTC"}])
        one, two = [
            (await client.post(f"/v1/models/btc/versions/{number}:predict", body)).json
            for number in (1, 2)
        ]
        assert one != two
        assert (await client.post(V1, body)).json == two
        assert (await client.get("/v1/models")).json == {"models": ["btc", "split"]}
        status = (await client.get("/v1/models/btc")).json
        assert status["ready"] is True
        assert [one["version"] for one in status["model_version_status"]] == ["1", "2"]
        only = (await client.get("/v1/models/btc/versions/1")).json
        assert [one["state"] for one in only["model_version_status"]] == ["AVAILABLE"]
        for path in ("/v1/models/btc/versions/9", "/v1/models/btx", "/v1/models/btc/other/1"):
            assert (await client.get(path)).status == 404
        for path in ("/ping", "/health", "/version"):
            assert (await client.get(path, token="")).status == 200
        several = await client.post("/invocations", body)
        assert (several.status, "one of several" in several.message) == (404, False)
        assert "/v1/deployments/<name>/invocations" in several.message
        await client.keeper.unload("split", actor="tester")
        alone = await client.post("/invocations", body)
        assert alone.json == two

    talk(conversation)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{", 400, "no JSON"),
        (b"[]", 422, "needs one of"),
        (b"{}", 422, "needs one of"),
        (encoded(instances=[], inputs=[]), 422, "needs one of"),
        (encoded(instances=ROWS, instance=1), 422, "Did you mean 'instances'"),
        (encoded(instances=[]), 422, "no list of rows"),
        (encoded(inputs={"symbol": []}), 422, "no rows"),
        (encoded(instances=[[1.0]]), 422, "row 0 is no list of 5 values"),
        (encoded(instances=[ROWS[0], 5]), 422, "row 1 is no list"),
        (encoded(instances=[[*ROWS[0][:-1], "x"]]), 422, "send numbers"),
        (encoded(instances=[{"symbol": 5}]), 422, "its keys are string"),
        (encoded(instances=[{"symbol": "BTC"}, {"symbl": "ETH"}]), 422, "names of the first row"),
        (encoded(instances=[{"momentum.last_clos": 1.0}]), 422, "Did you mean"),
        (encoded(inputs={"symbol": "BTC"}), 422, "Send a value for each row"),
        (encoded(inputs={}), 422, "have no columns. Send the features"),
        (encoded(instances=[{}]), 422, "have no columns. Send the features"),
        (encoded(dataframe_split=[1]), 422, "'columns' and its 'data'"),
        (encoded(dataframe_split={"columns": ["a"], "data": []}), 422, "a row or more"),
        (encoded(dataframe_split={"columns": ["a"], "data": [[1, 2]]}), 422, "list of 1 values"),
        (encoded(instances=[[1.0] * 5] * 1001), 422, "n from 1 to 1000"),
        (
            encoded(dataframe_split={"columns": ["symbol"] * 2, "data": [["BTC", "ETH"]]}),
            422,
            "'symbol' is there twice",
        ),
    ],
)
def test_what_is_wrong_is_told(
    talk: Callable[..., None], services: LocalServices, body: bytes, status: int, text: str
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        reply = await client.post(V1, body)
        assert (reply.status, text in reply.message) == (status, True), reply.message
        assert isinstance(reply.json["error"], str)

    talk(conversation)


def test_csv_that_is_wrong_is_told(talk: Callable[..., None], services: LocalServices) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        for body, status, text in [
            (b"symbol\n", 422, "has no row"),
            (b"\xff\xfe", 400, "no CSV"),
            (b'symbol\n"BTC', 400, "no CSV"),
            (b"symbol,x\nBTC\n", 422, "row 0 is no list of 2 values"),
            (b"momentum.last_close\nabc\n", 422, "which is no float64"),
            (b"symbol,symbol\nBTC,ETH\n", 422, "'symbol' is there twice"),
        ]:
            reply = await client.post(INVOCATIONS, body, headers=[(b"content-type", b"text/csv")])
            assert (reply.status, text in reply.message) == (status, True), reply.message

    talk(conversation)


def test_scores_of_aliases_are_logged(talk: Callable[..., None], services: LocalServices) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        request = [(b"x-request-id", b"mine")]
        await client.post(V1, encoded(instances=[{"symbol": "BTC"}]), headers=request)
        assert (await client.post(V1, b"{}", token="")).status == 401
        text = (await client.get("/metrics")).body.decode()
        assert 'penstock_http_requests_total{kind="alias",status="200",worker="0"} 1' in text
        assert (
            'penstock_scores_total{deployment="btc",route="champion",version="1",worker="0"} 1'
            in text
        )

    talk(conversation)


def test_features_with_the_key_beside_them_meet_the_routes_of_the_key(
    talk: Callable[..., None], services: LocalServices, served: ServedProject
) -> None:
    deploy(services, "btc", version=1, wait_s=0)
    declared = msgspec.structs.replace(
        Catalogue.load(services.metadata).deployment("btc"),
        routes=[ps.champion(), ps.challenger(share=0.5, version=2)],
    )
    project = ps.Project("served", declarations=[declared])
    apply(services.metadata, project, actor="tester", now=services.clock.now())
    names, keys = list(served.features), [f"k{number}" for number in range(40)]
    table = RouteTable(declared)
    wanted = [table.by_share(key).name for key in keys]
    assert set(wanted) == {"champion", "challenger"}
    records = [dict(zip(names, ROWS[1], strict=True)) | {"symbol": key} for key in keys]
    lines = [",".join(map(str, [key, *ROWS[1]])) for key in keys]
    csv = "\n".join([",".join(["symbol", *names]), *lines]).encode()
    matrix = {"name": "x", "shape": [40, 5], "datatype": "FP64", "data": [ROWS[1]] * 40}
    symbols = {"name": "symbol", "shape": [40], "datatype": "BYTES", "data": keys}
    columns = [
        {"name": name, "shape": [40], "datatype": "FP64", "data": [ROWS[1][place]] * 40}
        for place, name in enumerate(names)
    ]
    split = {"columns": ["symbol", *names], "data": [[key, *ROWS[1]] for key in keys]}

    async def conversation(client: Client) -> None:
        infer = "/v2/models/btc/infer"
        asked = [
            (infer, encoded(inputs=[matrix, symbols]), []),
            (infer, encoded(inputs=[symbols, *columns]), []),
            (V1, encoded(instances=records), []),
            (INVOCATIONS, encoded(dataframe_split=split), []),
            (INVOCATIONS, csv, [(b"content-type", b"text/csv")]),
        ]
        for path, body, headers in asked:
            told = await client.post(path, body, headers=headers)
            assert told.status == 200, told.body
        few = {**symbols, "shape": [2], "data": keys[:2]}
        short = await client.post(infer, encoded(inputs=[matrix, few]))
        assert (short.status, "different lengths" in short.message) == (422, True)
        odd = {"name": "symbl", "shape": [40], "datatype": "FP64", "data": [1.0] * 40}
        wrong = await client.post(infer, encoded(inputs=[symbols, odd, *columns]))
        assert (wrong.status, "'symbl'" in wrong.message) == (422, True)

    talk(conversation)
    logged = b"".join(one.read_bytes() for one in segments(services.layout.scores / "btc"))
    scores = msgspec.json.Decoder(Score).decode_lines(logged)
    assert len(scores) == 5 * 40
    told = {(score.entity, score.route) for score in scores}
    assert told == set(zip(keys, wanted, strict=True))
    assert {score.origin for score in scores} == {"request"}


def test_the_ids_of_the_predictions_are_told(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=2)

    async def conversation(client: Client) -> None:
        csv = [(b"content-type", b"text/csv")]
        for path, body, headers in (
            (V1, encoded(instances=ROWS), []),
            (INVOCATIONS, encoded(dataframe_records=[{"symbol": "BTC"}] * 2), []),
            (INVOCATIONS, b"symbol\nBTC\nETH\n", csv),
        ):
            told = await client.post(path, body, headers=headers)
            ids = told.headers["x-penstock-prediction-ids"].split(",")
            logged = [find_score(services, one) for one in ids]
            values = [one.prediction for one in logged if one is not None]
            assert told.json == {"predictions": values}
            wanted = await client.post(f"{path}?ids=true", body, headers=headers)
            also = wanted.headers["x-penstock-prediction-ids"].split(",")
            assert wanted.json == {"predictions": values, "prediction_ids": also}
            assert set(also).isdisjoint(ids)

        for rows, is_told in ((100, True), (101, False)):
            many = encoded(instances=[{"symbol": "BTC"}] * rows)
            told = await client.post(f"{V1}?ids=true", many)
            assert ("x-penstock-prediction-ids" in told.headers) is is_told
            assert len(set(told.json["prediction_ids"])) == rows
        assert (await client.post(f"{V1}?ids=1", encoded(instances=ROWS))).status == 422

    talk(conversation)
