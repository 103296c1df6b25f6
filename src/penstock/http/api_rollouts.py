"""Routes that bring a version behind a deployment, and show how far it has come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from penstock.control import deploy_run, release_run, start
from penstock.deployment import (
    abort_rollout,
    begin_rollout,
    decide_rollout,
    deploy,
    get_rollout,
    rollouts,
)
from penstock.errors import NotFoundError
from penstock.plan import Catalogue
from penstock.registry import aliases
from penstock.spec import Approval, Canary

from .api_answers import answer
from .api_guard import Admin, Reader, Writer  # noqa: TC001 - FastAPI reads the annotations

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import Rollout

__all__ = ["Decided", "Wanted", "rollout_routes"]

ACCEPTED = 202
POLL_S = 0.1
LONGEST_WAIT_S = 600.0
UNDER_WAY = frozenset({"checking", "approved", "promoting"})
REPORT = "report.html"

Wait = Annotated[float, Query(ge=0, le=LONGEST_WAIT_S, description="Seconds to wait for its end")]


class Wanted(BaseModel):
    """Which version to deploy, and how."""

    model_config = ConfigDict(extra="forbid")
    version: int | None = Field(default=None, ge=1, description="The candidate when left out")
    approve: bool = Field(
        default=False,
        description="Whether somebody else has to approve it, though it is not declared so",
    )
    canary: bool = Field(
        default=False, description="Whether it takes traffic in steps, though none are declared"
    )


class Decided(BaseModel):
    """Why something was decided."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field(
        default="", max_length=2_000, description="Kept with it and in the audit table"
    )


def rollout_routes() -> APIRouter:
    """The routes of rollouts."""
    router = APIRouter(prefix="/v1", tags=["deployments"])
    router.post("/deployments/{name}/deploy")(deploy_version)
    router.get("/deployments/{name}/rollouts")(list_rollouts)
    router.get("/rollouts/{rollout_id}")(show_rollout)
    router.get("/rollouts/{rollout_id}/report")(show_report)
    router.post("/rollouts/{rollout_id}/approve")(approve)
    router.post("/rollouts/{rollout_id}/reject")(reject)
    router.post("/rollouts/{rollout_id}/abort")(abort)
    return router


async def deploy_version(
    name: str, acting: Admin, wanted: Wanted | None = None, wait_s: Wait = 0.0
) -> Response:
    """Check a version and put it behind the deployment; a worker carries it out.

    Answers 202 with the rollout, which ``/v1/rollouts/{rollout_id}`` follows; with ``wait_s`` as
    soon as it has ended or waits for an approval. A version that answers already is confirmed.
    """
    asked = wanted or Wanted()
    begun = await asyncio.to_thread(_begin, acting, name, asked)
    if begun is None:
        return answer(await asyncio.to_thread(deploy, acting, name, version=asked.version))
    return await _followed(acting, begun, wait_s)


def list_rollouts(
    name: str, acting: Reader, limit: Annotated[int, Query(ge=1, le=200)] = 20
) -> Response:
    """The rollouts of a deployment, newest first."""
    Catalogue.load(acting.metadata).deployment(name)
    return answer(rollouts(acting.metadata, name, limit=limit))


def show_rollout(rollout_id: str, acting: Reader) -> Response:
    """A rollout: where it stands, what was checked, how answers differ, who decided."""
    return answer(get_rollout(acting.metadata, rollout_id))


def show_report(rollout_id: str, acting: Reader) -> Response:
    """The report of a rollout's checks, as a page."""
    found = get_rollout(acting.metadata, rollout_id).regression
    if found is None:
        raise NotFoundError.of("report of rollout", rollout_id, hint="It was not checked yet.")
    page = acting.artifacts.path(found.report) / REPORT
    return Response(page.read_bytes(), media_type="text/html; charset=utf-8")


async def approve(
    rollout_id: str, acting: Writer, decided: Decided | None = None, wait_s: Wait = 0.0
) -> Response:
    """Approve a rollout that waits for it; it then goes on."""
    reason = decided.reason if decided else ""

    def go_on() -> Rollout:
        found = decide_rollout(acting, rollout_id, approved=True, reason=reason)
        start(acting, release_run(rollout_id, found.deployment))
        return found

    return await _followed(acting, await asyncio.to_thread(go_on), wait_s)


def reject(rollout_id: str, acting: Writer, decided: Decided) -> Response:
    """Reject a rollout that waits for an approval; what answers stays."""
    return answer(decide_rollout(acting, rollout_id, approved=False, reason=decided.reason))


def abort(rollout_id: str, acting: Admin, decided: Decided | None = None) -> Response:
    """End a rollout that is under way; what answers stays."""
    found = get_rollout(acting.metadata, rollout_id)
    return answer(abort_rollout(acting, found, reason=decided.reason if decided else ""))


def _begin(acting: Admin, name: str, wanted: Wanted) -> Rollout | None:
    """The rollout, with its run submitted; None where the version answers already."""
    declared = Catalogue.load(acting.metadata).deployment(name)
    pointers = aliases(acting.metadata, declared.model.name)
    number = wanted.version or pointers.candidate or pointers.champion
    if pointers.champion and number == pointers.champion:
        return None
    approval = Approval() if wanted.approve else None
    canary = (declared.canary or Canary()) if wanted.canary else None
    begun = begin_rollout(acting, name, version=wanted.version, approval=approval, canary=canary)
    start(acting, deploy_run(begun.rollout_id, name))
    return begun


async def _followed(services: Services, rollout: Rollout, wait_s: float) -> Response:
    end_us = services.clock.now_us() + int(wait_s * 1e6)
    found = rollout
    while found.state in UNDER_WAY and services.clock.now_us() < end_us:
        await asyncio.sleep(POLL_S)
        found = await asyncio.to_thread(get_rollout, services.metadata, rollout.rollout_id)
    return answer(found, ACCEPTED if found.state in UNDER_WAY else 200)
