"""The part of the OpenAPI document that describes a deployment's own, typed path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.registry import explainers_in

from .openapi_parts import STREAM, closed, content, listed, opened, operation, slug
from .serve_openapi_explain import BESIDE, beside_schema
from .serve_schema import MOST_ROWS

if TYPE_CHECKING:
    from penstock.records import Manifest

    from .openapi_parts import Json
    from .serve_fields import Fields

__all__ = ["predict_path", "predict_schemas"]

TIME: Json = {"type": "string", "format": "date-time"}
SHARE: Json = {"type": "number", "minimum": 0, "maximum": 1}
PARTS: Json = {
    kind: {"schema": {"type": "string"}} for kind in ("text/event-stream", "application/x-ndjson")
}
ECHO: Json = {
    "name": "features",
    "in": "query",
    "schema": {"type": "boolean", "default": False},
    "description": "Whether to tell the values the model saw.",
}


def predict_schemas(name: str, manifest: Manifest, fields: Fields) -> Json:
    """The types of a deployment's requests and answers.

    Args:
        name: The deployment.
        manifest: Of the version that answers.
        fields: What there is to know of its fields.
    """
    features = closed({feature: fields.feature(feature) for feature in manifest.features})
    return {
        f"{name}.features": features,
        f"{name}.row": _row(name, manifest, fields),
        f"{name}.rows": closed({"rows": listed(_ref(name, "row"), MOST_ROWS)}),
        f"{name}.answer": _answer(manifest),
        f"{name}.answers": closed({"predictions": listed(_ref(name, "answer"))}),
    }


def predict_path(name: str, manifest: Manifest, fields: Fields) -> Json:
    """What can be asked of a deployment, with examples; see ``predict_schemas``."""
    row = fields.row()
    examples: Json = {"entity": row, "features": fields.handed(), "rows": {"rows": [row]}}
    asked: Json = {"anyOf": [_ref(name, "row"), _ref(name, "rows")]}
    told: Json = {"anyOf": [_ref(name, "answer"), _ref(name, "answers")]}
    answering = operation(
        f"predict_{slug(name)}",
        f"Predict {manifest.label} with {manifest.model}@{manifest.version}.",
        content(told) | STREAM | PARTS,
        tag=name,
        body=content(asked, **examples) | STREAM,
        description=(
            "One row, or several at once. The features are looked up by the keys of the entity, "
            "or handed in. An Arrow stream has the same names as columns. As text/event-stream or "
            "application/x-ndjson the scores come batch by batch."
        ),
        parameters=[ECHO, *([BESIDE] if explainers_in(manifest) else [])],
    )
    return {"post": answering}


def _row(name: str, manifest: Manifest, fields: Fields) -> Json:
    at: Json = {
        "type": ["string", "null"],
        "format": "date-time",
        "description": "The time the features are wanted at, with its zone, not before the newest "
        "record of the entity; now by default.",
    }
    request = {field: fields.field(field) for field in manifest.request}
    parts: Json = {
        "entity": closed({key: fields.key(key) for key in manifest.keys}),
        **({"request": closed(request)} if request else {}),
        "at": at,
        "features": _ref(name, "features"),
    }
    asked = ["entity", *(["request"] if request else [])]
    chosen = [{"required": asked}, {"required": ["features"]}]
    return closed({}, **parts) | {"anyOf": chosen, "examples": [fields.row()]}


def _answer(manifest: Manifest) -> Json:
    classifies = manifest.task == "classification"
    about = f"The value of {manifest.label}."
    if classifies:
        about = f"Whether {manifest.label} is more likely than not."
    told: Json = {
        "prediction_id": {
            "type": "string",
            "description": "By which the score is found, explained and joined to what came true.",
        },
        "prediction": {"type": "boolean" if classifies else "number", "description": about},
        **({"probability": closed({"false": SHARE, "true": SHARE})} if classifies else {}),
        "model": {"type": "string"},
        "version": {
            "type": "integer",
            "minimum": 0,
            "description": "The version that answered; 0 for a constant.",
        },
        "route": {
            "type": "string",
            "description": "The role that answered.",
            "examples": ["champion", "challenger", "fallback"],
        },
        "as_of": TIME | {"description": "The time the features are of."},
    }
    parts: Json = {
        "type": "object",
        "description": "What each step of the graph gave, where features are asked for.",
        "additionalProperties": {"type": ["number", "null"]},
    }
    return opened(
        told,
        **({"parts": parts} if manifest.native == "graph" else {}),
        **({"explanations": beside_schema(manifest)} if explainers_in(manifest) else {}),
        reason={"type": "string", "description": "Why a fallback answered."},
        features={
            "type": "object",
            "description": "What the model saw, where it is asked for; empty for a constant.",
            "properties": {
                feature: {"type": [_number(manifest, feature), "null"]}
                for feature in manifest.features
            },
            "additionalProperties": False,
        },
    )


def _number(manifest: Manifest, feature: str) -> str:
    return "integer" if manifest.dtypes.get(feature) == "int64" else "number"


def _ref(name: str, part: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}.{part}"}
