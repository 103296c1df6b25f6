"""Routes of bandits: what there is, and what each knows of its arms."""

from __future__ import annotations

from fastapi import APIRouter, Response

from penstock.control import bandits, find_bandit

from .api_answers import answer
from .api_guard import Reader  # noqa: TC001 - FastAPI reads the annotations

__all__ = ["bandit_routes"]


def bandit_routes() -> APIRouter:
    """The routes of bandits."""
    router = APIRouter(prefix="/v1", tags=["deployments"])
    router.get("/bandits")(list_bandits)
    router.get("/bandits/{name:path}")(show_bandit)
    return router


def list_bandits(acting: Reader) -> Response:
    """Bandits that have set shares, by deployment."""
    return answer(bandits(acting.metadata))


def show_bandit(name: str, acting: Reader) -> Response:
    """A bandit with its arms; ``deployment/name`` where several have one of that name."""
    return answer(find_bandit(acting.metadata, name))
