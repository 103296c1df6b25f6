"""Rows of a request on their way to their scores."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from penstock.errors import InputError, NotFoundError, NotReadyError
from penstock.scoring import Ask

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from penstock.records import Manifest, Score
    from penstock.scoring import Lane

    from .serve_keeper import Door, Keeper
    from .serve_schema import Row, Schema

__all__ = ["Asked", "door_of", "score_all", "score_one", "version_of"]


class Asked(Protocol):
    """A request, over whatever protocol it came."""

    @property
    def arrived_us(self) -> int:
        """When it came, in microseconds since 1970 UTC."""
        ...

    @property
    def request_id(self) -> str:
        """The client's id of it; empty for none."""
        ...

    def header(self, wanted: bytes) -> bytes:
        """A header, or what stands for one, by its name in lower case; empty for none."""
        ...


def door_of(keeper: Keeper, name: str) -> tuple[Door, Schema]:
    """A deployment that can answer.

    Raises:
        NotFoundError: There is none of that name; names the nearest.
        NotReadyError: It has been unloaded, or nothing has been deployed on it.
    """
    door = keeper.doors.get(name)
    if door is None:
        if name in keeper.unloaded:
            raise NotReadyError(keeper.unloaded[name], deployment=name)
        hint = "Declare it and run 'penstock apply'."
        raise NotFoundError.of("deployment", name, keeper.doors, hint=hint)
    if door.schema is None:
        raise NotReadyError(door.endpoint.no_champion, deployment=name)
    return door, door.schema


def version_of(door: Door, schema: Schema, number: str) -> tuple[Manifest, Lane | None]:
    """The manifest a client has to fit, and the lane where it names a version.

    Args:
        door: The deployment.
        schema: What its champion takes.
        number: The version that the client names; empty for whichever its routes give.

    Raises:
        NotFoundError: That version does not answer here.
    """
    if not number:
        return schema.manifest, None
    versions = door.endpoint.versions
    lane = versions.get(int(number)) if number.isdecimal() else None
    if lane is None:
        name = door.endpoint.declared.name
        raise NotFoundError(
            f"{name!r} does not answer with version {number!r}, only with "
            f"{', '.join(map(str, sorted(versions)))}.",
            deployment=name,
        )
    return lane.version.manifest, lane


def score_one(
    door: Door, row: Row, call: Asked, lane: Lane | None = None
) -> Coroutine[None, None, Score]:
    """Score a row: as the routes have it, or with one version.

    Raises:
        PenstockError: What ``Endpoint.score`` raises.
    """
    ask = Ask(
        call.arrived_us,
        key=row.key,
        at_us=row.at_us,
        values=row.values,
        given=row.given,
        request_id=call.request_id,
    )
    if door.endpoint.headers:
        ask.headers = {
            name: call.header(name.encode()).decode("latin-1") for name in door.endpoint.headers
        }
    if lane is not None:
        return door.endpoint.score_by(ask, lane)
    return door.endpoint.score(ask)


async def score_all(
    door: Door, rows: list[Row], call: Asked, lane: Lane | None = None
) -> list[Score]:
    """Score rows together; the first that fails fails the request, after all are done.

    Raises:
        PenstockError: What ``Endpoint.score`` raises; an ``InputError`` says in which row.
    """
    if len(rows) == 1:
        return [await score_one(door, rows[0], call, lane)]
    found = await asyncio.gather(
        *[score_one(door, row, call, lane) for row in rows], return_exceptions=True
    )
    scores: list[Score] = []
    for number, one in enumerate(found):
        if isinstance(one, InputError):
            raise InputError(f"rows[{number}]: {one.message}") from one
        if isinstance(one, BaseException):
            raise one
        scores.append(one)
    return scores
