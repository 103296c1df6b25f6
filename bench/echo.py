"""The floor of HTTP: decodes the same request, sums it, encodes as short an answer; nothing else.

Run as ``python bench/echo.py PORT [FILE]``: uvicorn with uvloop and httptools, raw ASGI, one
worker, as the serving process itself is run. With a file it answers every request with its bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

Message = MutableMapping[str, Any]


class Request(msgspec.Struct):
    """What a prediction by features sends."""

    features: dict[str, float | None] = {}


DECODE = msgspec.json.Decoder(Request).decode
ENCODE = msgspec.json.Encoder().encode
ANSWER = Path(sys.argv[2]).read_bytes() if len(sys.argv) > 2 else b""


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer the sum of the features, or the file."""
    if scope["type"] != "http":
        return
    body = (await receive()).get("body", b"")
    features = DECODE(body).features if body else {}
    total = sum(value or 0.0 for value in features.values())
    answer = ANSWER or ENCODE({"prediction_id": "x" * 26, "prediction": total})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="error",
        access_log=False,
    )
