"""What is deployed, as ``GET /v1/deployments`` lists it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .serve_keeper import Keeper

__all__ = ["listing"]

Json = dict[str, object]


def listing(keeper: Keeper) -> list[Json]:
    """Every deployment, those that are loaded first.

    Args:
        keeper: What is served.
    """
    loaded: list[Json] = []
    for name, door in sorted(keeper.doors.items()):
        endpoint = door.endpoint
        champion = endpoint.champion
        told: Json = {
            "name": name,
            "model": endpoint.declared.model.name,
            "routes": {role: lane.version.label for role, lane in endpoint.lanes.items()},
            "shares": endpoint.shares,
            "route_changes": keeper.route_revision(name),
            "engine": champion.engine.name if champion else None,
        }
        if champion is None:
            told["reason"] = endpoint.no_champion
        loaded.append(told)
    nothing: Json = {}
    resting: list[Json] = [
        {
            "name": name,
            "model": declared.model.name,
            "routes": nothing,
            "shares": nothing,
            "route_changes": keeper.route_revision(name),
            "engine": None,
            "rests": True,
        }
        for name, declared in sorted(keeper.resting.items())
    ]
    return [*loaded, *resting]
