"""Features over a socket: the short way through HTTP and the long one tell the same."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING

import msgspec
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Wire

SHORT, LONG = "/v1/features/scoring", "/v1/features/sc%6fring"
AT = "2026-01-20T00:00:00Z"
ONE = b'{"entity":{"symbol":"BTC"},"at":"%b"}' % AT.encode()
ARROW = b"application/vnd.apache.arrow.stream"


def _stream(symbols: list[str]) -> bytes:
    target = io.BytesIO()
    pl.DataFrame({"symbol": symbols}).write_ipc_stream(target)
    return target.getvalue()


def test_both_ways_tell_the_same_features(wire: Callable[..., None], ways: list[str]) -> None:
    columns = msgspec.json.encode({"entities": {"symbol": ["BTC", "nobody"] * 500}, "at": AT})
    asked: list[tuple[bytes, tuple[bytes, ...], int]] = [
        (ONE, (), 200),
        (ONE, (), 200),  # its head is known by now
        (b'{"rows":[%b,%b]}' % (ONE, ONE), (), 200),
        (gzip.compress(columns), (b"Content-Encoding: gzip",), 200),
        (columns, (b"Accept-Encoding: gzip",), 200),
        (ONE, (b"Accept: %b" % ARROW,), 200),
        (b"{", (), 400),
        (b'{"entity":{"symbol":1}}', (), 422),
        (ONE, (b"Content-Encoding: zstd",), 415),
    ]

    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            for body, headers, status in asked:
                told = []
                ways.clear()
                for path in (SHORT, LONG):
                    await raw.send(wire.request(path, body, *headers))
                    told.append(await raw.reply())
                assert [one.status for one in told] == [status] * 2, body
                assert told[0].body == told[1].body
                assert told[0].headers == told[1].headers
                assert ways == ["direct", "asgi"]

    wire(conversation)


def test_what_is_no_short_read_goes_the_long_way(
    wire: Callable[..., None], ways: list[str]
) -> None:
    arrow = _stream(["BTC", "nobody" * 40] * 400)
    assert len(arrow) > 1 << 16

    async def conversation(wire: Wire) -> None:
        async with wire.connection() as raw:
            for request, status, way in (
                (wire.request(SHORT, method="GET"), 200, "asgi"),
                (wire.request("/v1/features", method="GET"), 200, "asgi"),
                (wire.request(SHORT, arrow, b"Content-Type: %b" % ARROW), 200, "asgi"),
                (wire.request(SHORT, ONE, bearer="wrong"), 401, "direct"),
                (wire.request("/v1/features/nothing", ONE), 404, "direct"),
                (wire.request("/v1/features/nothing/at/all", ONE), 404, "direct"),
            ):
                ways.clear()
                await raw.send(request)
                assert (await raw.reply()).status == status
                assert ways == [way]

    wire(conversation)
