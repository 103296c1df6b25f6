"""The control plane as an application: routes, errors, metrics, description."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from penstock.errors import PenstockError
from penstock.plan import Catalogue

from .api_access import access_routes
from .api_answers import BROKEN, answer, failure, refusal
from .api_bandits import bandit_routes
from .api_catalogue import catalogue_routes
from .api_data import data_routes
from .api_experiments import experiment_routes
from .api_features import FeatureMetrics
from .api_guard import Reader, services_of
from .api_jobs import job_routes
from .api_json import JsonBody
from .api_limit import BODY_LIMIT_BYTES, TOO_LARGE, BodyLimit
from .api_models import model_routes
from .api_rollouts import rollout_routes
from .api_routes import route_routes
from .api_watch import watch_routes
from .openapi_parts import ERROR_ANSWERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from penstock.runtime import LocalServices

__all__ = ["build_app"]

ABOUT = "The control plane of Penstock: data in, models, deployments, runs, origins."
LOG = "penstock.api"
MALFORMED = 400
SERVED = re.compile(
    r"/v2(/.*)?|/invocations|/v1/features/[^/]+|/v1/models/.+:(predict|explain)"
    r"|/v1/deployments/[^/]+/(predict|explain|invocations)"
)
"""Paths of the serving process."""
ELSEWHERE = (
    "Predictions and features are asked of 'penstock serve', which listens on a port of its own; "
    "'penstock status' says where."
)
REFUSED: Mapping[int, str] = {404: "not_found", 405: "method", TOO_LARGE: "too_large"}


def build_app(services: LocalServices) -> FastAPI:
    """Make the application.

    Args:
        services: The ports of the process; closing them is the caller's matter.
    """
    app = FastAPI(
        title="Penstock",
        description=ABOUT,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        responses={**ERROR_ANSWERS},
    )
    registry = CollectorRegistry()
    registry.register(FeatureMetrics(services))
    app.state.services = services
    data = (data_routes(), catalogue_routes())
    models = (model_routes(), route_routes(), rollout_routes(), job_routes())
    trials = (experiment_routes(), bandit_routes())
    inner = (*data, *models, *trials, watch_routes(), access_routes())
    for routes in (_health(), _about(registry), *inner):
        app.include_router(routes)
    app.add_middleware(BodyLimit)  # inside of what measures, which would wrap what it raises
    app.add_middleware(JsonBody)
    _measure(app, registry)
    _errors(app)
    return app


def _health() -> APIRouter:
    """The only routes without a token."""
    router = APIRouter(tags=["health"])
    router.get("/healthz")(live)
    router.get("/v2/health/live")(live)
    router.get("/v2/health/ready")(ready)
    return router


def _about(registry: CollectorRegistry) -> APIRouter:
    router = APIRouter(tags=["about"])

    def metrics(acting: Reader) -> Response:
        """Counters in the text format of Prometheus."""
        del acting
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    router.get("/openapi.json", include_in_schema=False)(openapi)
    router.get("/metrics", response_class=PlainTextResponse)(metrics)
    router.get("/v1/declarations")(declarations)
    return router


def live() -> Response:
    """Whether the process answers."""
    return answer({"live": True})


def ready(request: Request) -> Response:
    """Whether the project's records can be read."""
    return answer({"ready": True, "revision": services_of(request).metadata.revision()})


def openapi(request: Request, acting: Reader) -> Response:
    """This description."""
    del acting
    return answer(_secured(request.app.openapi()))


def _secured(document: dict[str, Any]) -> dict[str, Any]:
    """The description with the token that every request but health takes."""
    token = {"type": "http", "scheme": "bearer"}
    document.setdefault("components", {})["securitySchemes"] = {"token": token}
    document["security"] = [{"token": []}]
    for methods in document["paths"].values():
        for about in methods.values():
            if "health" in about.get("tags", ()):
                about["security"] = []
    return document


def declarations(acting: Reader) -> Response:
    """The keys of everything that has been applied."""
    return answer(sorted(Catalogue.load(acting.metadata).declarations))


def _measure(app: FastAPI, registry: CollectorRegistry) -> None:
    """Count requests and their time by route; a path that matches none counts as one route."""
    labels = ("method", "route", "status")
    requests = Counter("penstock_api_requests", "Requests answered.", labels, registry=registry)
    seconds = Histogram(
        "penstock_api_request_seconds", "Time to answer.", ("route",), registry=registry
    )

    @app.middleware("http")
    async def measure(
        request: Request, go_on: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        began = time.perf_counter()
        response = await go_on(request)
        route = getattr(request.scope.get("route"), "path", "unmatched")
        requests.labels(request.method, route, response.status_code).inc()
        seconds.labels(route).observe(time.perf_counter() - began)
        return response


def _errors(app: FastAPI) -> None:
    log = structlog.get_logger(LOG)

    async def expected(request: Request, error: Exception) -> Response:
        if isinstance(error, PenstockError):
            return failure(error)
        return await unexpected(request, error)

    async def invalid(request: Request, error: Exception) -> Response:
        del request
        faults = error.errors() if isinstance(error, RequestValidationError) else []
        lines = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in faults)
        if any(fault["type"] == "json_invalid" for fault in faults):
            reason = "; ".join(str(fault.get("ctx", {}).get("error", "")) for fault in faults)
            message = f"The body is not JSON: {reason}. See /openapi.json."
            return refusal("input", message, MALFORMED)
        return refusal("input", f"The request does not fit: {lines}. See /openapi.json.", 422)

    async def unmatched(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            return await unexpected(request, error)
        path = request.url.path
        see = ELSEWHERE if SERVED.fullmatch(path) else "See /openapi.json."
        message = f"There is no {request.method} {path}. {see}"
        kind = REFUSED.get(error.status_code, "input")
        if error.status_code == TOO_LARGE:
            message = f"The body is larger than {BODY_LIMIT_BYTES:,} bytes; nothing was taken in. "
            message += "Send it in several requests."
        elif kind == "input":
            message = f"{error.detail}. See /openapi.json."
        return refusal(kind, message, error.status_code, error.headers)

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("request failed", path=request.url.path, exc_info=error)
        message = f"{type(error).__name__}; the traceback is in the log of this process."
        return refusal("unexpected", message, BROKEN)

    app.add_exception_handler(PenstockError, expected)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, unmatched)
    app.add_exception_handler(Exception, unexpected)
