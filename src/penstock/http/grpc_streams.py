"""Streams of requests over gRPC, which clients keep open for as long as they like."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from .grpc_messages import message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

__all__ = ["refused", "streamed", "until_told"]

Request = TypeVar("Request")
STREAMED = message("ModelStreamInferResponse")
# Triton tells it with every answer of a stream. Clients may ask for answers that say nothing else
# (triton_enable_empty_final_response), of which a model that answers once has none.
FINAL = "triton_final_response"


async def until_told(
    requests: AsyncIterator[Request], told: asyncio.Future[None]
) -> AsyncGenerator[Request]:
    """The requests of a stream as they come, until the client has no more or the server ends.

    Args:
        requests: The stream.
        told: Done when the server ends: a stream that rests then is over.
    """
    while not told.done():
        coming = asyncio.ensure_future(_next(requests))
        try:
            either: set[asyncio.Future[Any]] = {coming, told}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            found = coming.result() if coming.done() else []
        finally:
            coming.cancel()  # of no effect where it is done
        if not found:
            return
        yield found[0]


def streamed(answer: Any) -> Any:  # noqa: ANN401 - messages
    """A ``ModelInferResponse`` within a stream, which says that it is the last for its request."""
    answer.parameters[FINAL].bool_param = True
    return STREAMED(infer_response=answer)


def refused(request: Any, why: str) -> Any:  # noqa: ANN401 - messages
    """What a stream answers to a request that failed: why, and which one it was."""
    answer = message("ModelInferResponse")(
        id=request.id, model_name=request.model_name, model_version=request.model_version
    )
    told = streamed(answer)
    told.error_message = why
    return told


async def _next(requests: AsyncIterator[Request]) -> list[Request]:
    """The next request alone; none where there is none any more."""
    async for request in requests:
        return [request]
    return []
