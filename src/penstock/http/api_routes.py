"""Routes of a deployment's routes: look at them, change them while it runs, take that back."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from penstock.deployment import RouteEdit, change_routes, reset_routes, show_routes
from penstock.spec import Fallback, FallbackStep

from .api_answers import answer
from .api_guard import Admin, Reader  # noqa: TC001 - FastAPI reads the annotations

__all__ = ["FallbackBody", "RoutesBody", "route_routes"]

DECLARED = "declared"
Expected = Annotated[int | None, Query(ge=0, description="Revision as the caller knows it")]


class FallbackBody(BaseModel):
    """What is to answer when a route is late or fails."""

    model_config = ConfigDict(extra="forbid")
    deadline: str = Field("10s", description="Longest wait, such as 20ms")
    to: FallbackStep | list[FallbackStep] = "previous"
    value: float | None = None
    max_age: str = ""
    slow_after: str = Field("", description="Time past which a version counts as slow, as 50ms")


class RoutesBody(BaseModel):
    """What is to be changed of the routes; what is left out stays as it is now."""

    model_config = ConfigDict(extra="forbid")
    shares: dict[str, float | None] = Field(
        {}, description="Share of a challenger by alias or @3; 0 for off, null as declared"
    )
    shadows: dict[str, bool | None] = Field(
        {}, description="Whether a shadow scores, by alias or @3; null as declared"
    )
    pins: dict[str, int | None] = Field(
        {}, description="Version that an alias stands for here; null to follow the alias"
    )
    headers: dict[str, str | None] = Field(
        {}, description="Alias or @3 by x-group=beta; 'off', null as declared"
    )
    rules: dict[str, str | None] = Field(
        {}, description="Alias or @3 by a condition, amount > 1000; 'off', null as declared"
    )
    cached: str = Field("", description="Age of a last score that answers; 'off' or 'declared'")
    precomputed: str = Field("", description="The same of a batch score")
    fallback: FallbackBody | Literal["declared"] | None = Field(
        None, description="Another fallback, or 'declared' to go back"
    )
    reason: str = Field("", max_length=1_000, description="Why; kept and audited")
    expected: int | None = Field(None, ge=0, description="Revision as the caller knows it")


def route_routes() -> APIRouter:
    """The routes of a deployment's routes."""
    router = APIRouter(prefix="/v1/deployments/{name}/routes", tags=["deployments"])
    router.get("")(show)
    router.post("")(change)
    router.delete("")(reset)
    return router


def show(name: str, acting: Reader) -> Response:
    """The routes as they are now: declared, with what was changed at run time."""
    return answer(show_routes(acting, name))


def change(name: str, body: RoutesBody, acting: Admin) -> Response:
    """Change routes or the fallback; answered when every process has it."""
    fallback = None
    if isinstance(body.fallback, FallbackBody):
        fallback = msgspec.convert(body.fallback.model_dump(), Fallback)
    edit = RouteEdit(
        shares=body.shares,
        shadows=body.shadows,
        pins=body.pins,
        headers=body.headers,
        rules=body.rules,
        ages={
            role: None if age == DECLARED else age
            for role, age in (("cached", body.cached), ("precomputed", body.precomputed))
            if age
        },
        fallback=fallback,
        declared_fallback=body.fallback == DECLARED,
    )
    done = change_routes(acting, name, edit, reason=body.reason, expected=body.expected)
    return answer(done)


def reset(name: str, acting: Admin, expected: Expected = None, reason: str = "") -> Response:
    """Take every change at run time back; answered when every process has it."""
    return answer(reset_routes(acting, name, reason=reason, expected=expected))
