"""Requests over gRPC that end before they are answered."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from penstock.deployment import deploy
from penstock.http.grpc_health import health_handlers
from penstock.http.grpc_messages import HEALTH, SERVICE, message
from penstock.http.grpc_service import GRACE_S, GrpcServer
from penstock.http.serve_app import ServeApp
from penstock.http.serve_keeper import Keeper
from penstock.http.serve_traces import Tracing
from penstock.ports import SpanCounts, Spans
from penstock.runtime import Sampling
from penstock.testing.lanes import Summing
from penstock.testing.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from penstock.ports import Traced
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject


class Kept(Spans):
    """Keeps what was traced."""

    def __init__(self) -> None:
        self.told: list[Traced] = []

    def emit(self, told: Traced) -> None:
        self.told.append(told)

    def counts(self) -> SpanCounts:
        return SpanCounts(0, 0)

    def close(self) -> None:
        pass


@asynccontextmanager
async def _serving(services: LocalServices, spans: Spans) -> AsyncGenerator[tuple[Keeper, str]]:
    tracing = Tracing(spans, services.clock, Sampling(1.0))
    keeper = Keeper(services, address="http://here", limit_bytes=1 << 20, spans=spans)
    app = ServeApp(keeper, services.clock, tracing=tracing)
    port = free_port()
    server = GrpcServer(keeper, app.inference, app.version, host="127.0.0.1", port=port)
    await keeper.start()
    await server.start()
    try:
        yield keeper, f"127.0.0.1:{port}"
    finally:
        await server.stop()
        await keeper.stop()


def test_a_stream_that_rests_does_not_hold_up_the_end(
    services: LocalServices, served: ServedProject
) -> None:
    deploy(services, "btc", version=1, wait_s=0)
    request = message("ModelInferRequest")(model_name="btc", id="g1")
    tensor = request.inputs.add(name="x", datatype="FP64", shape=[1, len(served.features)])
    tensor.contents.fp64_contents.extend([1.0] * len(served.features))

    async def talk() -> None:
        serving = _serving(services, Kept())
        _, address = await serving.__aenter__()
        async with grpc.aio.insecure_channel(address) as channel:
            infer: Any = channel.stream_stream(
                f"/{SERVICE}/ModelStreamInfer",
                request_serializer=message("ModelInferRequest").SerializeToString,
                response_deserializer=message("ModelStreamInferResponse").FromString,
            )
            call = infer(metadata=(("authorization", f"Bearer {served.token}"),))
            for _ in range(3):
                await call.write(request)
                answer = await call.read()
                assert answer.infer_response.id == "g1", answer.error_message
                assert answer.infer_response.parameters["triton_final_response"].bool_param
            began_s = time.monotonic()
            await serving.__aexit__(None, None, None)
            assert time.monotonic() - began_s < GRACE_S / 2
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK

    asyncio.run(talk())


def test_a_stream_tells_which_request_failed(
    services: LocalServices, served: ServedProject
) -> None:
    async def talk() -> None:
        async with (
            _serving(services, Kept()) as (_, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            infer: Any = channel.stream_stream(
                f"/{SERVICE}/ModelStreamInfer",
                request_serializer=message("ModelInferRequest").SerializeToString,
                response_deserializer=message("ModelStreamInferResponse").FromString,
            )
            call = infer(metadata=(("authorization", f"Bearer {served.token}"),))
            await call.write(message("ModelInferRequest")(model_name="btx", id="g2"))
            answer = await call.read()
            assert "'inputs' is empty" in answer.error_message
            told = answer.infer_response
            assert (told.id, told.model_name) == ("g2", "btx")
            assert told.parameters["triton_final_response"].bool_param

    asyncio.run(talk())


async def _until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - another thread makes it so
            await asyncio.sleep(0.01)


def test_a_call_that_the_client_gives_up_is_no_fault_of_the_server(
    services: LocalServices, served: ServedProject
) -> None:
    deploy(services, "btc", version=1, wait_s=0)
    request = message("ModelInferRequest")(model_name="btc", id="g1")
    tensor = request.inputs.add(name="x", datatype="FP64", shape=[1, len(served.features)])
    tensor.contents.fp64_contents.extend([1.0] * len(served.features))
    kept, engine = Kept(), Summing()

    async def talk() -> None:
        async with _serving(services, kept) as (keeper, address):
            lane = keeper.doors["btc"].endpoint.lanes["champion"]
            lane.version.engine, lane.slow = engine, True
            engine.gate.clear()
            async with grpc.aio.insecure_channel(address) as channel:
                infer: Any = channel.unary_unary(
                    f"/{SERVICE}/ModelInfer",
                    request_serializer=message("ModelInferRequest").SerializeToString,
                )
                call = infer(request, metadata=(("authorization", f"Bearer {served.token}"),))
                await _until(lambda: engine.batches)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                await _until(lambda: kept.told)
            engine.gate.set()
            assert lane.counts.failed == 0
            assert not keeper.doors["btc"].endpoint.counters.errors

    asyncio.run(talk())
    (span,) = [span for told in kept.told for span in told.spans() if span.kind == "server"]
    assert (span.attributes["rpc.response.status_code"], span.error) == ("CANCELLED", "")


def test_probes_are_told_of_the_process_and_its_services_until_it_ends(
    services: LocalServices,
) -> None:
    # As it is on the wire: {"service": NAME} is field 1, and SERVING is 1 in field 1.
    def asked(name: str) -> bytes:
        return b"\x0a" + bytes([len(name)]) + name.encode() if name else b""

    async def talk() -> None:
        serving = _serving(services, Kept())
        keeper, address = await serving.__aenter__()
        async with grpc.aio.insecure_channel(address) as channel:
            check: Any = channel.unary_unary(f"/{HEALTH}/Check")
            for name in ("", SERVICE, HEALTH):
                assert await check(asked(name)) == b"\x08\x01"
            with pytest.raises(grpc.aio.AioRpcError, match="There is no service 'btc'") as raised:
                await check(asked("btc"))
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND
            watch: Any = channel.unary_stream(f"/{HEALTH}/Watch")
            call, stranger = watch(asked(SERVICE)), watch(asked("btc"))
            assert await call.read() == b"\x08\x01"
            assert await stranger.read() == b"\x08\x03"
            keeper.ready = False
            assert await check(b"") == b"\x08\x02"
            assert await call.read() == b"\x08\x02"
            keeper.ready = True
            assert await call.read() == b"\x08\x01"
            last = asyncio.ensure_future(call.read())
            await serving.__aexit__(None, None, None)
            assert await last == b"\x08\x02"
            assert await call.read() is grpc.aio.EOF

    asyncio.run(talk())


@dataclass
class _Details:
    method: str
    invocation_metadata: Any = ()


def test_a_watcher_is_told_of_an_end_that_comes_while_an_answer_is_on_its_way() -> None:
    async def talk() -> None:
        ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        handler: Any = health_handlers(lambda: True, ending).service(_Details(f"/{HEALTH}/Watch"))
        told = handler.unary_stream(message("HealthCheckRequest", HEALTH)(service=""), None)
        assert (await anext(told)).status == 1
        ending.set_result(None)  # before the handler is asked for more
        assert [one.status async for one in told] == [2]

    asyncio.run(talk())
