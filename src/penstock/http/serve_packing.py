"""Bodies packed with gzip or deflate, on their way in and out."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

from .serve_errors import Answer, malformed, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WORTH_PACKING_BYTES", "packed", "unpacked"]

WORTH_PACKING_BYTES = 4_096
"""Shorter answers are sent as they are: packing would take longer than sending."""

FORMATS: Mapping[bytes, int] = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
QUICKEST = 1


def unpacked(body: bytes, encoding: bytes, *, limit_bytes: int) -> bytes:
    """A request's body as it was before it was packed.

    Args:
        body: What was sent.
        encoding: The header ``Content-Encoding``.
        limit_bytes: What it may come to.

    Raises:
        InputError: It is packed otherwise, damaged, or comes to more than the limit.
    """
    name = encoding.strip().lower()
    if name == b"identity":
        return body
    bits = FORMATS.get(name)
    if bits is None:
        raise refusal(
            f"The body is packed with {encoding.decode('latin-1')!r}. Send it as it is, or with "
            "gzip or deflate.",
            status=415,
            kind="encoding",
        )
    unpacker = zlib.decompressobj(bits)
    try:
        whole = unpacker.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise refusal(
            f"The body is no {name.decode()}: {error}.", status=400, kind="malformed"
        ) from None
    if len(whole) > limit_bytes:
        raise refusal(
            f"Unpacked, the body is longer than {limit_bytes:,} bytes. Send fewer rows at once.",
            status=413,
            kind="too_large",
        )
    if not unpacker.eof or unpacker.unused_data:
        raise malformed(f"The body does not end as {name.decode()} does.")
    return whole


def packed(answer: Answer, accepted: bytes) -> Answer:
    """The answer as the client takes it: packed where it says so, else as it is.

    Args:
        answer: The answer.
        accepted: The request's ``Accept-Encoding``.
    """
    taken = [part.strip().lower() for part in accepted.split(b",")]
    if b"gzip" in taken:
        name, body = b"gzip", gzip.compress(answer.body, QUICKEST, mtime=0)
    elif b"deflate" in taken:
        name, body = b"deflate", zlib.compress(answer.body, QUICKEST)
    else:
        return answer
    return Answer(answer.status, body, (*answer.headers, (b"content-encoding", name)))
