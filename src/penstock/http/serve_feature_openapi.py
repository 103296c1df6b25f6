"""The part of the OpenAPI document that describes a feature service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.spec import DType

from .openapi_parts import STREAM, closed, content, listed, looked_at, opened, operation
from .serve_feature_body import MOST_ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.spec import FeatureService

    from .openapi_parts import Json

__all__ = ["feature_path"]

TAG = "Features"
TIME: Json = {"type": "string", "format": "date-time"}
AT: Json = TIME | {
    "type": ["string", "null"],
    "description": "Not before the newest record of the entity; now by default.",
}
TYPES: Mapping[DType, Json] = {
    DType.STRING: {"type": "string"},
    DType.INT64: {"type": "integer", "minimum": -(1 << 63), "maximum": (1 << 63) - 1},
    DType.FLOAT64: {"type": "number"},
    DType.BOOLEAN: {"type": "boolean"},
}


def feature_path(service: FeatureService, slug: str) -> Json:
    """What can be done with a service: look at it, and read its features.

    Args:
        service: The service.
        slug: Its name within ids.
    """
    about = opened({"name": {"type": "string"}, "service_id": {"type": "string"}})
    look = looked_at(f"about_{slug}", f"About the feature service {service.name}.", about, tag=TAG)
    return look | {"post": _read(service, slug)}


def _read(service: FeatureService, slug: str) -> Json:
    return operation(
        f"read_{slug}",
        f"Read the {len(service.names)} features of {service.name} by key.",
        content({"anyOf": _told(service)}) | STREAM,
        tag=TAG,
        body=content({"anyOf": _asked(service)}) | STREAM,
        description=service.description,
    )


def _asked(service: FeatureService) -> list[Json]:
    keys: Json = {entity.name: TYPES[entity.dtype] for entity in service.entities}
    fields: Json = {
        name: TYPES[dtype] | {"type": [TYPES[dtype]["type"], "null"]}
        for name, dtype in service.request_fields.items()
    }
    request: Json = {"request": closed(fields)} if fields else {}
    requests: Json = {"request": closed(_lists(fields))} if fields else {}
    entity: Json = {"entity": closed(keys)}
    # A service of nothing but the request has rows without keys.
    row = closed(entity | request, at=AT) if keys else closed(request, at=AT, **entity)
    times = {"anyOf": [AT, listed(TIME, MOST_ROWS)]}
    return [
        row,
        closed({"rows": listed(row, MOST_ROWS)}),
        closed({"entities": closed(_lists(keys))} | requests, at=times),
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
    stale: Json = {
        "type": "object",
        "additionalProperties": TIME,
        "description": "Views that are stale, and until when each was fresh; left out for none.",
    }
    row: Json = {"features": closed(values), "as_of": TIME}
    return [
        closed(row | ends, stale=stale),
        closed({"rows": listed(closed(row), MOST_ROWS), **ends}, stale=stale),
        closed(
            {"features": closed(_lists(values)), "as_of": listed(TIME, MOST_ROWS), **ends},
            stale=stale,
        ),
    ]


def _lists(kinds: Json) -> Json:
    return {name: listed(kind, MOST_ROWS) for name, kind in kinds.items()}
