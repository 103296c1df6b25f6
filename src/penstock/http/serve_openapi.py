"""The OpenAPI document of online scoring, with types from the version that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .openapi_parts import ERROR, PLAIN_ERROR, content, listed, looked_at, opened, operation, slug
from .serve_feature_openapi import feature_path
from .serve_features import FEATURES
from .serve_fields import Fields
from .serve_openapi_explain import explain_path
from .serve_openapi_predict import predict_path, predict_schemas
from .serve_openapi_protocols import model_paths, server_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.records import Manifest
    from penstock.spec import FeatureService

    from .openapi_parts import Json

__all__ = ["openapi_document"]

TEXT: Json = {"type": "string"}
SERVER = "This server"
DEPLOYMENT: Json = opened(
    {
        "name": TEXT,
        "model": TEXT,
        "routes": {"type": "object", "additionalProperties": TEXT},
        "engine": {"type": ["string", "null"]},
    },
    reason=TEXT | {"description": "Why no champion answers, where none does."},
    rests={"type": "boolean", "description": "Whether a request has it loaded."},
)


def openapi_document(
    version: str,
    manifests: Mapping[str, Manifest | None],
    services: Mapping[str, FeatureService],
    *,
    may_see: Callable[[str], bool],
) -> Json:
    """The document.

    Args:
        version: Penstock's.
        manifests: Of the version that answers, by name of the deployment; none before the first.
        services: The feature services by name.
        may_see: Says of a deployment whether values that it has seen may be told as examples.
    """
    schemas: Json = {"Error": ERROR, "PlainError": PLAIN_ERROR}
    paths = _own_paths() | server_paths()
    for name, manifest in sorted(manifests.items()):
        if manifest is None:
            continue
        fields = Fields(manifest, typical=may_see(name))
        schemas |= predict_schemas(name, manifest, fields)
        paths[f"/v1/deployments/{name}/predict"] = predict_path(name, manifest, fields)
        paths[f"/v1/deployments/{name}/explain"] = explain_path(name, manifest)
        paths |= model_paths(name, slug(name))
    if services:
        told = opened({"services": listed({"type": "object"})})
        paths[FEATURES] = looked_at("features", "List the services.", told, tag="Features")
    for service in services.values():
        paths[f"{FEATURES}/{service.name}"] = feature_path(service, slug(service.name))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Penstock online scoring", "version": version},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Of a user: 'penstock users add NAME'; reader, writer or admin.",
                }
            },
        },
        "security": [{"token": []}],
    }


def _own_paths() -> Json:
    told = opened({"deployments": listed(DEPLOYMENT)})
    metrics = operation(
        "metrics", "Prometheus metrics.", {"text/plain": {"schema": TEXT}}, tag=SERVER
    )
    about = opened({"name": TEXT, "process": TEXT, "version": TEXT, "token": TEXT,
                    "paths": {"type": "object", "additionalProperties": TEXT}})  # fmt: skip
    forms: Json = {**content(about), "text/html": {"schema": TEXT}}
    root: Json = {
        "operationId": "about", "summary": "What this is; a page, where a browser asks.",
        "tags": [SERVER], "security": [],
        "responses": {"200": {"description": "This process.", "content": forms}},
    }  # fmt: skip
    return {
        "/": {"get": root},
        "/v1/deployments": looked_at("deployments", "List the deployments.", told, tag=SERVER),
        "/metrics": {"get": metrics},
        "/openapi.json": looked_at("openapi", "This document.", {"type": "object"}, tag=SERVER),
    }
