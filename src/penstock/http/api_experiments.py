"""Routes of experiments: what there is, how one stands, its report, its end by hand."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from penstock.control import experiment_page, experiments, find_experiment, stop_experiment

from .api_answers import answer
from .api_guard import Admin, Reader  # noqa: TC001 - FastAPI reads the annotations

__all__ = ["StopBody", "experiment_routes"]


class StopBody(BaseModel):
    """How an experiment ends."""

    model_config = ConfigDict(extra="forbid")
    winner: bool = Field(description="Whether the tried version becomes the champion")
    reason: str = Field("", max_length=1_000, description="Why; kept and audited")


def experiment_routes() -> APIRouter:
    """The routes of experiments."""
    router = APIRouter(prefix="/v1", tags=["deployments"])
    router.get("/experiments")(list_experiments)
    router.get("/experiments/{name:path}/report")(show_report)
    router.post("/experiments/{name:path}/stop")(stop)
    router.get("/experiments/{name:path}")(show_experiment)
    return router


def list_experiments(acting: Reader, deployment: str = "") -> Response:
    """Experiments that have begun, the newest first."""
    return answer(experiments(acting.metadata, deployment=deployment))


def show_experiment(name: str, acting: Reader) -> Response:
    """An experiment with its looks; ``deployment/name`` where several have one of that name."""
    return answer(find_experiment(acting.metadata, name))


def show_report(name: str, acting: Reader) -> Response:
    """The report of an experiment, as a page."""
    page = experiment_page(find_experiment(acting.metadata, name))
    return Response(page, media_type="text/html; charset=utf-8")


def stop(name: str, body: StopBody, acting: Admin) -> Response:
    """End an experiment: promote the tried version, or give all traffic back to the champion."""
    return answer(stop_experiment(acting, name, winner=body.winner, reason=body.reason))
