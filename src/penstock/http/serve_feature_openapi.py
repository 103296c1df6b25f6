"""The part of the OpenAPI document that describes a feature service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.spec import DType

from .serve_feature_body import MOST_ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.spec import FeatureService

__all__ = ["feature_path"]

Json = dict[str, object]
ARROW = "application/vnd.apache.arrow.stream"
TIME: Json = {"type": "string", "format": "date-time"}
TYPES: Mapping[DType, Json] = {
    DType.STRING: {"type": "string"},
    DType.INT64: {"type": "integer"},
    DType.FLOAT64: {"type": "number"},
    DType.BOOLEAN: {"type": "boolean"},
}
ERRORS: Mapping[str, str] = {
    "400": "The body is no JSON.",
    "401": "No valid token.",
    "403": "A feature is protected from the caller; says by what, and how it is granted.",
    "404": "There is no such feature service; the nearest is named.",
    "413": "The body is too large.",
    "422": "The body does not fit; says where.",
    "503": "The features are not built yet, or the online store cannot be reached.",
}


def feature_path(service: FeatureService) -> Json:
    """What can be done with a service: look at it, and read its features."""
    told = {"200": {"description": "What it has, and how fresh it is."}}
    look = {"summary": f"About the feature service {service.name}.", "responses": told}
    return {"get": look, "post": _read(service)}


def _read(service: FeatureService) -> Json:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    failed = {code: {"description": text, "content": error} for code, text in ERRORS.items()}
    stream = {ARROW: {"schema": {"type": "string", "format": "binary"}}}
    return {
        "summary": f"Read the {len(service.names)} features of {service.name} by key.",
        "description": service.description,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"anyOf": _asked(service)}}, **stream},
        },
        "responses": {
            "200": {
                "description": "The features, in the order asked for.",
                "content": {"application/json": {"schema": {"anyOf": _told(service)}}, **stream},
            },
            **failed,
        },
    }


def _asked(service: FeatureService) -> list[Json]:
    keys: Json = {entity.name: TYPES[entity.dtype] for entity in service.entities}
    fields: Json = {
        name: {"type": [TYPES[dtype]["type"], "null"]}
        for name, dtype in service.request_fields.items()
    }
    request: Json = {"request": _object(fields)} if fields else {}
    requests: Json = {"request": _object(_lists(fields))} if fields else {}
    row = _object({"entity": _object(keys)} | request, at=TIME)
    times = {"anyOf": [TIME, _list(TIME)]}
    return [
        row,
        _object({"rows": _list(row)}),
        _object({"entities": _object(_lists(keys))} | requests, at=times),
    ]


def _told(service: FeatureService) -> list[Json]:
    values: Json = {
        name: {"type": ["integer" if dtype is DType.INT64 else "number", "null"]}
        for name, dtype in service.dtypes.items()
    }
    ends: Json = {
        "unknown": {"type": "integer", "description": "Rows of which nothing is known."},
        "service": {"type": "string"},
        "service_id": {"type": "string"},
    }
    row: Json = {"features": _object(values), "as_of": TIME}
    return [
        _object(row | ends),
        _object({"rows": _list(_object(row)), **ends}),
        _object({"features": _object(_lists(values)), "as_of": _list(TIME), **ends}),
    ]


def _object(needed: Json, **optional: object) -> Json:
    return {
        "type": "object",
        "properties": needed | optional,
        "required": list(needed),
        "additionalProperties": False,
    }


def _lists(kinds: Json) -> Json:
    return {name: _list(kind) for name, kind in kinds.items()}


def _list(items: object) -> Json:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": MOST_ROWS}
