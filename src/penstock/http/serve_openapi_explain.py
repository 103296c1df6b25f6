"""The part of the OpenAPI document that describes explanations of a deployment's predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.registry import explainers_in

from .openapi_parts import closed, content, listed, operation, slug

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.records import Manifest

    from .openapi_parts import Json

__all__ = ["BESIDE", "beside_schema", "explain_path"]

NUMBER: Json = {"type": "number"}
TEXT: Json = {"type": "string"}
SPACES = ("probability", "log_odds", "value", "log")
BESIDE: Json = {
    "name": "explain",
    "in": "query",
    "schema": {"type": "boolean", "default": False},
    "description": "Whether to tell what the graph explains, for up to 16 rows in JSON.",
}


def explain_path(name: str, manifest: Manifest) -> Json:
    """What each feature adds to a prediction.

    Args:
        name: The deployment.
        manifest: Of the version that answers.
    """
    told = _told(manifest)
    rows = {"$ref": f"#/components/schemas/{name}.rows"}
    row = {"$ref": f"#/components/schemas/{name}.row"}
    explaining = operation(
        f"explain_{slug(name)}",
        f"What each feature adds to a prediction of {manifest.label}; no score.",
        content({"anyOf": [told, closed({"explanations": listed(told)})]}),
        tag=name,
        body=content({"anyOf": [row, rows]}),
    )
    return {"post": explaining}


def beside_schema(manifest: Manifest) -> Json:
    """What is told beside an answer where explanations are asked for, by step.

    Args:
        manifest: Of the version that answers.
    """
    failed = closed({"error": closed({"kind": TEXT, "message": TEXT})})
    explained = closed(
        {"of": TEXT | {"description": "The step."}, **_found({"type": "string"}, SPACES)},
        others=NUMBER | {"description": "The sum of contributions that are not told."},
    )
    said = {"anyOf": [explained, failed, {"type": "null"}]}
    return closed({}, **dict.fromkeys(explainers_in(manifest), said)) | {
        "description": "What the graph explains, where it is asked for; null for a step that was "
        "not computed for the row, empty where another version answered."
    }


def _told(manifest: Manifest) -> Json:
    spaces = SPACES[:2] if manifest.task == "classification" else SPACES[2:]
    about: Json = {
        "model": TEXT,
        "version": {"type": "integer"},
        "as_of": {"type": "string", "format": "date-time"},
    }
    return closed(about | _found({"type": "string", "enum": list(manifest.features)}, spaces))


def _found(feature: Json, spaces: Sequence[str]) -> Json:
    part: Json = {
        "feature": feature,
        "value": {"type": ["number", "null"]},
        "contribution": NUMBER,
        "error": NUMBER | {"description": "Standard error; 0 where it is exact."},
    }
    return {
        "method": {"type": "string", "enum": ["linear", "trees", "sampled"]},
        "space": {"type": "string", "enum": list(spaces), "description": "What adds up."},
        "base": NUMBER | {"description": "Mean of test rows of the version."},
        "output": NUMBER | {"description": "The base and all contributions."},
        "prediction": NUMBER,
        "background_rows": {"type": "integer"},
        "contributions": listed(closed(part)),
    }
