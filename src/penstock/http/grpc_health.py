"""``grpc.health.v1.Health``: what the probes of Kubernetes, Envoy and load balancers ask.

As health over HTTP it needs no token and names nothing of the project: the process as a whole, and
the services that it speaks. Whether a deployment answers says ``ModelReady``, to who may read it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from .grpc_messages import HEALTH, SERVICE, message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Context = grpc.aio.ServicerContext[Any, Any]

__all__ = ["health_handlers"]

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
KNOWN = frozenset({"", SERVICE, HEALTH})
LOOK_S = 0.2


def health_handlers(
    is_ready: Callable[[], bool], ending: asyncio.Future[None]
) -> grpc.GenericRpcHandler:
    """What answers such probes.

    Args:
        is_ready: Whether this process serves.
        ending: Done when it is about to end.
    """

    def status(service: str) -> int:
        if service not in KNOWN:
            return SERVICE_UNKNOWN
        return SERVING if is_ready() and not ending.done() else NOT_SERVING

    async def check(request: Any, context: Context) -> Any:  # noqa: ANN401 - messages
        found = status(request.service)
        if found == SERVICE_UNKNOWN:
            said = f"There is no service {request.service!r}. Ask for {SERVICE!r}, or for ''."
            await context.abort(grpc.StatusCode.NOT_FOUND, said)
        return message("HealthCheckResponse", HEALTH)(status=found)

    async def watch(request: Any, _: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - messages
        told = 0
        while True:
            is_last = ending.done()  # not asked again: it may end while an answer is on its way
            found = status(request.service)
            if found != told:
                yield message("HealthCheckResponse", HEALTH)(status=found)
                told = found
            if is_last:
                return
            await asyncio.wait([ending], timeout=LOOK_S)

    asked = message("HealthCheckRequest", HEALTH).FromString
    checking: Callable[[Any, Context], Awaitable[Any]] = check
    return grpc.method_handlers_generic_handler(
        HEALTH,
        {
            "Check": grpc.unary_unary_rpc_method_handler(
                checking, request_deserializer=asked, response_serializer=_serialized
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                watch, request_deserializer=asked, response_serializer=_serialized
            ),
        },
    )


def _serialized(answer: Any) -> bytes:  # noqa: ANN401 - a message
    found: bytes = answer.SerializeToString()
    return found
