"""Records that arrive over HTTP: onto the event log, acknowledged when they are durable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.errors import InputError

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.spec import Source

__all__ = ["JSON_TYPES", "LINES_TYPES", "Accepted", "accept_events"]

JSON_TYPES = frozenset({"application/json"})
LINES_TYPES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines"}
)


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """Records that are on the log.

    Attributes:
        count: How many.
        last_offset: Offset of the last one on the source's topic.
    """

    count: int
    last_offset: int


def accept_events(services: Services, source: Source, body: bytes, content_type: str) -> Accepted:
    """Put the records of a request's body on the source's topic.

    Whether they keep the source's contract is not looked at here: those that do not end in its
    quarantine table, with the reason, like those of a file.

    Args:
        services: The ports; whoever acts through them is kept as the sender.
        source: The source, as applied.
        body: A JSON object, a JSON array of objects, or one object per line.
        content_type: The request's content type: JSON or NDJSON; its parameters are ignored.

    Returns:
        How many were accepted: all of them are durable, in their order.

    Raises:
        InputError: The body is not what it says it is; nothing was put on the log.
        UnavailableError: The log cannot be reached.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in JSON_TYPES | LINES_TYPES:
        raise InputError(
            f"Content type {content_type!r} is not taken here. Send application/json (an object or "
            "an array of objects) or application/x-ndjson (one object per line).",
            content_type=content_type,
        )
    _check_text(body)
    payloads = _lines(body) if kind in LINES_TYPES else _values(body)
    if not payloads:
        raise InputError("The body has no records. Send at least one JSON object.")
    last = services.log.publish(source.topic, payloads, sender=services.actor)
    return Accepted(count=len(payloads), last_offset=last)


def _check_text(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"The body is not UTF-8: byte {error.start} cannot be read. Encode it as UTF-8.",
            byte=error.start,
        ) from None


def _values(body: bytes) -> list[bytes]:
    """The elements of an array, or the one value."""
    try:
        if body.lstrip().startswith(b"["):
            return [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(
            f"The body is not JSON: {error}. Nothing was taken in.", reason=str(error)
        ) from None
    return [body.strip()]


def _lines(body: bytes) -> list[bytes]:
    lines = [(n, line.strip()) for n, line in enumerate(body.split(b"\n"), 1) if line.strip()]
    for number, line in lines:
        try:
            msgspec.json.decode(line, type=msgspec.Raw)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(
                f"Line {number} of the body is not JSON: {error}. Nothing was taken in.",
                line=number,
                reason=str(error),
            ) from None
    return [line for _, line in lines]
