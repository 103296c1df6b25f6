"""Explanations over HTTP add up, score nothing, and are told to who may read the features."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import pytest

from penstock.deployment import deploy
from penstock.http.serve_explain import MOST_EXPLAINED
from penstock.http.serve_turns import MOST_WAITING
from penstock.scoring import drain_scores, explain_worker
from penstock.testing.protecting import protect

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

    from .conftest import Client

Json = Any
EXPLAIN, PREDICT, ALIAS = (
    "/v1/deployments/btc/explain", "/v1/deployments/btc/predict", "/v1/models/btc:explain"
)  # fmt: skip


def encoded(**body: Json) -> bytes:
    return msgspec.json.encode(body)


def check(told: Json, features: dict[str, float | None]) -> None:
    total = sum(part["contribution"] for part in told["contributions"])
    assert told["base"] + total == pytest.approx(told["output"], abs=1e-9)
    assert {part["feature"]: part["value"] for part in told["contributions"]} == features


@pytest.mark.parametrize(("version", "method"), [(1, "linear"), (2, "trees")])
def test_what_the_features_add_leads_to_the_prediction(
    talk: Callable[..., None], services: LocalServices, version: int, method: str
) -> None:
    deploy(services, "btc", version=version)

    async def conversation(client: Client) -> None:
        asked = {"entity": {"symbol": "BTC"}}
        score = (await client.post(f"{PREDICT}?features=true", encoded(**asked))).json
        answer = await client.post(EXPLAIN, encoded(**asked))
        assert answer.status == 200, answer.body
        told = answer.json
        check(told, score["features"])
        assert (told["method"], told["space"], told["version"]) == (method, "log_odds", version)
        assert told["prediction"] == pytest.approx(score["probability"]["true"], abs=1e-6)
        given = encoded(rows=[{"features": score["features"]}, asked])
        several = (await client.post(EXPLAIN, given)).json["explanations"]
        assert [one["contributions"] for one in several] == [told["contributions"]] * 2
        row = list(score["features"].values())
        by_alias = (await client.post(ALIAS, encoded(instances=[row]))).json["explanations"]
        assert by_alias[0]["contributions"] == told["contributions"]
        named = ALIAS.replace(":", f"/versions/{version}:")
        assert (await client.post(named, encoded(instances=[row]))).status == 200
        other = named.replace(f"/{version}:", "/9:")
        assert (await client.post(other, encoded(instances=[row]))).status == 404

    talk(conversation)
    drain_scores(services)
    scores = services.tables.scan("scores/btc").collect()
    assert scores.height == 1, "an explanation is no score"


def test_what_is_asked_is_bounded(talk: Callable[..., None], services: LocalServices) -> None:
    deploy(services, "btc", version=1)
    one = {"entity": {"symbol": "BTC"}}

    async def conversation(client: Client) -> None:
        many = await client.post(EXPLAIN, encoded(rows=[one] * (MOST_EXPLAINED + 1)))
        assert many.status == 422
        assert "17 rows are asked to be explained; 16 at most" in many.message
        asked = [client.post(EXPLAIN, encoded(**one)) for _ in range(MOST_WAITING + 1)]
        statuses = [reply.status for reply in await asyncio.gather(*asked)]
        assert sorted(statuses) == [200] * MOST_WAITING + [503]
        assert (await client.post(EXPLAIN, encoded(**one))).status == 200
        assert (await client.get(EXPLAIN)).status == 405
        assert (await client.post(EXPLAIN, b"[]")).status == 422
        assert (await client.post(EXPLAIN.replace("btc", "nothing"), b"{}")).status == 404
        assert (await client.post(EXPLAIN, encoded(**one), token="")).status == 401

    talk(conversation)


def test_one_that_hangs_is_ended_and_the_next_is_explained(
    talk: Callable[..., None], services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(services, "btc", version=1)
    asked = encoded(entity={"symbol": "BTC"})

    async def conversation(client: Client) -> None:
        others = workers()
        first = (await client.post(EXPLAIN, asked)).json
        (worker,) = workers() - others
        worker.suspend()
        with monkeypatch.context() as patch:
            patch.setattr(explain_worker, "START_S", 0.5)
            patch.setattr(explain_worker, "ROW_S", 0.1)
            reply = await client.post(EXPLAIN, asked)
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert "The explanation took longer than 0.6 s and was ended" in reply.message
        again = await client.post(EXPLAIN, asked)
        assert again.status == 200, again.body
        assert again.json["contributions"] == first["contributions"]
        assert worker not in workers()

    talk(conversation)


def workers() -> set[psutil.Process]:
    """The processes that this one has tasks done by, and that live."""
    children = psutil.Process().children()
    return {
        child
        for child in children
        if child.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(child.cmdline())
    }


def test_who_may_not_read_the_features_is_refused(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    token = protect(services, "momentum")

    async def conversation(client: Client) -> None:
        asked = encoded(entity={"symbol": "BTC"})
        refused = await client.post(EXPLAIN, asked, token=token)
        assert refused.status == 403
        assert "momentum" in refused.message

    talk(conversation)


def test_the_document_has_it(
    talk: Callable[..., None], services: LocalServices, served: ServedProject
) -> None:
    deploy(services, "btc", version=2)

    async def conversation(client: Client) -> None:
        paths = (await client.get("/openapi.json")).json["paths"]
        schema = paths[EXPLAIN]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        told = schema["anyOf"][0]["properties"]
        assert told["space"]["enum"] == ["probability", "log_odds"]
        feature = told["contributions"]["items"]["properties"]["feature"]
        assert feature["enum"] == list(served.features)

    talk(conversation)
