"""What answers for deployments that rest, made when they are asked and kept while they are."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from penstock.errors import PenstockError
from penstock.scoring import make_stand_in

from .serve_schema import Schema

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from penstock.ports import Services, Spans
    from penstock.scoring import Counters, Endpoint, Fleet, StandIn

    from .serve_later import Later

    Load = Callable[[str, int], Awaitable[Endpoint]]

__all__ = ["Standing", "Standings"]

MOST = 200
LET_GO_S = 15.0  # longer than a request may wait for its answer


class Standing(NamedTuple):
    """What answers for a deployment that rests.

    Attributes:
        stand_in: Answers.
        schema: What the version takes that would answer.
    """

    stand_in: StandIn
    schema: Schema


class _Held(NamedTuple):
    """One that was made, or is being made, for what the registry said then."""

    said: tuple[int, int, int]
    task: asyncio.Task[Standing | None]


class Standings:
    """Makes stand-ins and keeps those asked last. Used from one event loop.

    Args:
        services: The project's ports.
        load: Waits so many microseconds for a deployment to be loaded; returns what answers then.
        limit_bytes: Size from which a score log begins a new file.
        spans: Where traces go; none where nothing is traced.
        later: Closes those that are kept no longer.
    """

    def __init__(
        self,
        services: Services,
        load: Load,
        *,
        limit_bytes: int,
        spans: Spans | None,
        later: Later,
    ) -> None:
        self._services = services
        self._load = load
        self._limit_bytes = limit_bytes
        self._spans = spans
        self._later = later
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._log = structlog.get_logger("penstock.serve")

    @property
    def counters(self) -> Mapping[str, Counters]:
        """What the deployments have done that are kept here, by name."""
        tasks = {name: held.task for name, held in list(self._held.items())}
        made = {name: task.result() for name, task in tasks.items() if task.done()}
        return {name: one.stand_in.counters for name, one in made.items() if one}

    async def find(self, fleet: Fleet, name: str) -> Standing | None:
        """What answers for a deployment that rests; none where nobody knows what a request says.

        Args:
            fleet: The fleet in which it rests, and is remembered.
            name: The deployment.
        """
        said = _said(fleet, name)
        held = self._held.get(name)
        if held is None or held.said != said:
            self.drop(name)
            held = self._held[name] = _Held(said, asyncio.create_task(self._make(fleet, name)))
            if len(self._held) > MOST:
                self.drop(next(iter(self._held)))
        self._held.move_to_end(name)
        found = await asyncio.shield(held.task)
        if found is None and self._held.get(name) is held:
            del self._held[name]  # the next request looks again
        return found

    def drop(self, name: str) -> None:
        """Keep the stand-in of a deployment no longer; whoever has it goes on with it."""
        held = self._held.pop(name, None)
        if held is not None:
            self._later.close(partial(_close, held), LET_GO_S)

    def keep(self, names: Collection[str]) -> None:
        """Keep the stand-ins of these deployments alone."""
        for name in [name for name in self._held if name not in names]:
            self.drop(name)

    async def stop(self) -> None:
        """Finish the score logs of all."""
        for held in self._held.values():
            await asyncio.wait([held.task])
            _close(held)

    async def _make(self, fleet: Fleet, name: str) -> Standing | None:
        try:
            made = await asyncio.to_thread(
                make_stand_in,
                self._services,
                fleet,
                name,
                fleet.memories[name],
                lambda wait_us: self._load(name, wait_us),
                limit_bytes=self._limit_bytes,
            )
            if made is None:
                return None
            made.writer.spans = self._spans
            return Standing(made, await asyncio.to_thread(Schema, made.manifest))
        except PenstockError as error:  # whoever loads it says the same, and is not late for it
            self._log.warning("nothing can stand in", deployment=name, error=error.message)
            return None
        except Exception:  # noqa: BLE001 - as above; the log has all of it
            self._log.exception("nothing can stand in", deployment=name)
            return None


def _close(held: _Held) -> None:
    made = held.task.result() if held.task.done() else None
    if made is not None:
        made.stand_in.close()


def _said(fleet: Fleet, name: str) -> tuple[int, int, int]:
    """What the registry says of a deployment, as numbers that grow."""
    target = fleet.target
    aliases = target.aliases.get(fleet.resting[name].model.name)
    changes = target.changes.get(name)
    return (
        target.project,
        aliases.revision if aliases else 0,
        changes.revision if changes else 0,
    )
