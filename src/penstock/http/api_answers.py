"""Answers and errors of the control plane, in one shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from fastapi import Response

from penstock.errors import (
    AccessError,
    ConflictError,
    DeclarationError,
    GateError,
    InputError,
    NotFoundError,
    NotReadyError,
    NotSupportedError,
    PenstockError,
    RetryableError,
)
from penstock.records import to_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["answer", "failure", "refusal", "status_of"]

JSON = "application/json"
STATUS: tuple[tuple[type[PenstockError], int], ...] = (
    (NotFoundError, 404),
    (InputError, 422),
    (DeclarationError, 422),
    (ConflictError, 409),
    (NotReadyError, 409),
    (GateError, 409),
    (NotSupportedError, 501),
    (RetryableError, 503),
)
UNAUTHENTICATED, FORBIDDEN, BROKEN = 401, 403, 500
RETRY_AFTER = {"Retry-After": "1"}
CHALLENGE = {"WWW-Authenticate": "Bearer"}


def answer(value: object, status: int = 200) -> Response:
    """A JSON answer of records, frozen values or plain values, with every field."""
    return Response(msgspec.json.encode(to_plain(value)), status, media_type=JSON)


def status_of(error: PenstockError) -> int:
    """The HTTP status that an error becomes."""
    if isinstance(error, AccessError):
        return FORBIDDEN if "needed" in error.facts else UNAUTHENTICATED
    return next((status for cls, status in STATUS if isinstance(error, cls)), BROKEN)


def failure(error: PenstockError, status: int | None = None) -> Response:
    """The answer that an error becomes.

    Args:
        error: What was raised.
        status: The status, where the kind of error does not say it.
    """
    code = status or status_of(error)
    headers: Mapping[str, str] = {}
    if isinstance(error, RetryableError):
        headers = RETRY_AFTER
    elif code == UNAUTHENTICATED:
        headers = CHALLENGE
    return refusal(error.kind, error.message, code, headers)


def refusal(
    kind: str, message: str, status: int, headers: Mapping[str, str] | None = None
) -> Response:
    """An error in words: ``{"error": {"kind": ..., "message": ...}}``."""
    body = {"error": {"kind": kind, "message": message}}
    return Response(msgspec.json.encode(body), status, headers, JSON)
