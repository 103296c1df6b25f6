"""Pieces that OpenAPI documents are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ERROR",
    "PLAIN_ERROR",
    "STREAM",
    "Json",
    "closed",
    "content",
    "listed",
    "looked_at",
    "opened",
    "operation",
    "slug",
]  # fmt: skip

Json = dict[str, object]
TEXT: Json = {"type": "string"}
STREAM: Json = {
    "application/vnd.apache.arrow.stream": {"schema": {"type": "string", "format": "binary"}}
}
ERROR: Json = {
    "type": "object",
    "description": "What was wrong, what was expected and what to do.",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "kind": TEXT | {"description": "What errors are told apart by."},
                "message": TEXT,
            },
            "required": ["kind", "message"],
        }
    },
    "required": ["error"],
    "examples": [{"error": {"kind": "input", "message": "The body names nothing to score."}}],
}
PLAIN_ERROR: Json = {
    "type": "object",
    "description": "What was wrong, as clients of other servers read it: the error is a text.",
    "properties": {"error": TEXT, "kind": TEXT},
    "required": ["error", "kind"],
}
WHY: Mapping[str, str] = {
    "400": "The body is malformed: it is not what its content type says.",
    "401": "No valid token.",
    "403": "The token's role does not reach, or a feature is protected from its user.",
    "404": "There is no such thing; the nearest is named.",
    "405": "Another method is for this path; the header Allow names it.",
    "413": "The body is too large.",
    "415": "The body is packed in a way that is not known.",
    "422": "The body does not fit; says where.",
    "500": "A model or the server failed; its log says why.",
    "501": "It is not supported.",
    "503": "It is not ready, or too busy; the header Retry-After says when to try again.",
}
LOOKED = ("401", "403", "404", "405")
CHALLENGE: Json = {"WWW-Authenticate": {"schema": TEXT}}
AGAIN: Json = {
    "Retry-After": {
        "description": "Seconds to wait.",
        "schema": {"type": "integer", "minimum": 0},
    }
}
HEADERS: Mapping[str, Json] = {
    "401": CHALLENGE,
    "405": {"Allow": {"schema": TEXT}},
    "503": AGAIN,
}

ERROR_ANSWERS: Mapping[int | str, Json] = {
    int(status): {"description": why, "content": {"application/json": {"schema": ERROR}}}
    for status, why in (
        {**WHY, "409": "It has been changed, or an earlier step is missing."}
    ).items()
}


def content(schema: Json, **examples: object) -> Json:
    """A body in JSON."""
    named = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": {"schema": schema} | ({"examples": named} if named else {})}


def operation(  # noqa: PLR0913 - what an operation has
    name: str,
    summary: str,
    answer: Json,
    *,
    tag: str,
    body: Json | None = None,
    plain: bool = False,
    **more: object,
) -> Json:
    """One method of a path.

    Args:
        name: Its id, which no other has.
        summary: What it does.
        answer: The contents of its answer, by their types.
        tag: What it belongs to.
        body: The contents of the request's body, by their types; none where it has no body.
        plain: Whether clients there take an error for a text.
        more: Other fields.
    """
    asked: Json = {} if body is None else {"requestBody": {"required": True, "content": body}}
    refused = _refusals(plain=plain) if body is not None else _refusals(plain=plain, only=LOOKED)
    told: Json = {"200": {"description": "It is answered.", "content": answer}, **refused}
    about: Json = {"operationId": name, "summary": summary, "tags": [tag]}
    return about | asked | {"responses": told} | more


def looked_at(name: str, summary: str, schema: Json, *, tag: str, plain: bool = False) -> Json:
    """A path that is only looked at, and answers in JSON."""
    return {"get": operation(name, summary, content(schema), tag=tag, plain=plain)}


def closed(needed: Mapping[str, object], **optional: object) -> Json:
    """An object of these fields and no others."""
    return opened(needed, **optional) | {"additionalProperties": False}


def opened(needed: Mapping[str, object], **optional: object) -> Json:
    """An object of these fields, to which others may come."""
    found: Json = {"type": "object", "properties": {**needed, **optional}}
    return found | ({"required": list(needed)} if needed else {})


def listed(items: object, most: int = 0) -> Json:
    """A list; of one or more, where it is said how many at most."""
    bounds: Json = {"minItems": 1, "maxItems": most} if most else {}
    return {"type": "array", "items": items, **bounds}


def slug(name: str) -> str:
    """A name as it stands within the id of an operation."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _refusals(*, plain: bool = False, only: tuple[str, ...] = tuple(WHY)) -> Json:
    """The answers of a request that is refused.

    Args:
        plain: Whether clients there take an error for a text.
        only: The statuses there are.
    """
    ref: Json = {"$ref": f"#/components/schemas/{'PlainError' if plain else 'Error'}"}
    return {
        status: {"description": WHY[status], "content": content(ref)}
        | ({"headers": HEADERS[status]} if status in HEADERS else {})
        for status in only
    }
