"""Routes of models and deployments: look, train, roll back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from penstock.control import start, train_run
from penstock.deployment import changes_of, point_alias, rollback, route_states
from penstock.plan import Catalogue
from penstock.records import ServingStatus
from penstock.registry import aliases, versions
from penstock.spec import Deployment, Model, to_document

from .api_answers import answer
from .api_guard import Admin, Reader  # noqa: TC001 - FastAPI reads the annotations

if TYPE_CHECKING:
    from penstock.ports import Services

__all__ = ["Back", "Pointed", "model_routes"]

ACCEPTED = 202


class Back(BaseModel):
    """Which version to go back to."""

    model_config = ConfigDict(extra="forbid")
    to: int | None = Field(
        None, ge=1, description="The previous champion when left out; asked again, nothing changes"
    )
    expected: int | None = Field(None, ge=0, description="Revision of the aliases as you know them")


class Pointed(BaseModel):
    """Which version an alias is to point to."""

    model_config = ConfigDict(extra="forbid")
    version: int = Field(ge=1, description="Packaged and checked first")
    reason: str = Field("", description="Why; audited")


def model_routes() -> APIRouter:
    """The routes of models and deployments."""
    router = APIRouter(prefix="/v1")
    router.get("/models", tags=["models"])(list_models)
    router.get("/models/{name}", tags=["models"])(show_model)
    router.post("/models/{name}/train", tags=["models"], status_code=ACCEPTED)(train)
    router.post("/models/{name}/aliases/{alias}", tags=["models"])(set_alias)
    router.delete("/models/{name}/aliases/{alias}", tags=["models"])(remove_alias)
    router.get("/deployments", tags=["deployments"])(list_deployments)
    router.get("/deployments/{name}", tags=["deployments"])(show_deployment)
    router.post("/deployments/{name}/rollback", tags=["deployments"])(roll_back)
    return router


def list_models(acting: Reader) -> Response:
    """Every model with its aliases."""
    models = Catalogue.load(acting.metadata).all(Model)
    return answer([_overview(acting, model) for model in models])


def show_model(name: str, acting: Reader) -> Response:
    """A model with all its versions, newest first."""
    model = Catalogue.load(acting.metadata).model(name)
    found = versions(acting.metadata, name)
    shown = {"declaration": to_document(model), "all_versions": found[::-1]}
    return answer(_overview(acting, model) | shown)


def train(name: str, acting: Admin) -> Response:
    """Start a training; a worker runs it. Follow it at ``/v1/runs/{run_id}``."""
    model = Catalogue.load(acting.metadata).model(name)
    run_id = f"train-{acting.ids.new()}"
    start(acting, train_run(run_id, model.name))
    return answer({"run_id": run_id}, ACCEPTED)


def set_alias(name: str, alias: str, acting: Admin, wanted: Pointed) -> Response:
    """Make a version the challenger or the candidate; returns the aliases."""
    return answer(point_alias(acting, name, alias, wanted.version, reason=wanted.reason))


def remove_alias(name: str, alias: str, acting: Admin) -> Response:
    """Let the alias point to no version; returns the aliases."""
    return answer(point_alias(acting, name, alias, 0))


def list_deployments(acting: Reader) -> Response:
    """Every deployment and who answers."""
    found = Catalogue.load(acting.metadata).all(Deployment)
    return answer([_deployment(acting, deployment) for deployment in found])


def show_deployment(name: str, acting: Reader) -> Response:
    """A deployment with its declaration."""
    found = Catalogue.load(acting.metadata).deployment(name)
    return answer(_deployment(acting, found) | {"declaration": to_document(found)})


def roll_back(name: str, acting: Admin, wanted: Back | None = None) -> Response:
    """Bring the version before the champion back, or the one that is named."""
    if wanted is None:
        return answer(rollback(acting, name))
    return answer(rollback(acting, name, to=wanted.to, expected=wanted.expected))


def _overview(services: Services, model: Model) -> dict[str, object]:
    return {
        "name": model.name,
        "owner": model.owner,
        "versions": len(versions(services.metadata, model.name)),
        "aliases": aliases(services.metadata, model.name),
    }


def _deployment(services: Services, deployment: Deployment) -> dict[str, object]:
    pointers = aliases(services.metadata, deployment.model.name)
    changes = changes_of(services.metadata, deployment.name)
    return {
        "name": deployment.name,
        "model": deployment.model.name,
        "champion": pointers.champion,
        "previous": pointers.previous,
        "routes": route_states(deployment, changes, pointers),
        "route_changes": None if changes.is_empty else changes,
        "serving": [
            {"address": status.address, "versions": _routes(deployment, status)}
            for status in services.metadata.find(ServingStatus)
        ],
    }


def _routes(deployment: Deployment, status: ServingStatus) -> dict[str, str]:
    """Role to version, of this deployment only."""
    mine = f"{deployment.name}/"
    return {
        route.removeprefix(mine): label
        for route, label in status.versions.items()
        if route.startswith(mine)
    }
