"""The part of the OpenAPI document that describes explanations of a deployment's predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .openapi_parts import closed, content, listed, operation, slug

if TYPE_CHECKING:
    from penstock.records import Manifest

    from .openapi_parts import Json

__all__ = ["explain_path"]

NUMBER: Json = {"type": "number"}


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


def _told(manifest: Manifest) -> Json:
    part: Json = {
        "feature": {"type": "string", "enum": list(manifest.features)},
        "value": {"type": ["number", "null"]},
        "contribution": NUMBER,
        "error": NUMBER | {"description": "Standard error; 0 where it is exact."},
    }
    spaces = ["probability", "log_odds"] if manifest.task == "classification" else ["value", "log"]
    return closed(
        {
            "model": {"type": "string"},
            "version": {"type": "integer"},
            "as_of": {"type": "string", "format": "date-time"},
            "method": {"type": "string", "enum": ["linear", "trees", "sampled"]},
            "space": {"type": "string", "enum": spaces, "description": "What adds up."},
            "base": NUMBER | {"description": "Mean of test rows of the version."},
            "output": NUMBER | {"description": "The base and all contributions."},
            "prediction": NUMBER,
            "background_rows": {"type": "integer"},
            "contributions": listed(closed(part)),
        }
    )
