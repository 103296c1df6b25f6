"""Streams of requests over gRPC, which clients keep open for as long as they like."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

__all__ = ["until_told"]

Request = TypeVar("Request")


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


async def _next(requests: AsyncIterator[Request]) -> list[Request]:
    """The next request alone; none where there is none any more."""
    async for request in requests:
        return [request]
    return []
