"""Calls that are taken beside the loop of grpcio's server, of a server without anything of ours."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from penstock.http.grpc_hands import HANDS, Private, private_of, take_calls

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    Handler = Callable[[bytes, Any], Awaitable[bytes]]

SERVICE, METHOD = "tests.Service", "/tests.Service/Call"
FIRST = (1, 84)
"""The version of grpcio whose loop takes calls as it does since; those before it are not known."""
CALLS = 20 * HANDS


class Told:
    """What the hands of a server have done."""

    def __init__(self) -> None:
        self.asked = self.taken = 0


async def _until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - several places make it so
            await asyncio.sleep(0.01)


@asynccontextmanager
async def _serving(answer: Handler) -> AsyncGenerator[tuple[grpc.aio.Server, Any, Told]]:
    """A server, a call to it, and what its hands do."""
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    server.add_registered_method_handlers(SERVICE, {"Call": handler})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    told = Told()
    try:
        private = private_of(server)
        if private is None:
            pytest.skip("this version of grpcio takes calls as they come")
        take_calls(_counted(private, told), METHOD, handler)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield server, channel.unary_unary(METHOD), told
    finally:
        await server.stop(None)


def _counted(private: Private, told: Told) -> Private:
    def ask(name: bytes) -> Any:  # noqa: ANN401 - a coroutine of grpcio's
        told.asked += 1
        return private.ask(name)

    def handle(*of: Any) -> Any:  # noqa: ANN401 - as above
        told.taken += 1
        return private.handle(*of)

    return private._replace(ask=ask, handle=handle)


def test_what_is_private_to_grpcio_is_what_is_known_here() -> None:
    async def look() -> Private | None:
        server = grpc.aio.server()
        await server.start()
        try:
            return private_of(server)
        finally:
            await server.stop(None)

    version = tuple(map(int, grpc.__version__.split(".")[:2]))
    assert (asyncio.run(look()) is not None) == (version >= FIRST)


def test_calls_at_once_are_taken_by_hands_and_each_has_its_own_answer() -> None:
    async def reversed_later(request: bytes, context: Any) -> bytes:  # noqa: ANN401 - grpcio's
        await asyncio.sleep(0)
        if request.endswith(b"7"):
            await context.abort(grpc.StatusCode.NOT_FOUND, request.decode())
        assert dict(context.invocation_metadata())["who"] == request.decode()
        return request[::-1]

    async def talk() -> Told:
        async with _serving(reversed_later) as (_, call, told):
            asked = [b"%d" % number for number in range(CALLS)]
            calls = [call(one, metadata=(("who", one.decode()),)) for one in asked]
            found = await asyncio.gather(*calls, return_exceptions=True)
            for one, answer in zip(asked, found, strict=True):
                if one.endswith(b"7"):
                    assert isinstance(answer, grpc.aio.AioRpcError)
                    assert answer.code() is grpc.StatusCode.NOT_FOUND
                    assert answer.details() == one.decode()
                else:
                    assert answer == one[::-1]
            return told

    assert asyncio.run(talk()).taken > CALLS * 0.8


def test_a_call_that_its_client_gives_up_or_whose_time_is_up_is_cancelled() -> None:
    began, cancelled = [], []

    async def never(request: bytes, _: object) -> bytes:
        began.append(request)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(request)
            raise
        return request

    async def talk() -> Told:
        async with _serving(never) as (_, call, told):
            late = [call(b"late", timeout=0.5) for _ in range(HANDS)]
            given_up = [call(b"given up") for _ in range(HANDS)]
            await _until(lambda: len(began) == 2 * HANDS)
            for one in given_up:
                one.cancel()
            ended = await asyncio.gather(*late, *given_up, return_exceptions=True)
            await _until(lambda: len(cancelled) == 2 * HANDS)
            kinds = {type(one) for one in ended}
            assert kinds == {grpc.aio.AioRpcError, asyncio.CancelledError}
            return told

    assert asyncio.run(talk()).taken > HANDS
    assert sorted(cancelled) == sorted(began)


def test_what_is_under_way_is_answered_when_the_server_ends_and_no_hand_asks_again() -> None:
    began, answered = [], []

    async def talk() -> None:
        going = asyncio.Event()

        async def later(request: bytes, _: object) -> bytes:
            began.append(request)
            await going.wait()
            answered.append(request)
            return request

        async with _serving(later) as (server, call, told):
            calls = [call(b"%d" % number) for number in range(2 * HANDS)]
            await _until(lambda: len(began) == 2 * HANDS)
            ending = asyncio.create_task(server.stop(20))
            await asyncio.sleep(0.1)
            assert not ending.done()
            going.set()
            # Of an answer in the last moment a client may see that the connection has gone.
            await asyncio.gather(*calls, return_exceptions=True)
            await ending
            asked = told.asked
            await asyncio.sleep(0.1)
            assert told.asked == asked == told.taken + HANDS

    asyncio.run(talk())
    assert sorted(answered) == sorted(began)
