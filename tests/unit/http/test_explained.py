"""A graph's explainers stand beside its answers, for whoever asks and may read the features."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import penstock as ps
from penstock.deployment import deploy
from penstock.plan import Catalogue
from penstock.registry import promote
from penstock.scoring import drain_scores, explain_worker, find_score
from penstock.testing.graph_versions import declare_more, make_graph_version
from penstock.testing.protecting import protect

from .test_explain import workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime import LocalServices

    from .conftest import Client

Json = Any
PREDICT = "/v1/deployments/blended/predict"
ASKED = f"{PREDICT}?explain=true"
COUNT = "momentum.count_1d"


def encoded(**body: Json) -> bytes:
    return msgspec.json.encode(body)


BTC = encoded(entity={"symbol": "BTC"})


@pytest.fixture(autouse=True)
def blended(services: LocalServices) -> None:
    """A graph that answers many records by its linear model, and explains both its models."""
    promote(services, "direction", 1)
    model = Catalogue.load(services.metadata).model("direction")
    graph = ps.Graph(
        "blend",
        dataset=model.dataset,
        steps={
            "linear": ps.Predict(model),
            "boosted": ps.Predict(model, of="@2"),
            "answer": ps.Switch([(ps.col(COUNT) > 20, "linear")], otherwise="boosted"),
            "why": ps.Explain("boosted", top=2),
            "why-linear": ps.Explain("linear"),
        },
    )
    estimated = msgspec.structs.replace(
        graph, name="guess", steps={**graph.steps, "why-answer": ps.Explain("answer")}
    )
    declare_more(
        services,
        ps.Deployment("blended", model=graph),
        ps.Deployment("guessed", model=estimated),
    )
    for one, name in ((graph, "blended"), (estimated, "guessed")):
        version = make_graph_version(services, one, run_id=f"run-{name}")
        deploy(services, name, version=version.version)


def check(told: Json, probability: float) -> None:
    total = sum(part["contribution"] for part in told["contributions"])
    assert told["base"] + total + told.get("others", 0) == pytest.approx(told["output"], abs=1e-9)
    assert told["prediction"] == pytest.approx(probability, abs=1e-6)


def test_what_is_asked_for_stands_beside_the_score(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=2)

    async def conversation(client: Client) -> None:
        before = workers()
        plain = (await client.post(f"{PREDICT}?features=true", BTC)).json
        answer = await client.post(ASKED, BTC)
        assert answer.status == 200, answer.body
        told = answer.json
        assert {*plain} - {*told} == {"features", "parts"}
        assert {*told} - {*plain} == {"explanations"}
        assert told["probability"] == plain["probability"]
        why = told["explanations"]["why"]
        assert told["explanations"] == {"why": why, "why-linear": None}, "no row was led there"
        assert (why["of"], why["method"], why["space"]) == ("boosted", "trees", "log_odds")
        check(why, told["probability"]["true"])
        assert workers() == before, "no worker was asked"
        # The greatest of what the model itself is explained by, beside like rows.
        whole = (await client.post("/v1/deployments/btc/explain", BTC)).json
        sizes = sorted((abs(part["contribution"]) for part in whole["contributions"]), reverse=True)
        assert len(why["contributions"]) == 2 < len(sizes)
        shown = [abs(part["contribution"]) for part in why["contributions"]]
        assert shown == pytest.approx(sizes[:2])

        many = plain["features"] | {COUNT: 30}
        rows = encoded(rows=[{"features": many}, {"entity": {"symbol": "BTC"}}])
        led, other = (await client.post(f"{ASKED}&features=true", rows)).json["predictions"]
        assert led["features"] == many
        assert led["explanations"]["why"] is None
        linear = led["explanations"]["why-linear"]
        assert "others" not in linear
        assert {part["feature"]: part["value"] for part in linear["contributions"]} == many
        check(linear, led["probability"]["true"])
        assert other["explanations"]["why"] == why
        log = find_score(services, told["prediction_id"])
        assert log is not None
        assert set(log.parts) == {"boosted"}

    talk(conversation)
    drain_scores(services)
    assert services.tables.scan("scores/blended").collect().height == 4


def test_a_worker_estimates_what_has_no_exact_form_and_its_failure_fails_no_answer(
    talk: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def conversation(client: Client) -> None:
        path = ASKED.replace("blended", "guessed")
        told = (await client.post(path, BTC)).json
        guess = told["explanations"]["why-answer"]
        assert (guess["of"], guess["method"], guess["space"]) == (
            "answer",
            "sampled",
            "probability",
        )
        check(guess, told["probability"]["true"])
        with monkeypatch.context() as patch:
            patch.setattr(explain_worker, "START_S", 0.01)
            patch.setattr(explain_worker, "ROW_S", 0.01)
            late = (await client.post(path, BTC)).json
        assert late["probability"] == told["probability"]
        error = late["explanations"]["why-answer"]["error"]
        assert error["kind"] == "unavailable"
        assert "The explanation took longer than 0.02 s and was ended" in error["message"]
        assert late["explanations"]["why"] == told["explanations"]["why"]

    talk(conversation)


def test_what_cannot_be_asked_for_is_refused_before_anything_is_scored(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=2)
    token = protect(services, "momentum", role="writer")
    one = {"entity": {"symbol": "BTC"}}

    async def conversation(client: Client) -> None:
        none = await client.post(ASKED.replace("blended", "btc"), BTC)
        assert none.status == 422
        assert "'btc' explains no step. Declare ps.Explain" in none.message
        many = await client.post(ASKED, encoded(rows=[one] * 17))
        assert many.status == 422
        assert "17 rows are asked to be explained; 16 at most" in many.message
        refused = await client.post(ASKED, BTC, token=token)
        assert refused.status == 403
        assert "momentum" in refused.message
        stream = [(b"accept", b"text/event-stream")]
        streamed = await client.post(ASKED, BTC, headers=stream)
        assert streamed.status == 422
        assert "'explain' goes with JSON" in streamed.message
        odd = await client.post(f"{PREDICT}?explain=why", BTC)
        assert "'explain' is 'why'; send true or false" in odd.message
        nobody = await client.post(ASKED.replace("blended", "nobody"), BTC)
        assert nobody.status == 404
        asked = [client.post(ASKED.replace("blended", "guessed"), BTC) for _ in range(12)]
        statuses = {reply.status for reply in await asyncio.gather(*asked)}
        assert statuses <= {200, 503}

    talk(conversation)
    drain_scores(services)
    assert services.tables.version("scores/blended") is None, "nothing was scored"
