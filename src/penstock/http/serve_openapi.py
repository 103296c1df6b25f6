"""The OpenAPI document of online scoring, with types from the version that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .serve_feature_openapi import feature_path
from .serve_features import FEATURES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.records import Manifest
    from penstock.spec import FeatureService

__all__ = ["openapi_document"]

Json = dict[str, object]
TYPES: Mapping[str, str] = {
    "string": "string",
    "int64": "integer",
    "float64": "number",
    "boolean": "boolean",
}
ERRORS: Mapping[str, str] = {
    "400": "The body is no JSON.",
    "401": "No valid token.",
    "403": "The token's role does not reach.",
    "404": "There is no such deployment; the nearest is named.",
    "413": "The body is too large.",
    "422": "The body does not fit; says where.",
    "503": "Nothing is deployed, or no answer came in time.",
}

TENSOR: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "datatype": {"type": "string"},
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    },
    "required": ["name", "shape", "datatype"],
}
INFER_REQUEST: Json = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "items": TENSOR, "minItems": 1},
        "outputs": {"type": "array", "items": {"type": "object"}},
        "parameters": {"type": "object"},
    },
    "required": ["inputs"],
}
PLAIN: Json = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "kind": {"type": "string"}},
    "required": ["error", "kind"],
}


def openapi_document(
    version: str,
    manifests: Mapping[str, Manifest | None],
    services: Mapping[str, FeatureService],
) -> Json:
    """The document.

    Args:
        version: Penstock's.
        manifests: Of the version that answers, by name of the deployment; none before the first.
        services: The feature services by name.
    """
    paths: Json = {
        "/v1/deployments": {"get": _get("List the deployments.")},
        "/metrics": {"get": _get("Prometheus metrics.")},
        "/v2": {"get": _get("About this server.")},
        "/v2/models/stats": {"get": _get("What every model has done, by version.")},
        "/v2/repository/index": {"post": _get("List models, versions and their states.")},
        "/v2/health/live": {"get": _get("Whether the process runs.") | {"security": []}},
        "/v2/health/ready": {"get": _get("Whether it answers.") | {"security": []}},
    }
    schemas: Json = {"Error": _error()}
    for name, manifest in sorted(manifests.items()):
        if manifest is None:
            continue
        schemas |= _schemas(name, manifest)
        paths[f"/v1/deployments/{name}/predict"] = {"post": _predict(name, manifest)}
        paths[f"/v1/deployments/{name}/explain"] = {"post": _explain(name, manifest)}
        paths |= _inference_paths(name)
    if services:
        paths[FEATURES] = {"get": _get("List the feature services.")}
    for service in services.values():
        paths[f"{FEATURES}/{service.name}"] = feature_path(service)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Penstock online scoring", "version": version},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _schemas(name: str, manifest: Manifest) -> Json:
    features = {
        feature: {
            "type": [
                "integer" if manifest.dtypes.get(feature) == "int64" else "number",
                "null",
            ]
        }
        for feature in manifest.features
    }
    row: Json = {
        "entity": _closed({name: {"type": TYPES[kind]} for name, kind in manifest.keys.items()}),
        **_request(manifest),
        "at": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "The time the features are wanted at, with its zone; now by default.",
        },
        "features": _closed(features),
    }
    one = {"type": "object", "properties": row, "additionalProperties": False}
    asked = ["entity", *(["request"] if manifest.request else [])]
    chosen = [{"required": asked}, {"required": ["features"]}]
    classifies = manifest.task == "classification"
    answer: Json = {
        "prediction_id": {"type": "string"},
        "prediction": {"type": "boolean" if classifies else "number"},
        "model": {"type": "string"},
        "version": {"type": "integer"},
        "route": {"type": "string", "enum": ["champion", "challenger", "fallback"]},
        "as_of": {"type": "string", "format": "date-time"},
        "reason": {"type": "string", "description": "Why a fallback answered."},
        "features": _closed(features),
    }
    if classifies:
        share = {"type": "number", "minimum": 0, "maximum": 1}
        answer["probability"] = _closed({"false": share, "true": share})
    many: Json = {"rows": {"type": "array", "items": {"$ref": _ref(name, "row")}, "minItems": 1}}
    return {
        f"{name}.row": one | {"anyOf": chosen},
        f"{name}.rows": _closed(many),
        f"{name}.answer": {"type": "object", "properties": answer},
    }


def _request(manifest: Manifest) -> Json:
    """The fields that come with a request, where there are any."""
    fields = {name: {"type": [TYPES[kind], "null"]} for name, kind in manifest.request.items()}
    return {"request": _closed(fields)} if fields else {}


def _predict(name: str, manifest: Manifest) -> Json:
    row, answer = {"$ref": _ref(name, "row")}, {"$ref": _ref(name, "answer")}
    several = _closed({"predictions": {"type": "array", "items": answer}})
    label = f"{manifest.model}@{manifest.version}"
    return {
        "summary": f"Predict {manifest.label} with {label}.",
        "parameters": [
            {
                "name": "features",
                "in": "query",
                "schema": {"type": "boolean"},
                "description": "Whether to tell the values the model saw.",
            }
        ],
        "requestBody": {
            "required": True,
            "content": _json({"anyOf": [row, {"$ref": _ref(name, "rows")}]}),
        },
        "responses": _responses(_json({"anyOf": [answer, several]})),
    }


def _explain(name: str, manifest: Manifest) -> Json:
    number: Json = {"type": "number"}
    part = {
        "feature": {"type": "string", "enum": list(manifest.features)},
        "value": {"type": ["number", "null"]},
        "contribution": number,
        "error": number | {"description": "Standard error; 0 where it is exact."},
    }
    spaces = ["probability", "log_odds"] if manifest.task == "classification" else ["value", "log"]
    told = _closed(
        {
            "model": {"type": "string"},
            "version": {"type": "integer"},
            "as_of": {"type": "string", "format": "date-time"},
            "method": {"type": "string", "enum": ["linear", "trees", "sampled"]},
            "space": {"type": "string", "enum": spaces, "description": "What adds up."},
            "base": number | {"description": "Mean of test rows of the version."},
            "output": number | {"description": "The base and all contributions."},
            "prediction": number,
            "background_rows": {"type": "integer"},
            "contributions": {"type": "array", "items": _closed(part)},
        }
    )
    several = _closed({"explanations": {"type": "array", "items": told}})
    asked = [{"$ref": _ref(name, "row")}, {"$ref": _ref(name, "rows")}]
    return {
        "summary": f"What each feature adds to a prediction of {manifest.label}; no score.",
        "requestBody": {"required": True, "content": _json({"anyOf": asked})},
        "responses": _responses(_json({"anyOf": [told, several]})),
    }


def _infer(name: str) -> Json:
    return {
        "summary": f"Predict with {name}, by the Open Inference Protocol.",
        "requestBody": {"required": True, "content": _json(INFER_REQUEST)},
        "responses": {
            "200": {"description": "Scored and logged.", "content": _json({"type": "object"})},
            **{
                code: {"description": text, "content": _json(PLAIN)}
                for code, text in ERRORS.items()
            },
        },
    }


def _inference_paths(name: str) -> Json:
    """The paths of a deployment by the Open Inference Protocol and its extensions."""
    model = f"/v2/models/{name}"
    version: Json = {
        "name": "version",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
    }
    by_version = {"parameters": [version]}
    return {
        model: {"get": _get(f"About {name}, by the inference protocol.")},
        f"{model}/ready": {"get": _get(f"Whether {name} answers.")},
        f"{model}/config": {"get": _get(f"The configuration of {name}, as Triton has it.")},
        f"{model}/stats": {"get": _get(f"What {name} has done, by version.")},
        f"{model}/infer": {"post": _infer(name)},
        f"{model}/versions/{{version}}": by_version | {"get": _get("About one version.")},
        f"{model}/versions/{{version}}/infer": by_version | {"post": _infer(name)},
    }


def _get(summary: str) -> Json:
    return {"summary": summary, "responses": {"200": {"description": "It is told."}}}


def _responses(content: Json) -> Json:
    error = _json({"$ref": "#/components/schemas/Error"})
    failed = {code: {"description": text, "content": error} for code, text in ERRORS.items()}
    return {"200": {"description": "Scored and logged.", "content": content}, **failed}


def _error() -> Json:
    text: Json = {"type": "string"}
    return _closed({"error": _closed({"kind": text, "message": text})})


def _closed(properties: Mapping[str, object]) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _ref(name: str, part: str) -> str:
    return f"#/components/schemas/{name}.{part}"
