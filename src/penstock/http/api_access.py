"""Routes of who may do what: users, what is protected, grants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from penstock.access import (
    Permissions,
    add_user,
    denials_of,
    grant,
    grants_of,
    remove_user,
    renew_token,
    revoke,
    users,
)
from penstock.records import Role

from .api_answers import answer
from .api_guard import Admin, Reader  # noqa: TC001 - FastAPI reads the annotations

if TYPE_CHECKING:
    from penstock.records import Identity

__all__ = ["NewUser", "What", "access_routes"]

CREATED = 201


class NewUser(BaseModel):
    """A user to add."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(description="Letters, digits, '_', '.', '@' and '-', 64 at most")
    role: Role = "reader"


class What(BaseModel):
    """What is granted or taken back."""

    model_config = ConfigDict(extra="forbid")
    tags: list[str] = Field([], description="Tags that are protected")
    views: list[str] = Field([], description="Views, for all of their features")


def access_routes() -> APIRouter:
    """The routes of who may do what."""
    router = APIRouter(prefix="/v1", tags=["access"])
    router.get("/users")(list_users)
    router.post("/users", status_code=CREATED)(new_user)
    router.post("/users/{name}/token")(new_token)
    router.delete("/users/{name}")(drop_user)
    router.get("/access")(show_access)
    router.post("/access/{user}/grant")(grant_to)
    router.post("/access/{user}/revoke")(revoke_from)
    return router


def list_users(acting: Reader) -> Response:
    """Everybody who may call, without their tokens."""
    return answer([_shown(one) for one in users(acting.metadata)])


def new_user(body: NewUser, acting: Admin) -> Response:
    """Add a user. The answer has their token, which is told this once."""
    token = add_user(acting, body.name, body.role)
    return answer({"name": body.name, "role": body.role, "token": token}, CREATED)


def new_token(name: str, acting: Admin) -> Response:
    """Give a user a new token, which is told this once; the old one ends."""
    return answer({"name": name, "token": renew_token(acting, name)})


def drop_user(name: str, acting: Admin) -> Response:
    """Remove a user, their token and their grants."""
    return answer({"name": name, "grants": remove_user(acting, name)})


def show_access(acting: Reader, user: str = "") -> Response:
    """What is protected, who was granted it, who was refused; of others only admins are told."""
    protected = Permissions.load(acting.metadata).behind()
    grants, denials = grants_of(acting, user), denials_of(acting, user)
    return answer({"protected": protected, "grants": grants, "denials": denials})


def grant_to(user: str, body: What, acting: Admin) -> Response:
    """Let a user read what tags or views protect."""
    return answer(grant(acting, user, tags=body.tags, views=body.views))


def revoke_from(user: str, body: What, acting: Admin) -> Response:
    """Take grants back; serving processes refuse within a second."""
    return answer(revoke(acting, user, tags=body.tags, views=body.views))


def _shown(user: Identity) -> dict[str, object]:
    return {"name": user.name, "role": user.role, "created_at": user.created_at}
