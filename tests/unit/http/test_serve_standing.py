"""What answers for deployments that are not loaded: whatever takes no model."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import penstock as ps
from penstock.deployment import deploy
from penstock.http import serve_keeper, serve_standing, serve_waking
from penstock.http.serve_waking import ByNeed
from penstock.plan import Catalogue, apply
from penstock.records import Score
from penstock.registry import promote
from penstock.scoring import build_fleet, score_batch, wake
from penstock.testing.protecting import protect

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import ModuleType

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

    from .conftest import Client, Reply

PREDICT = "/v1/deployments/btc/predict"
BTC = b'{"entity": {"symbol": "BTC"}}'
ETH = b'{"entity": {"symbol": "ETH"}}'
LATE = "direction@1 is not loaded yet"
UNAVAILABLE = 503
CONSTANT = ps.Fallback(deadline="60ms", to=["cached", "constant"], value=0.25)


class Gate:
    """Holds loads of deployments back, or looks at what is to be loaded."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, module: ModuleType, real: Callable[..., object]
    ) -> None:
        self._open = threading.Event()
        self._open.set()
        self.loads = 0

        def held(*given: Any, **named: Any) -> object:  # noqa: ANN401 - as the real one takes them
            self.loads += 1
            assert self._open.wait(30)
            return real(*given, **named)

        monkeypatch.setattr(module, real.__name__, held)

    @contextmanager
    def shut(self) -> Generator[None]:
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch, serve_waking, wake)


def _declare(services: LocalServices, **changes: object) -> None:
    """Declare ``btc`` otherwise and nothing beside it, and deploy its first version."""
    declared = Catalogue.load(services.metadata).deployment("btc")
    made = msgspec.structs.replace(declared, **{"fallback": CONSTANT, **changes})
    project = ps.Project("served", declarations=[made])
    apply(services.metadata, project, actor="tester", now=services.clock.now())
    deploy(services, "btc", version=1, wait_s=0)


def _logged(services: LocalServices) -> dict[str, Score]:
    files = (services.score_log / "btc").glob("*.jsonl")
    decode = msgspec.json.Decoder(Score).decode_lines
    return {score.prediction_id: score for file in files for score in decode(file.read_bytes())}


async def _loaded(client: Client, path: str, body: bytes) -> Reply:
    """Ask until it has been loaded: that takes a busy machine longer than the deadline."""
    while True:
        reply = await client.post(path, body)
        if reply.status != UNAVAILABLE:
            return reply
        await asyncio.sleep(0.02)


async def _until(holds: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came to hold")


async def _metrics(client: Client) -> dict[str, float]:
    text = (await client.get("/metrics")).body.decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {
        name.replace(',worker="0"', "").replace('{worker="0"}', ""): float(value)
        for name, _, value in lines
    }


def _is_constant(reply: Reply) -> None:
    assert reply.status == 200, reply.body
    told = reply.json
    assert (told["probability"]["true"], told["version"], told["route"]) == (0.25, 0, "fallback")
    assert told["reason"] == LATE


def test_a_constant_answers_for_a_model_that_loads_too_long(
    talk: Callable[..., None], services: LocalServices, gate: Gate
) -> None:
    _declare(services)
    fallbacks = 'penstock_fallbacks_total{deployment="btc",to="constant",cause="loading"}'

    async def ask(client: Client) -> None:
        with gate.shut():
            reply = await client.post(PREDICT, BTC)
            _is_constant(reply)
            score = _logged(services)[reply.json["prediction_id"]]
            assert (score.reason, score.entity, score.prediction) == (LATE, "BTC", 0.25)
            told = await _metrics(client)
            assert told[fallbacks] == 1
            assert told["penstock_loads_late_total"] == 1
            assert client.keeper.waking.loads.done == 0
        await _until(lambda: "btc" in client.keeper.doors)
        reply = await client.post(PREDICT, BTC)
        assert (reply.json["version"], reply.json["route"]) == (1, "champion")
        assert (await _metrics(client))[fallbacks] == 1  # what was counted goes on
        assert gate.loads == 1

    talk(ask, by_need=ByNeed())


def test_it_answers_whatever_protocol_asks(
    talk: Callable[..., None], services: LocalServices, gate: Gate, served: ServedProject
) -> None:
    _declare(services)
    row = dict.fromkeys(served.features, 1)
    doors = {
        PREDICT: {"rows": [{"features": row}, {"entity": {"symbol": "BTC"}}]},
        "/v1/models/btc:predict": {"instances": [{"symbol": "BTC"}, {"symbol": "ETH"}]},
        "/invocations": {"dataframe_records": [row]},
        "/v2/models/btc/infer": {
            "inputs": [{"name": "symbol", "shape": [1], "datatype": "BYTES", "data": ["BTC"]}]
        },
    }

    async def ask(client: Client) -> None:
        with gate.shut():
            for path, body in doors.items():
                reply = await client.post(path, msgspec.json.encode(body))
                assert reply.status == 200, (path, reply.body)
                assert b"0.25" in reply.body
            headers = [(b"accept", b"text/event-stream")]
            body = msgspec.json.encode(doors[PREDICT])
            malformed = await client.post(PREDICT, b'{"entity": {"symbol": 1}}', headers=headers)
            assert malformed.status == 422
            assert (await client.post("/v1/deployments/btc/predict", body)).status == 200

    talk(ask, by_need=ByNeed())


def _infer(key: str) -> bytes:
    tensor = {"name": "symbol", "shape": [1], "datatype": "BYTES", "data": [key]}
    return msgspec.json.encode({"inputs": [tensor]})


def _output(reply: Reply) -> float:
    assert reply.status == 200, reply.body
    return float(reply.json["outputs"][0]["data"][0])


def test_features_are_told_of_what_answers_in_the_place_of_the_model(
    talk: Callable[..., None], services: LocalServices, gate: Gate, served: ServedProject
) -> None:
    _declare(services)
    row = dict.fromkeys(served.features, 1)
    protected = protect(services, "momentum", role="writer")

    async def ask(client: Client) -> None:
        await client.post("/v2/repository/models/btc/load", b"{}")
        first = (await client.post(f"{PREDICT}?features=true", BTC)).json
        assert list(first["features"]) == list(served.features)
        await _until(lambda: "btc" in client.keeper.resting)
        with gate.shut():
            again = (await client.post(f"{PREDICT}?features=true", BTC)).json
            assert (again["route"], again["features"]) == ("cached", first["features"])
            constant = await client.post(f"{PREDICT}?features=true", ETH)
            _is_constant(constant)
            assert constant.json["features"] == {}
            body = msgspec.json.encode({"features": row})
            assert (await client.post(f"{PREDICT}?features=true", body)).json["features"] == row
            before = gate.loads
            refused = await client.post(f"{PREDICT}?features=true", BTC, token=protected)
            assert refused.status == 403
            assert gate.loads == before

    talk(ask, by_need=ByNeed(idle_us=300_000))


def test_a_version_that_is_named_answers_with_what_it_gave_itself(
    talk: Callable[..., None], services: LocalServices, gate: Gate
) -> None:
    _declare(services)
    named, other = (f"/v2/models/btc/versions/{number}/infer" for number in (1, 2))

    async def ask(client: Client) -> None:
        unknown = await client.post(other, _infer("BTC"))
        assert (unknown.status, "only with 1" in unknown.message) == (404, True)
        assert (await client.get("/v2/models/btc/versions/2/ready")).status == 404
        assert (await client.get("/v1/models/btc/versions/2")).status == 404
        assert gate.loads == 0  # nothing is loaded to find that out
        first = _output(await _loaded(client, named, _infer("BTC")))
        assert gate.loads == 1
        await _until(lambda: "btc" in client.keeper.resting)
        with gate.shut():
            assert _output(await client.post(named, _infer("BTC"))) == first
            body = b'{"instances": [{"symbol": "BTC"}]}'
            alias = await client.post("/v1/models/btc/versions/1:predict", body)
            assert alias.json == {"predictions": [first]}
            # A constant is no score of that version, nor is there another version.
            late = await client.post(named, _infer("ETH"))
            assert (late.status, late.headers["retry-after"]) == (503, "1")
            fallbacks = 'penstock_fallbacks_total{deployment="btc",to="cached",cause="loading"}'
            assert (await _metrics(client))[fallbacks] == 2

    talk(ask, by_need=ByNeed(idle_us=300_000))


def test_where_nothing_answers_without_the_model_it_is_refused_and_loaded(
    talk: Callable[..., None], services: LocalServices, gate: Gate
) -> None:
    _declare(services, fallback=ps.Fallback(deadline="60ms", to=["cached", "previous"]))

    async def ask(client: Client) -> None:
        with gate.shut():
            reply = await client.post(PREDICT, BTC)
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert "is being loaded" in reply.message
        await _until(lambda: "btc" in client.keeper.doors)
        assert (await client.post(PREDICT, BTC)).json["version"] == 1

    talk(ask, by_need=ByNeed())


def test_the_last_score_answers_after_the_model_has_gone(
    talk: Callable[..., None], services: LocalServices, gate: Gate
) -> None:
    _declare(services)

    async def ask(client: Client) -> None:
        assert (await client.post("/v2/repository/models/btc/load", b"{}")).status == 200
        first = (await client.post(PREDICT, BTC)).json
        assert (first["version"], first["route"]) == (1, "champion")
        await _until(lambda: "btc" in client.keeper.resting)
        with gate.shut():
            again = (await client.post(PREDICT, BTC)).json
            assert (again["version"], again["route"]) == (1, "cached")
            assert again["probability"] == first["probability"]
            assert again["reason"].startswith(f"{LATE}; score {first['prediction_id']} of ")
            _is_constant(await client.post(PREDICT, ETH))
            told = await _metrics(client)
            assert told['penstock_scores_total{deployment="btc",route="champion",version="1"}'] == 1
            of = 'penstock_fallbacks_total{deployment="btc",to="%s",cause="loading"}'
            assert (told[of % "cached"], told[of % "constant"]) == (1, 1)

    talk(ask, by_need=ByNeed(idle_us=300_000))


def _precompute(services: LocalServices, **changes: object) -> None:
    """Let ``btc`` answer with batch scores."""
    spine = Catalogue.load(services.metadata).deployment("btc").model.dataset.spine
    beta = ps.by_header("x-group", "beta", version=2)
    routes = (ps.champion(), beta, ps.precomputed(max_age="9999d"))
    _declare(services, routes=routes, batch=ps.BatchScoring(on=ps.new_data(spine)), **changes)
    assert score_batch(services, "btc").ready


def test_what_is_counted_while_the_registry_is_looked_at_is_kept(
    talk: Callable[..., None], services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    _precompute(services, fallback=None)
    looks = Gate(monkeypatch, serve_keeper, build_fleet)

    async def ask(client: Client) -> None:
        before = looks.loads
        with looks.shut():
            await asyncio.to_thread(promote, services, "direction", 2)
            await asyncio.to_thread(promote, services, "direction", 1)
            await _until(lambda: looks.loads > before)
            assert (await client.post(PREDICT, BTC)).json["route"] == "precomputed"
        await client.post("/v2/repository/models/btc/load", b"{}")
        assert (await client.post(PREDICT, BTC)).json["route"] == "precomputed"
        told = await _metrics(client)
        assert told['penstock_scores_total{deployment="btc",route="precomputed",version="1"}'] == 2

    talk(ask, by_need=ByNeed())


def test_a_batch_score_answers_at_once_and_has_nothing_loaded(
    talk: Callable[..., None], services: LocalServices, gate: Gate, served: ServedProject
) -> None:
    _precompute(services)

    async def ask(client: Client) -> None:
        with gate.shut():
            for _ in range(3):
                reply = await client.post(PREDICT, BTC)
                assert (reply.json["route"], reply.json["version"]) == ("precomputed", 1)
            named = await client.post("/v2/models/btc/versions/1/infer", _infer("BTC"))
            seen = (await client.post(f"{PREDICT}?features=true", BTC)).json
            assert seen["route"] == "precomputed"
            assert _output(named) == seen["probability"]["true"]
            assert list(seen["features"]) == list(served.features)
            assert gate.loads == 0
            _is_constant(await client.post(PREDICT, b'{"entity": {"symbol": "XRP"}}'))
            beta = [(b"x-group", b"beta")]
            _is_constant(await client.post(PREDICT, BTC, headers=beta))
            by_beta = await client.post("/v2/models/btc/versions/2/infer", _infer("BTC"))
            assert by_beta.status == 503  # batch scores are the champion's
            assert gate.loads == 1
            # A new champion withdraws the scores of the one before.
            await asyncio.to_thread(promote, services, "direction", 2)
            reply = await client.post(PREDICT, BTC)
            for _ in range(1_000):
                if reply.json["route"] != "precomputed":
                    break
                await asyncio.sleep(0.02)
                reply = await client.post(PREDICT, BTC)
            assert reply.json["reason"] == "direction@2 is not loaded yet"

    talk(ask, by_need=ByNeed())


def test_what_nobody_foresaw_is_left_to_the_model(
    talk: Callable[..., None], services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    _declare(services, fallback=ps.Fallback(deadline="10s", to="constant", value=0.25))

    def broken(*_given: object, **_named: object) -> None:
        raise RuntimeError("nobody foresaw it")

    monkeypatch.setattr(serve_standing, "make_stand_in", broken)

    async def ask(client: Client) -> None:
        reply = await client.post(PREDICT, BTC)
        assert (reply.status, reply.json["version"]) == (200, 1)
        assert (await client.get("/metrics")).status == 200

    talk(ask, by_need=ByNeed())


def test_the_model_answers_where_it_is_loaded_in_time(
    talk: Callable[..., None], services: LocalServices, gate: Gate
) -> None:
    _declare(services, fallback=ps.Fallback(deadline="10s", to="constant", value=0.25))

    async def ask(client: Client) -> None:
        replies = await asyncio.gather(*[client.post(PREDICT, BTC) for _ in range(8)])
        assert {(one.json["version"], one.json["route"]) for one in replies} == {(1, "champion")}
        assert gate.loads == 1

    talk(ask, by_need=ByNeed())


def test_what_a_log_may_not_store_is_not_stored_of_these_either(
    talk: Callable[..., None], services: LocalServices, gate: Gate, served: ServedProject
) -> None:
    _declare(services, log=ps.ScoreLog(payload="none"))
    row = {"features": dict.fromkeys(served.features, 7)}

    async def ask(client: Client) -> None:
        with gate.shut():
            reply = await client.post(PREDICT, msgspec.json.encode(row))
            _is_constant(reply)
            score = _logged(services)[reply.json["prediction_id"]]
            assert (score.features, score.withheld) == ((), "*")

    talk(ask, by_need=ByNeed())
