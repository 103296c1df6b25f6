"""Traces of a serving process, as a collector of OpenTelemetry's protocol gets them."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import msgspec
import pytest

from penstock.control import lineage
from penstock.deployment import deploy
from penstock.http.grpc_messages import SERVICE, message
from penstock.http.serve_protocol import GATHERED_BYTES
from penstock.runtime import open_services
from penstock.testing.ports import free_port
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.testing.collector import Collected, Collector
    from penstock.testing.served_project import ServedProject

collecting = pytest.importorskip("penstock.testing.collector", reason="otel is not installed")
pytestmark = pytest.mark.slow

TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{CLIENT}-01", "tracestate": "vendor=abc,other=1"}
PREDICT = "/v1/deployments/btc/predict"
BTC = {"entity": {"symbol": "BTC"}}
WHOLE = {"decode", "score", "wait", "features", "predict", "log"}


@pytest.fixture
def collected(served: ServedProject, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1)
    with collecting.collector() as found:
        monkeypatch.setenv("PENSTOCK_TRACES", "true")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        yield found


def _ended(trace_id: str) -> Callable[[list[Collected]], bool]:
    def ended(spans: list[Collected]) -> bool:
        return any(span.trace_id == trace_id and span.server for span in spans)

    return ended


def test_the_clients_trace_goes_on_over_both_ways_of_http(
    served: ServedProject, collected: Collector
) -> None:
    with serving(served) as http:
        # The short way answers what is whole within 64 KiB; what is longer goes through ASGI.
        answer = http.post(PREDICT, json=BTC, headers=PARENT | {"x-request-id": "r1"}).json()
        other = TRACE.replace("4b", "5c")
        rows = {"rows": [BTC, BTC | {"at": "2026-01-11T00:00:00Z"}] * 400}
        long = msgspec.json.format(msgspec.json.encode(rows), indent=8)
        assert len(long) > GATHERED_BYTES
        parent = {"traceparent": f"00-{other}-{CLIENT}-01"}
        many = http.post(PREDICT, content=long, headers=parent)
        assert many.is_success, many.text
        collected.wait(_ended(TRACE))
        collected.wait(_ended(other))

    spans = collected.trace(TRACE)
    server = spans[f"POST {PREDICT.replace('btc', '{name}')}"]
    assert (server.parent_id, server.state, server.server) == (CLIENT, PARENT["tracestate"], True)
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["penstock.request_id"] == "r1"
    assert server.resource["service.name"] == "penstock-serve"
    assert server.resource["deployment.environment"] == "test"
    assert set(spans) == WHOLE | {server.name}
    score = spans["score"]
    assert {span.parent_id for span in (spans["decode"], score)} == {server.span_id}
    assert {spans[name].parent_id for name in WHOLE - {"decode", "score"}} == {score.span_id}
    assert {**score.attributes, "penstock.engine": ""} == {
        "penstock.deployment": "btc", "penstock.version": "direction@1",
        "penstock.route": "champion", "penstock.engine": "", "penstock.rows": 1,
        "penstock.batch.rows": 1, "penstock.prediction_ids": [answer["prediction_id"]],
    }  # fmt: skip
    inside = [spans[name] for name in ("decode", "wait", "features", "predict", "log")]
    times = [server.start_us, *(time for one in inside for time in (one.start_us, one.end_us))]
    assert times == sorted(times)
    assert server.end_us >= times[-1]

    groups = [one for one in collected.spans if one.trace_id == other and one.name == "score"]
    told = [row["prediction_id"] for row in many.json()["predictions"]]
    noted = [name for one in groups for name in one.listed("penstock.prediction_ids")]
    assert sorted(noted) == sorted(told)
    assert len(told) == 800
    # A score leads to its trace, as the trace to the score.
    with open_services(served.home, actor="tester") as services:
        detail = lineage(services, answer["prediction_id"]).detail
        assert detail["trace_id"] == TRACE
        assert lineage(services, told[-1]).detail["trace_id"] == other


def test_grpc_brings_its_context_as_metadata(
    served: ServedProject, collected: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("PENSTOCK_SERVE_GRPC_PORT", str(port))
    request = message("ModelInferRequest")(model_name="btc", id="g1")
    tensor = request.inputs.add(name="symbol", datatype="BYTES", shape=[2])
    tensor.contents.bytes_contents.extend([b"BTC", b"ETH"])
    metadata = (("authorization", f"Bearer {served.token}"), *PARENT.items())
    with serving(served), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer: Any = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=message("ModelInferRequest").SerializeToString,
            response_deserializer=message("ModelInferResponse").FromString,
        )
        infer(request, metadata=metadata)
        collected.wait(_ended(TRACE))
        request.model_name = "nobody"
        with pytest.raises(grpc.RpcError):
            infer(request, metadata=metadata)
        collected.wait(lambda spans: sum(span.server for span in spans) == 2)

    servers = [span for span in collected.spans if span.server]
    assert {span.parent_id for span in servers} == {CLIENT}
    codes = [span.attributes["rpc.response.status_code"] for span in servers]
    assert codes == ["OK", "NOT_FOUND"]
    assert servers[0].attributes["penstock.request_id"] == "g1"
    assert servers[0].attributes["penstock.rows"] == 2
    score = collected.trace(TRACE)["score"]
    assert score.attributes["penstock.rows"] == score.attributes["penstock.batch.rows"] == 2


def test_a_batch_of_several_requests_has_a_span_that_is_linked_with_theirs(
    served: ServedProject, collected: Collector
) -> None:
    async def ask(url: str) -> None:
        headers = {"Authorization": f"Bearer {served.token}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as http:
            for _ in range(4):
                answers = await asyncio.gather(*[http.post(PREDICT, json=BTC) for _ in range(24)])
                assert {one.status_code for one in answers} == {200}

    with serving(served) as http:
        asyncio.run(ask(str(http.base_url)))
        collected.wait(lambda spans: sum(span.server for span in spans) == 96)

    spans = collected.spans
    batches = [span for span in spans if span.name == "batch direction@1"]
    assert batches
    servers = {(span.trace_id, span.span_id): span for span in spans if span.server}
    assert len(servers) == len({trace for trace, _ in servers}) == 96
    for batch in batches:
        assert batch.parent_id == ""
        assert len(batch.links) == batch.attributes["penstock.batch.rows"]
        assert len(batch.links) > 1
        scores = [
            span for span in spans
            if span.name == "score" and (batch.trace_id, batch.span_id) in span.links
        ]  # fmt: skip
        assert {span.trace_id for span in scores} == {trace for trace, _ in batch.links}
        assert set(batch.links) <= set(servers)


def test_who_is_traced(
    served: ServedProject, collected: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.0")
    unsampled = {"traceparent": f"00-{TRACE.replace('4b', '5c')}-{CLIENT}-00"}
    broken = {"traceparent": f"00-{TRACE}-{'0' * 16}-01"}
    with serving(served) as http:
        with open_services(served.home, actor="tester") as services:
            for headers in ({}, unsampled, broken):
                told = http.post(PREDICT, json=BTC, headers=headers).json()
                assert lineage(services, told["prediction_id"]).detail["trace_id"] == ""
        settings = http.get("/v2/trace/setting").json()
        assert (settings["trace_level"], settings["trace_rate"]) == (["TIMESTAMPS"], "0")
        http.post(PREDICT, json={"entity": {}}, headers=PARENT)
        collected.wait(_ended(TRACE))
        # Triton's clients change it while the process serves.
        changed = http.post("/v2/trace/setting", json={"trace_rate": 1}).json()
        assert changed["trace_rate"] == "1"
        http.post(PREDICT, json=BTC)
        collected.wait(lambda spans: sum(span.server for span in spans) == 2)
        off = http.post("/v2/trace/setting", json={"trace_level": ["OFF"]}).json()
        assert off["trace_level"] == ["OFF"]
        http.post(PREDICT, json=BTC, headers=PARENT)
        back = http.post("/v2/trace/setting", json={"trace_level": None}).json()
        assert back["trace_level"] == ["TIMESTAMPS"]
        for wrong in (
            {"trace_rate": 0},
            {"trace_rate": "9" * 5_000},
            {"trace_level": ["ALL"]},
            {"trace_wait": "1"},
        ):
            assert http.post("/v2/trace/setting", json=wrong).status_code == 422
        alone = http.post("/v2/models/btc/trace/setting", json={"trace_rate": "7"})
        assert (alone.status_code, "one setting for the process" in alone.text) == (501, True)
        http.post(PREDICT, json=BTC, headers=PARENT)
        collected.wait(lambda spans: sum(span.server for span in spans) == 3)
    servers = [span for span in collected.spans if span.server]
    assert [span.attributes["http.response.status_code"] for span in servers] == [422, 200, 200]
    assert set(collected.trace(TRACE)) >= WHOLE


def test_nobody_collects(
    served: ServedProject, collected: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as deaf:  # takes connections and says nothing
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        monkeypatch.setenv(
            "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}"
        )
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "5")
        with serving(served) as http:
            for _ in range(40):
                assert http.post(PREDICT, json=BTC).is_success
            lost = 0.0
            while lost < 30:
                told = http.get("/metrics").text
                line = next(one for one in told.splitlines() if one.startswith(LOST))
                lost = float(line.split()[1])
    assert not collected.spans


LOST = "penstock_traces_lost_total"
