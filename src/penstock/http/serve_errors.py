"""Errors of online scoring as answers, in the one shape every door of Penstock has."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from penstock.errors import (
    AccessError,
    ConflictError,
    GateError,
    InputError,
    NotFoundError,
    NotReadyError,
    NotSupportedError,
    PenstockError,
    RetryableError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Answer", "failure", "malformed", "refusal", "refuse"]

Header = tuple[bytes, bytes]
STATUS: tuple[tuple[type[PenstockError], int], ...] = (
    (NotFoundError, 404),
    (InputError, 422),
    (ConflictError, 409),
    (GateError, 409),
    (NotSupportedError, 501),
    (NotReadyError, 503),
    (RetryableError, 503),
)
UNAUTHENTICATED, FORBIDDEN, BROKEN, UNAVAILABLE = 401, 403, 500, 503
JSON: Header = (b"content-type", b"application/json")


class Refused(NamedTuple):
    """What an error of HTTP itself becomes: its status, kind and headers."""

    status: int
    kind: str
    headers: tuple[Header, ...]


class Answer(msgspec.Struct, frozen=True):
    """What is sent back.

    Attributes:
        status: The HTTP status.
        body: The body.
        headers: Headers beside the length.
    """

    status: int
    body: bytes
    headers: tuple[Header, ...] = (JSON,)


def refusal(message: str, *, status: int, kind: str, headers: Sequence[Header] = ()) -> InputError:
    """A request that is wrong as HTTP, not as data: the error carries its answer's status.

    Args:
        message: What is wrong and what to send.
        status: The HTTP status.
        kind: What clients see.
        headers: Headers of the answer.
    """
    return InputError(message, http=Refused(status, kind, tuple(headers)))


def malformed(message: str) -> InputError:
    """The body is no JSON."""
    return refusal(message, status=400, kind="malformed")


def failure(error: PenstockError) -> Answer:
    """The answer that an error becomes."""
    http = error.facts.get("http")
    if isinstance(http, Refused):
        return refuse(http.status, http.kind, error.message, http.headers)
    if isinstance(error, AccessError):
        if "needed" in error.facts:
            return refuse(FORBIDDEN, error.kind, error.message)
        challenge = (b"www-authenticate", b"Bearer")
        return refuse(UNAUTHENTICATED, error.kind, error.message, (challenge,))
    status = next((status for cls, status in STATUS if isinstance(error, cls)), BROKEN)
    again: tuple[Header, ...] = ((b"retry-after", b"1"),) if status == UNAVAILABLE else ()
    return refuse(status, error.kind, error.message, again)


def refuse(status: int, kind: str, message: str, headers: Sequence[Header] = ()) -> Answer:
    """An error in words: ``{"error": {"kind": ..., "message": ...}}``."""
    body = msgspec.json.encode({"error": {"kind": kind, "message": message}})
    return Answer(status, body, (JSON, *headers))
