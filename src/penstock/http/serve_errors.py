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
    OverloadedError,
    PenstockError,
    RetryableError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ELSEWHERE", "PLAIN", "Answer", "failure", "malformed", "refusal", "refuse"]

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
PLAIN: tuple[Header, ...] = (JSON,)
ELSEWHERE = (
    "This process answers predictions and features; all else is asked of 'penstock api', and "
    "'penstock status' says where that listens."
)


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
        overloaded: Whether there is too much to do to answer otherwise.
    """

    status: int
    body: bytes
    headers: tuple[Header, ...] = PLAIN
    overloaded: bool = False


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


def failure(error: PenstockError, *, plain: bool = False) -> Answer:
    """The answer that an error becomes.

    Args:
        error: The error.
        plain: In the shape of the inference protocol, as ``refuse`` has it.
    """
    status, kind, headers = _status_of(error)
    answer = refuse(status, kind, error.message, headers, plain=plain)
    if isinstance(error, OverloadedError):
        return msgspec.structs.replace(answer, overloaded=True)
    return answer


def _status_of(error: PenstockError) -> tuple[int, str, tuple[Header, ...]]:
    """Status, kind and headers of an error's answer."""
    http = error.facts.get("http")
    if isinstance(http, Refused):
        return http
    if isinstance(error, AccessError):
        if "needed" in error.facts:
            return FORBIDDEN, error.kind, ()
        return UNAUTHENTICATED, error.kind, ((b"www-authenticate", b"Bearer"),)
    status = next((status for cls, status in STATUS if isinstance(error, cls)), BROKEN)
    again: tuple[Header, ...] = ((b"retry-after", b"1"),) if status == UNAVAILABLE else ()
    return status, error.kind, again


def refuse(
    status: int, kind: str, message: str, headers: Sequence[Header] = (), *, plain: bool = False
) -> Answer:
    """An error in words: ``{"error": {"kind": ..., "message": ...}}``.

    Args:
        status: The HTTP status.
        kind: What clients tell errors apart by.
        message: What is wrong and what to do.
        headers: Headers beside the type.
        plain: ``{"error": message, "kind": kind}``, since clients of the Open Inference Protocol
            take the error for a text.
    """
    said: object = {"kind": kind, "message": message}
    told = {"error": message, "kind": kind} if plain else {"error": said}
    return Answer(status, msgspec.json.encode(told), (JSON, *headers))
