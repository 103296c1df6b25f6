"""The part of the OpenAPI document about the protocols of other servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .openapi_parts import content, listed, looked_at, opened, operation

if TYPE_CHECKING:
    from .openapi_parts import Json

__all__ = ["model_paths", "server_paths"]

TAG, ALIASES = "Open Inference Protocol", "Clients of other servers"
TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer"}
OBJECT: Json = {"type": "object"}
SHAPE: Json = listed({"type": "integer", "minimum": 1}) | {"minItems": 1}
DATATYPE: Json = TEXT | {"examples": ["FP64", "FP32", "INT64", "BYTES"]}
INPUT: Json = opened(
    {"name": TEXT, "shape": SHAPE, "datatype": DATATYPE}, data={"type": "array"}, parameters=OBJECT
)
OUTPUT: Json = opened(
    {"name": TEXT, "shape": SHAPE, "datatype": TEXT}, data={"type": "array"}, parameters=OBJECT
)
INFER: Json = opened(
    {"inputs": listed(INPUT) | {"minItems": 1}},
    id=TEXT,
    outputs=listed(opened({"name": TEXT}, parameters=OBJECT)),
    parameters=OBJECT,
)
INFERRED: Json = opened(
    {"model_name": TEXT, "outputs": listed(OUTPUT)},
    id=TEXT,
    model_version=TEXT,
    parameters=opened({"versions": TEXT, "routes": TEXT}),
)
ABOUT: Json = opened(
    {"name": TEXT, "versions": listed(TEXT), "platform": TEXT, "inputs": listed(OBJECT),
     "outputs": listed(OBJECT)}
)  # fmt: skip
STATISTICS: Json = opened({"model_stats": listed(OBJECT)})
OCTETS: Json = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
VERSION: Json = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": TEXT | {"minLength": 1},
}
OPEN: Json = {"security": []}
WAYS: Json = {
    "type": "object",
    "properties": {
        name: {"type": ["array", "object"]}
        for name in ("instances", "inputs", "dataframe_split", "dataframe_records")
    },
}
PREDICTED: Json = {
    "type": "object",
    "properties": {
        "predictions": listed({"type": "number"}),
        "outputs": listed({"type": "number"}),
        "prediction_ids": listed(TEXT),
    },
}
IDS: Json = {
    "name": "ids",
    "in": "query",
    "schema": {"type": "boolean", "default": False},
    "description": "Whether to tell the ids of the predictions in the body, too.",
}


def server_paths() -> Json:
    """The paths that are of no deployment."""
    ready = _health("v2_ready", "Whether it answers.", {"ready": {"type": "boolean"}})
    index = opened({"name": TEXT, "version": TEXT, "state": TEXT, "reason": TEXT})
    return {
        "/v2": looked_at(
            "v2_server",
            "About this server.",
            opened({"name": TEXT, "version": TEXT, "extensions": listed(TEXT)}),
            tag=TAG,
            plain=True,
        ),
        "/v2/health/live": _health("v2_live", "Whether it runs.", {"live": {"type": "boolean"}}),
        "/v2/health/ready": ready,
        "/v2/models/stats": looked_at(
            "v2_statistics",
            "What every model has done, by version.",
            STATISTICS,
            tag=TAG,
            plain=True,
        ),
        "/v2/repository/index": {
            "post": operation(
                "v2_index",
                "List models, versions and their states.",
                content(listed(index)),
                tag=TAG,
                plain=True,
            )
        },
        "/v2/logging": _settings("v2_logging", "what this process logs"),
        "/v2/trace/setting": _settings("v2_tracing", "the settings of tracing"),
        "/v1/models": looked_at(
            "v1_models",
            "List the models.",
            opened({"models": listed(TEXT)}),
            tag=ALIASES,
            plain=True,
        ),
        **{path: _alive(path) for path in ("/ping", "/health", "/version")},
    }


def model_paths(name: str, slug: str) -> Json:
    """The paths of a deployment.

    Args:
        name: The deployment.
        slug: Its name within ids.
    """
    model = f"/v2/models/{name}"
    by_version: Json = {"parameters": [VERSION]}
    ready = opened({"name": TEXT, "ready": {"type": "boolean"}})
    about = looked_at(f"v2_about_{slug}", f"About {name}.", ABOUT, tag=TAG, plain=True)
    one = looked_at(f"v2_version_{slug}", "About one version.", ABOUT, tag=TAG, plain=True)
    status = opened(
        {"name": TEXT, "ready": {"type": "boolean"}, "model_version_status": listed(OBJECT)}
    )
    return {
        model: about,
        f"{model}/ready": looked_at(
            f"v2_ready_{slug}", f"Whether {name} answers.", ready, tag=TAG, plain=True
        ),
        f"{model}/config": looked_at(
            f"v2_config_{slug}", "Its configuration, as Triton has it.", OBJECT, tag=TAG, plain=True
        ),
        f"{model}/stats": looked_at(
            f"v2_stats_{slug}", "What it has done, by version.", STATISTICS, tag=TAG, plain=True
        ),
        f"{model}/infer": {"post": _infer(f"v2_infer_{slug}", name)},
        f"{model}/versions/{{version}}": by_version | one,
        f"{model}/versions/{{version}}/infer": by_version
        | {"post": _infer(f"v2_infer_version_{slug}", name)},
        f"/v1/models/{name}": looked_at(
            f"v1_status_{slug}", f"Whether {name} is ready.", status, tag=ALIASES, plain=True
        ),
        f"/v1/models/{name}:predict": {"post": _alias(f"v1_predict_{slug}", name)},
        f"/v1/deployments/{name}/invocations": {"post": _alias(f"invocations_{slug}", name)},
    }


def _infer(operation_id: str, name: str) -> Json:
    return operation(
        operation_id,
        f"Predict with {name}.",
        content(INFERRED) | OCTETS,
        tag=TAG,
        body=content(INFER) | OCTETS,
        plain=True,
    )


def _alias(operation_id: str, name: str) -> Json:
    csv: Json = {"text/csv": {"schema": TEXT}}
    return operation(
        operation_id,
        f"Predict with {name}, by a body of KServe V1, TensorFlow Serving or MLflow.",
        content(PREDICTED),
        tag=ALIASES,
        body=content(WAYS) | csv,
        plain=True,
        parameters=[IDS],
    )


def _settings(operation_id: str, what: str) -> Json:
    return looked_at(operation_id, f"Tell {what}.", OBJECT, tag=TAG, plain=True) | {
        "post": operation(
            f"{operation_id}_change",
            f"Change {what}.",
            content(OBJECT),
            tag=TAG,
            body=content(OBJECT),
            plain=True,
        )
    }


def _health(operation_id: str, summary: str, told: Json) -> Json:
    schema = opened(told)
    answers: Json = {
        status: {"description": text, "content": content(schema)}
        for status, text in (("200", "It does."), ("503", "It does not yet."))
    }
    return {
        "get": {
            "operationId": operation_id,
            "summary": summary,
            "tags": [TAG],
            "responses": answers,
        }
        | OPEN
    }


def _alive(path: str) -> Json:
    plain: Json = {"text/plain": {"schema": TEXT}}
    answers: Json = {
        status: {"description": text, "content": plain}
        for status, text in (("200", "It answers."), ("503", "It does not yet."))
    }
    word = path.removeprefix("/")
    return {
        "get": {"operationId": f"mlflow_{word}", "summary": f"The {word}, as MLflow has it.",
                "tags": [ALIASES], "responses": answers} | OPEN
    }  # fmt: skip
