"""The application over a real project, without a socket."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import penstock as ps
from penstock.access import token_hash
from penstock.deployment import deploy, rollback
from penstock.errors import UnavailableError
from penstock.plan import Catalogue, apply
from penstock.ports import Audit, Delete, Put
from penstock.records import Batch, Identity, Role, ServingStatus
from penstock.scoring import find_score

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

    from .conftest import Client, Reply

Json = Any
ENTITY = b'{"entity":{"symbol":"BTC"}}'
PREDICT = "/v1/deployments/btc/predict"


def _features(served: ServedProject, **changes: Json) -> bytes:
    values: dict[str, Json] = dict.fromkeys(served.features, 1.5)
    values["momentum.count_1d"] = 3
    values |= {f"momentum.{name}": value for name, value in changes.items()}
    return msgspec.json.encode({"features": values})


def test_predicting_by_entity_and_by_features(
    talk: Callable[..., None], services: LocalServices, served: ServedProject
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        one = await client.post(f"{PREDICT}?features=true", ENTITY)
        assert one.status == 200
        assert list(one.json["features"]) == list(served.features)
        assert (one.json["version"], one.json["route"]) == (1, "champion")
        share = one.json["probability"]
        assert share["false"] + share["true"] == pytest.approx(1)
        assert one.json["prediction"] is (share["true"] >= 0.5)
        assert one.json["as_of"].endswith("Z")

        body = msgspec.json.encode({"features": one.json["features"]})
        same = await client.post(PREDICT, body, headers=[(b"x-request-id", b"mine")])
        assert same.json["probability"] == share
        assert "features" not in same.json

        score = find_score(services, same.json["prediction_id"])
        assert score is not None
        assert score.prediction == share["true"]
        assert (score.request_id, score.origin, score.deployment) == ("mine", "request", "btc")

        past = await client.post(
            f"{PREDICT}?features=true",
            b'{"entity":{"symbol":"NOBODY"},"at":"2026-01-05T01:00:00+01:00"}',
        )
        assert past.json["as_of"] == "2026-01-05T00:00:00Z"
        assert past.json["features"]["momentum.count_1d"] == 0

        newest, before = "2026-01-11T00:00:00Z", "2026-01-10T23:59:59.999999Z"
        for at, status in ((newest, 200), (before, 422), ("1970-01-01T00:00:00Z", 422)):
            asked = {"entity": {"symbol": "BTC"}, "at": at}
            found = await client.post(PREDICT, msgspec.json.encode(asked))
            assert found.status == status, at
            rows = [{"entity": {"symbol": "ETH"}}, asked]
            many = await client.post(PREDICT, msgspec.json.encode({"rows": rows}))
            assert many.status == status
            if status == 422:
                assert f"as of {newest}, its newest record" in found.message
                assert "POST /v1/deployments/{name}/jobs" in found.message
                assert many.message.startswith("rows[1]: ")

    talk(conversation)


def test_predicting_several_rows(talk: Callable[..., None], services: LocalServices) -> None:
    deploy(services, "btc", version=2)

    async def conversation(client: Client) -> None:
        rows = b'{"rows":[{"entity":{"symbol":"BTC"}},{"entity":{"symbol":"ETH"}}]}'
        both = (await client.post(PREDICT, rows)).json["predictions"]
        alone = (await client.post(PREDICT, ENTITY)).json
        assert len(both) == 2
        assert both[0]["probability"] == alone["probability"]
        assert both[0]["prediction_id"] != both[1]["prediction_id"]
        assert client.keeper.doors["btc"].endpoint.lanes["champion"].counts.batches == 2

    talk(conversation)


BAD = [
    (b'{"entity":', 400, "line 1, column 11"),
    (b"\xff\xfe", 400, "no JSON"),
    (b"", 400, "line 1, column 1"),
    (b"[]", 422, "a list"),
    (b"{}", 422, "names nothing to score"),
    (b'{"entiti":{"symbol":"BTC"}}', 422, "Did you mean 'entity'?"),
    (b'{"entity":{"symbl":"BTC"}}', 422, "Did you mean 'symbol'?"),
    (b'{"entity":{"symbol":1}}', 422, "Expected `str`, got `int`"),
    (b'{"entity":{"symbol":"BTC"},"at":"2026-01-05T00:00:00"}', 422, "timezone"),
    (b'{"entity":{"symbol":"BTC"},"at":"2026-01-05"}', 422, "like '2024-03-01T12:00:00Z'"),
    (b'{"entity":{"symbol":"BTC"},"at":"yesterday"}', 422, "RFC3339"),
    (b'{"entity":{"symbol":"BTC"},"at":"0001-01-01T00:00:00+14:00"}', 422, "leaves the calendar"),
    (b'{"entity":{"symbol":"BTC"},"at":"9999-12-31T23:59:59-14:00"}', 422, "leaves the calendar"),
    (b'{"features":{"momentum.last_clos":1}}', 422, "Did you mean 'momentum.last_close'?"),
    (b'{"features":{"momentum.last_close":"1"}}', 422, "is text; send a number"),
    (b'{"features":{"momentum.last_close":true}}', 422, "is true or false"),
    (b'{"features":{"momentum.last_close":NaN}}', 422, "is nan; send a finite number"),
    (b'{"features":{"momentum.last_close":-Infinity}}', 422, "is -inf"),
    (b'{"features":{"momentum.last_close":1e999}}', 422, "is inf"),
    (b'{"features":{"momentum.last_close":1}}', 422, "lacks the features"),
    (b'{"features":{"momentum.count_1d":1.5}}', 422, "send a whole number"),
    (b'{"features":{"momentum.count_1d":2.0}}', 422, "send a whole number"),
    (b'{"features":{"momentum.count_1d":9007199254740993}}', 422, "is too large"),
    (b'{"features":{"momentum.count_1d":1' + b"0" * 400 + b"}}", 422, "is too large"),
    (b'{"features":{"momentum.last_close":1' + b"0" * 400 + b"}}", 422, "is too large"),
    (b'{"features":{"momentum.last_close":' + b"9" * 5_000 + b"}}", 400, "thousands of digits"),
    (b'{"entity":{"symbol":"\\ud800"}}', 422, "does not fit"),
    (b'{"rows":[]}', 422, "length >= 1"),
    (b'{"rows":[{"entity":{"symbol":"BTC"}},{"features":{"a":1}}]}', 422, "rows[1]: there is no"),
    (b'{"rows":[{"entity":{"symbol":"BTC"}},{}]}', 422, "rows[1] names nothing"),
    (b'{"rows":[{"entity":{"symbol":"BTC"}}],"entity":{"symbol":"BTC"}}', 422, "inside it"),
]


def test_bad_bodies_are_told_what_is_wrong(
    talk: Callable[..., None], services: LocalServices, served: ServedProject
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        for body, status, text in BAD:
            reply = await client.post(PREDICT, body)
            assert (reply.status, text in reply.message) == (status, True), (body, reply.message)
        kinds = {(await client.post(PREDICT, b"{")).json["error"]["kind"]}
        assert kinds == {"malformed"}
        good = await client.post(PREDICT, _features(served, std_ret_1d=None))
        assert good.status == 200

    talk(conversation)


def test_unknown_names_and_wrong_methods(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        unknown = await client.post("/v1/deployments/btx/predict", ENTITY)
        assert (unknown.status, "Did you mean 'btc'?" in unknown.message) == (404, True)
        nowhere = await client.get("/v1/deploymens")
        assert (nowhere.status, "'/v1/deployments'" in nowhere.message) == (404, True)
        jobs = await client.post("/v1/deployments/btc/jobs", b"{}")
        assert (jobs.status, "asked of 'penstock api'" in jobs.message) == (404, True)
        got = await client.get(PREDICT)
        assert (got.status, got.headers["allow"]) == (405, "POST")
        posted = await client.post("/metrics", b"")
        assert (posted.status, posted.headers["allow"]) == (405, "GET")
        head = await client.send("HEAD", "/v2", b"")
        assert (head.status, head.body) == (200, b"")

    talk(conversation)


def test_long_bodies_are_refused_before_they_are_whole(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        endless = [b" " * 300_000] * 1_000
        reply = await client.send("POST", PREDICT, endless)
        assert reply.status == 413
        parts = [ENTITY[:5], ENTITY[5:12], ENTITY[12:]]
        assert (await client.send("POST", PREDICT, parts)).status == 200

    talk(conversation)


def test_every_request_but_health_needs_a_token(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    readers: Role = "reader"
    services.metadata.write(
        Put(
            Identity(
                name="eve",
                role=readers,
                token_sha256=token_hash("eves"),
                created_at=services.clock.now(),
            )
        )
    )

    async def conversation(client: Client) -> None:
        eve = "eves"
        for path in ("/v1/deployments", "/v2", "/metrics", "/openapi.json", "/v2/models/btc", "/x"):
            for token in ("", "wrong"):
                reply = await client.get(path, token=token)
                assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
            assert (await client.get(path, token=eve)).status in {200, 404}
        assert (await client.post(PREDICT, ENTITY, token="")).status == 401
        forbidden = await client.post(PREDICT, ENTITY, token=eve)
        assert (forbidden.status, "this takes the role writer" in forbidden.message) == (403, True)
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert (await client.get(path, token="")).status == 200

    talk(conversation)


def test_a_withdrawn_token_stops_working(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    (admin,) = services.metadata.find(Identity)

    async def conversation(client: Client) -> None:
        assert (await client.post(PREDICT, ENTITY)).status == 200
        services.metadata.write(Delete(admin))
        changed = msgspec.structs.replace(admin, name="another", token_sha256=token_hash("another"))
        told = Audit(actor="tester", action="change", subject="user:another", difference={})
        services.metadata.write(Put(changed), audit=told)
        for _ in range(100):
            await asyncio.sleep(0.05)
            if (await client.post(PREDICT, ENTITY)).status == 401:
                break
        assert (await client.post(PREDICT, ENTITY)).status == 401
        assert (await client.post(PREDICT, ENTITY, token=changed.name)).status == 200

    talk(conversation)


def test_before_the_first_deployment_it_says_which_command(talk: Callable[..., None]) -> None:
    async def conversation(client: Client) -> None:
        reply = await client.post(PREDICT, ENTITY)
        assert reply.status == 503
        assert "'penstock deploy btc'" in reply.message
        assert (await client.get("/v2/models/btc/ready")).status == 503
        assert (await client.get("/v2/health/ready")).json == {"ready": True}

    talk(conversation)


def test_a_deployment_and_a_rollback_take_effect_without_a_restart(
    talk: Callable[..., None], services: LocalServices
) -> None:
    async def conversation(client: Client) -> None:
        seen: list[int] = []
        for change in (
            lambda: deploy(services, "btc", version=1, wait_s=20),
            lambda: deploy(services, "btc", version=2, wait_s=20),
            lambda: rollback(services, "btc", wait_s=20),
        ):
            done = await asyncio.to_thread(change)
            assert done.processes == 1
            seen.append((await client.post(PREDICT, ENTITY)).json["version"])
        assert seen == [1, 2, 1]
        (status,) = services.metadata.find(ServingStatus)
        assert status.versions["btc/champion"] == "direction@1"
        assert status.versions["btc/previous"] == "direction@2"
        assert (status.address, status.errors) == ("http://here", {})

    talk(conversation)
    assert services.metadata.find(ServingStatus) == []


def test_a_status_that_could_not_be_written_is_written_later(
    talk: Callable[..., None], services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = services.metadata.write
    failed: list[object] = []

    def write(*changes: Put | Delete, audit: Audit | None = None) -> None:
        if changes and isinstance(changes[0].record, ServingStatus) and not failed:
            failed.append(changes)
            raise UnavailableError("The metadata is locked. Try again.")
        real(*changes, audit=audit)

    async def conversation(_: Client) -> None:
        monkeypatch.setattr(services.metadata, "write", write)
        done = await asyncio.to_thread(deploy, services, "btc", version=1, wait_s=10)
        assert (done.processes, len(failed)) == (1, 1)

    talk(conversation)


def test_metrics_count_what_happened(talk: Callable[..., None], services: LocalServices) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        for _ in range(3):
            await client.post(PREDICT, ENTITY)
        await client.post(PREDICT, b"{")
        text = (await client.get("/metrics")).body.decode()
        assert 'penstock_http_requests_total{kind="predict",status="200",worker="0"} 3' in text
        assert 'penstock_http_requests_total{kind="predict",status="400",worker="0"} 1' in text
        labels = 'deployment="btc",route="champion",version="1",worker="0"'
        assert f"penstock_scores_total{{{labels}}} 3" in text
        assert f'penstock_score_seconds_bucket{{{labels},le="+Inf"}} 3' in text
        assert f"penstock_score_seconds_count{{{labels}}} 3" in text

    talk(conversation)


def test_the_schema_is_typed_by_the_version_that_answers(
    talk: Callable[..., None], services: LocalServices, served: ServedProject
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        document = (await client.get("/openapi.json")).json
        assert "/v1/deployments/btc/predict" in document["paths"]
        row = document["components"]["schemas"]["btc.row"]
        features = document["components"]["schemas"]["btc.features"]["properties"]
        assert list(features) == list(served.features)
        assert features["momentum.count_1d"]["type"] == ["integer", "null"]
        assert features["momentum.last_close"]["type"] == ["number", "null"]
        assert row["properties"]["entity"]["properties"]["symbol"]["type"] == "string"

        told = (await client.get("/v1/deployments")).json["deployments"]
        assert [one["name"] for one in told] == ["btc", "split"]
        assert told[0]["routes"]["champion"] == "direction@1"
        assert told[0]["engine"] == "onnx"
        assert "reason" not in told[0]

    talk(conversation)


def test_why_nothing_answers_is_listed(talk: Callable[..., None]) -> None:
    async def conversation(client: Client) -> None:
        (told, _) = (await client.get("/v1/deployments")).json["deployments"]
        assert "Nothing has been deployed on 'btc' yet" in told["reason"]

    talk(conversation)


def test_features_that_were_never_built_are_told(
    talk: Callable[..., None], services: LocalServices, tmp_path: Path
) -> None:
    deploy(services, "btc", version=1)
    for space in services.online.spaces():
        services.online.drop(space)

    async def conversation(client: Client) -> None:
        reply = await client.post(PREDICT, ENTITY)
        assert (reply.status, "penstock features build momentum" in reply.message) == (503, True)

    talk(conversation)
    assert tmp_path.exists()


def test_stale_features_are_refused_until_new_records_come(
    talk: Callable[..., None], services: LocalServices, served: ServedProject
) -> None:
    catalogue = Catalogue.load(services.metadata)
    momentum = msgspec.structs.replace(catalogue.view("momentum"), freshness="2h")
    (batch,) = services.metadata.find(Batch)
    old = msgspec.structs.replace(batch, arrived_at=services.clock.now() - timedelta(hours=5))

    def declare(stale: str) -> None:
        endpoint = catalogue.deployment("btc")
        service = endpoint.model.dataset.service
        assert service is not None
        service = msgspec.structs.replace(service, features=[momentum])
        dataset = msgspec.structs.replace(endpoint.model.dataset, features=service)
        model = msgspec.structs.replace(endpoint.model, dataset=dataset)
        changed = msgspec.structs.replace(endpoint, model=model, stale=stale, fallback=None)
        project = ps.Project("served", declarations=[changed])
        apply(services.metadata, project, actor="tester", now=services.clock.now())

    async def until(client: Client, status: int) -> Reply:
        reply = await client.post(PREDICT, ENTITY)
        for _ in range(100):
            if reply.status == status:
                break
            await asyncio.sleep(0.1)
            reply = await client.post(PREDICT, ENTITY)
        return reply

    async def conversation(client: Client) -> None:
        assert (await client.post(PREDICT, ENTITY)).status == 200  # too old, and served
        counted = (await client.get("/metrics")).body.decode()
        label = 'deployment="btc"'
        assert f'penstock_stale_requests_total{{{label},outcome="served",worker="0"}} 1' in counted
        by_view = f'penstock_stale_view_requests_total{{{label},view="momentum",worker="0"}} 1'
        assert by_view in counted
        (line,) = [one for one in counted.splitlines() if one.startswith("penstock_view_age_sec")]
        assert line.startswith(f'penstock_view_age_seconds{{{label},view="momentum"}} 180')

        declare("refuse")
        refused = await until(client, 503)
        assert (refused.status, refused.json["error"]["kind"]) == (503, "stale")
        assert "arrived 5h ago, and freshness allows 2h" in refused.message
        assert (await client.post(PREDICT, _features(served))).status == 200

        services.metadata.write(Put(batch))  # it arrived only now
        assert (await until(client, 200)).status == 200

    deploy(services, "btc", version=1, wait_s=0)
    services.metadata.write(Put(old))
    declare("serve")
    talk(conversation)


def test_unknown_entities_are_served_until_it_is_declared_that_they_are_refused(
    talk: Callable[..., None], services: LocalServices, served: ServedProject
) -> None:
    nobody, infer = b'{"entity":{"symbol":"NOBODY"}}', "/v2/models/btc/infer"
    both = b'{"rows":[{"entity":{"symbol":"BTC"}},{"entity":{"symbol":"NOBODY"}}]}'
    tensor = {"name": "symbol", "datatype": "BYTES", "shape": [1], "data": ["NOBODY"]}
    tensors = msgspec.json.encode({"inputs": [tensor]})

    def refuse() -> None:
        endpoint = Catalogue.load(services.metadata).deployment("btc")
        changed = msgspec.structs.replace(endpoint, missing="refuse", fallback=None)
        project = ps.Project("served", declarations=[changed])
        plan = apply(services.metadata, project, actor="tester", now=services.clock.now())
        assert any("missing" in str(step) for step in plan.steps)

    async def until_refused(client: Client) -> Reply:
        reply = await client.post(PREDICT, nobody)
        for _ in range(100):
            if reply.status != 200:
                break
            await asyncio.sleep(0.1)
            reply = await client.post(PREDICT, nobody)
        return reply

    async def conversation(client: Client) -> None:
        assert (await client.post(PREDICT, both)).status == 200
        counted = (await client.get("/metrics")).body.decode()
        total = 'penstock_unknown_rows_total{deployment="btc",outcome='
        assert f'{total}"served",worker="0"}} 1\n' in counted
        assert f'{total}"refused",worker="0"}} 0\n' in counted

        refuse()
        refused = await until_refused(client)
        assert (refused.status, refused.json["error"]["kind"]) == (422, "unknown_entity")
        assert "The online store has nothing of symbol 'NOBODY'" in refused.message
        several = await client.post(PREDICT, both)
        assert (several.status, several.json["error"]["kind"]) == (422, "unknown_entity")
        assert several.message.startswith("rows[1]: The online store has nothing of symbol")
        plain = await client.post(infer, tensors)
        assert (plain.status, plain.json["kind"]) == (422, "unknown_entity")
        named = await client.post("/v2/models/btc/versions/1/infer", tensors)
        assert (named.status, named.json["kind"]) == (422, "unknown_entity")
        for body, begins in ((nobody, ""), (both, "rows[1]: ")):
            why = await client.post("/v1/deployments/btc/explain", body)
            assert (why.status, why.json["error"]["kind"]) == (422, "unknown_entity")
            assert why.message.startswith(f"{begins}The online store has nothing of symbol 'NOB")
        assert (await client.post("/v1/deployments/btc/explain", ENTITY)).status == 200

        assert (await client.post(PREDICT, ENTITY)).status == 200
        assert (await client.post(PREDICT, _features(served))).status == 200
        counted = (await client.get("/metrics")).body.decode()
        assert f'{total}"refused",worker="0"}} 4\n' in counted

    deploy(services, "btc", version=1, wait_s=0)
    talk(conversation)


@pytest.mark.parametrize(
    "body",
    [b'{"\x80":1}', b'{"inputs":[{"\xff":1}]}', b'{"inputs":[{"name":"a","data":' + b"[" * 10_000],
    ids=["key", "inner key", "deep"],
)
def test_bytes_that_are_no_text_are_no_json(
    talk: Callable[..., None], services: LocalServices, body: bytes
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        for path in (PREDICT, "/v2/models/btc/infer"):
            answer = await client.post(path, body)
            assert answer.status == 400
            assert "The body is no JSON" in answer.message

    talk(conversation)
