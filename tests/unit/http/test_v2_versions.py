"""Which version answered, and what a request may ask for beside its tensors, over REST and gRPC."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import msgspec
import pytest

import penstock as ps
from penstock.deployment import Engine, deploy, point_alias
from penstock.http.grpc_messages import SERVICE, message
from penstock.http.grpc_service import GrpcServer
from penstock.plan import Catalogue, apply
from penstock.testing.lanes import Summing
from penstock.testing.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

    from .conftest import Client, Raw, Wire

    Told: TypeAlias = tuple[str, dict[str, str]]

SYMBOLS = [f"S{number}" for number in range(20)]


class Failing(Engine):
    """Predicts nothing."""

    name = "native"

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        raise ValueError(f"no prediction of {len(x)}")


def _asking(symbols: Sequence[str], **more: object) -> bytes:
    keys = {"name": "symbol", "shape": [len(symbols)], "datatype": "BYTES", "data": symbols}
    return msgspec.json.encode({"inputs": [keys], **more})


def _rows(symbols: Sequence[str]) -> bytes:
    return msgspec.json.encode({"rows": [{"entity": {"symbol": one}} for one in symbols]})


def _told(answer: Mapping[str, Any]) -> Told:
    return answer.get("model_version", ""), answer.get("parameters", {})


def _wanted(predictions: Sequence[Mapping[str, Any]]) -> Told:
    """What is to be said of rows, by what the typed door says of each."""
    versions = [str(one["version"]) for one in predictions]
    routes = [one["route"] for one in predictions]
    if set(routes) == {"champion"}:
        return versions[0], {}
    version = versions[0] if len(set(versions)) == 1 else ""
    return version, {"versions": ",".join(versions), "routes": ",".join(routes)}


async def _by_grpc(client: Client, name: str, symbols: Sequence[str]) -> Told:
    request = message("ModelInferRequest")(model_name=name)
    tensor = request.inputs.add(name="symbol", datatype="BYTES", shape=[len(symbols)])
    tensor.contents.bytes_contents.extend(one.encode() for one in symbols)
    answer = message("ModelInferResponse").FromString(await _called(client, "ModelInfer", request))
    told = {name: one.string_param for name, one in answer.parameters.items()}
    return answer.model_version, told


async def _called(client: Client, method: str, request: Any) -> bytes:  # noqa: ANN401 - a message
    app, port = client.app, free_port()
    server = GrpcServer(client.keeper, app.inference, app.version, host="127.0.0.1", port=port)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary(
                f"/{SERVICE}/{method}", request_serializer=type(request).SerializeToString
            )
            metadata = (("authorization", f"Bearer {client.token}"),)
            answer: bytes = await call(request, metadata=metadata)
            return answer
    finally:
        await server.stop()


def test_the_version_that_answered_is_told_of_every_row(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    point_alias(services, "direction", "challenger", 2)

    async def conversation(client: Client) -> None:
        typed = await client.post("/v1/deployments/split/predict", _rows(SYMBOLS))
        answered = typed.json["predictions"]
        by_symbol = dict(zip(SYMBOLS, answered, strict=True))
        mine = [name for name, one in by_symbol.items() if one["route"] == "challenger"]
        others = [name for name in SYMBOLS if name not in mine]
        assert mine
        assert others
        for symbols in (SYMBOLS, mine, others, mine[:1], others[:1]):
            wanted = _wanted([by_symbol[one] for one in symbols])
            rest = await client.post("/v2/models/split/infer", _asking(symbols))
            assert _told(rest.json) == wanted
            assert await _by_grpc(client, "split", symbols) == wanted
        assert _told((await client.post("/v2/models/split/infer", _asking(mine))).json)[0] == "2"
        assert _told((await client.post("/v2/models/split/infer", _asking(others))).json) == (
            "1", {},
        )  # fmt: skip

    talk(conversation)


def test_without_a_task_it_is_told_as_well(
    wire: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    point_alias(services, "direction", "challenger", 2)

    async def asked(raw: Raw, request: bytes) -> Any:  # noqa: ANN401 - JSON
        await raw.send(request)
        return (await raw.reply()).json

    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            typed = await asked(raw, wire.request("/v1/deployments/split/predict", _rows(SYMBOLS)))
            whole = await asked(raw, wire.request("/v2/models/split/infer", _asking(SYMBOLS)))
            assert _told(whole) == _wanted(typed["predictions"])
            for symbol, one in zip(SYMBOLS, typed["predictions"], strict=True):
                alone = await asked(raw, wire.request("/v2/models/split/infer", _asking([symbol])))
                assert _told(alone) == _wanted([one])

    wire(conversation)


def test_what_falls_back_is_told(talk: Callable[..., None], services: LocalServices) -> None:
    btc = Catalogue.load(services.metadata).deployment("btc")
    fallback = ps.Fallback(deadline="2s", to=["previous", "constant"], value=0.25)
    project = ps.Project(
        "served", declarations=[msgspec.structs.replace(btc, fallback=fallback, log=None)]
    )
    apply(services.metadata, project, actor="ann", now=services.clock.now())
    for version in (1, 2):
        deploy(services, "btc", version=version)

    async def conversation(client: Client) -> None:
        lanes = client.keeper.doors["btc"].endpoint.lanes
        for role, version in (("champion", "1"), ("previous", "0")):
            lanes[role].version.engine = Failing()
            routes = {"versions": f"{version},{version}", "routes": "fallback,fallback"}
            rest = await client.post("/v2/models/btc/infer", _asking(SYMBOLS[:2]))
            assert _told(rest.json) == (version, routes)
            assert await _by_grpc(client, "btc", SYMBOLS[:2]) == (version, routes)

    talk(conversation)


def test_a_request_may_say_how_long_it_takes(
    talk: Callable[..., None], services: LocalServices, served: ServedProject
) -> None:
    deploy(services, "btc", version=1)
    matrix = {"name": "x", "shape": [1, len(served.features)], "datatype": "FP64",
              "data": [1.0] * len(served.features)}  # fmt: skip
    request = message("ModelInferRequest")(model_name="btc")
    request.parameters["timeout"].int64_param = 50_000
    tensor = request.inputs.add(name="x", datatype="FP64", shape=matrix["shape"])
    tensor.contents.fp64_contents.extend(matrix["data"])

    async def conversation(client: Client) -> None:
        async def asked(allowed: object) -> tuple[int, str]:
            body = {"inputs": [matrix], "parameters": {"timeout": allowed}}
            reply = await client.post("/v2/models/btc/infer", json.dumps(body).encode())
            return reply.status, "" if reply.status == 200 else reply.message

        assert await asked(10_000_000) == (200, "")
        for wrong in (-1, True, "1", 0.5, 1 << 63, 10**400):
            status, said = await asked(wrong)
            assert (status, "number of microseconds" in said) == (422, True)
        lane = client.keeper.doors["btc"].endpoint.lanes["champion"]
        engine = Summing()
        lane.version.engine, lane.slow = engine, True
        engine.gate.clear()
        try:
            status, said = await asked(50_000)
            assert (status, "within the 50000 microseconds" in said) == (503, True)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await _called(client, "ModelInfer", request)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        finally:
            engine.gate.set()
        assert client.keeper.doors["btc"].endpoint.circuits["direction@1"].failures == 0

    talk(conversation)


def test_requests_of_a_sequence_are_answered_as_any_others_are(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    sequence = {"sequence_id": 7, "sequence_start": True, "sequence_end": False, "priority": 2}

    async def conversation(client: Client) -> None:
        path = "/v2/models/btc/infer"
        expected = (await client.post(path, _asking(["BTC"]))).json["outputs"][0]["data"]
        for named in (7, (1 << 64) - 1, "a-b", "", 0):
            body = _asking(["BTC"], parameters=sequence | {"sequence_id": named})
            reply = await client.post(path, body)
            assert (reply.status, reply.json["outputs"][0]["data"]) == (200, expected)
        for wrong, text in (
            ({"sequence_id": 1.5}, "Give a whole number from 0, or a text"),
            ({"sequence_id": None}, "sequence_id=None"),
            ({"sequence_id": True}, "sequence_id=True"),
            ({"sequence_start": 1}, "sequence_start=1. Give true or false"),
            ({"sequence_end": "yes"}, "sequence_end='yes'"),
            ({"priority": -1}, "priority=-1"),
        ):
            reply = await client.post(path, _asking(["BTC"], parameters=sequence | wrong))
            assert (reply.status, text in reply.message) == (422, True), reply.message

    talk(conversation)


def test_outputs_are_given_as_they_are_wanted_or_refused(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        outputs = [{"name": "prediction", "parameters": {"shared_memory_region": "r"}}]
        reply = await client.post("/v2/models/btc/infer", _asking(["BTC"], outputs=outputs))
        assert (reply.status, "not supported" in reply.message) == (501, True)
        request = message("ModelInferRequest")(model_name="btc")
        tensor = request.inputs.add(name="symbol", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(b"BTC")
        request.outputs.add(name="prediction").parameters["shared_memory_region"].string_param = "r"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await _called(client, "ModelInfer", request)
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED

    talk(conversation)


def test_the_index_lists_what_is_ready_alone_where_that_is_asked(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        await client.keeper.unload("split", actor="tester")

        async def names(body: bytes) -> list[str]:
            reply = await client.post("/v2/repository/index", body)
            return [one["name"] for one in reply.json]

        assert await names(b"") == await names(b'{"ready":false}') == ["btc", "split"]
        assert await names(b'{"ready":true}') == ["btc"]
        for wrong in (b'{"ready":1}', b"[]", b"{"):
            assert (await client.post("/v2/repository/index", wrong)).status == 422
        for ready, wanted in ((True, ["btc"]), (False, ["btc", "split"])):
            request = message("RepositoryIndexRequest")(ready=ready)
            answer = message("RepositoryIndexResponse").FromString(
                await _called(client, "RepositoryIndex", request)
            )
            assert [one.name for one in answer.models] == wanted

    talk(conversation)


def test_statistics_of_all_are_told_whatever_version_is_named(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        async def told(name: str, version: str) -> list[tuple[str, str]]:
            request = message("ModelStatisticsRequest")(name=name, version=version)
            answer = message("ModelStatisticsResponse").FromString(
                await _called(client, "ModelStatistics", request)
            )
            return [(one.name, one.version) for one in answer.model_stats]

        for version in ("", "1", "x"):
            assert await told("", version) == [("btc", "1"), ("split", "1")]
        assert await told("btc", "1") == [("btc", "1")]
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await told("btc", "x")
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND

    talk(conversation)
