"""Deployments that are loaded by need: they rest until somebody asks, and rest again.

They are let go of when they have not been asked for a while, or others need the room. Who was let
in before goes on with what was let go of: it lives as long as somebody holds it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol

import structlog

from penstock.errors import UnavailableError
from penstock.scoring import (
    LONGEST_WAIT_US,
    Held,
    Memory,
    answers_at_once,
    let_go,
    needs_no_model,
    wake,
)

from .serve_door import open_door
from .serve_need import Loads
from .serve_standing import Standings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Services, Spans
    from penstock.scoring import Endpoint, Fleet
    from penstock.spec import Deployment

    from .serve_door import Door
    from .serve_later import Later
    from .serve_standing import Standing

__all__ = ["ByNeed", "Waking"]

LET_GO_S = 15.0  # longer than a request may wait for its answer


class ByNeed(NamedTuple):
    """What deployments that are loaded by need may take.

    Attributes:
        memory_bytes: About how much memory they may take together; 0 for no limit.
        idle_us: How long one that is not asked stays, in microseconds; 0 for ever.
    """

    memory_bytes: int = 0
    idle_us: int = 0


class Place(Protocol):
    """Where what is served is kept. Used from one event loop."""

    @property
    def fleet(self) -> Fleet:
        """What is loaded, and what rests."""
        ...

    @property
    def doors(self) -> Mapping[str, Door]:
        """The deployments that are loaded, by name."""
        ...

    @property
    def is_looking(self) -> bool:
        """Whether a new fleet is being made of what is loaded now."""
        ...

    def install(self, fleet: Fleet, doors: Mapping[str, Door]) -> None:
        """Put a fleet in place that differs in what is loaded alone."""
        ...


class Waking:
    """Wakes deployments that rest, and lets them rest again. Used from one event loop.

    Args:
        place: Where what is served is kept.
        services: The project's ports.
        by_need: What deployments that are loaded by need may take; none where all are loaded.
        limit_bytes: Size from which a score log begins a new file.
        queue_us: Longest wait of a row for its model's turn.
        spans: Where traces go; none where nothing is traced.
        later: Closes what was let go of.

    Attributes:
        by_need: See above.
        loads: The loads by need.
        standings: What answers for those that rest.
        let_go: How often one was let go of.
        again: Whether something was loaded for a target that is no more; whoever looks at the
            registry again takes it away.
    """

    def __init__(  # noqa: PLR0913 - what it wakes them with
        self,
        place: Place,
        services: Services,
        by_need: ByNeed | None,
        *,
        limit_bytes: int,
        queue_us: int,
        spans: Spans | None,
        later: Later,
    ) -> None:
        self.by_need = by_need
        self.loads = Loads(self._wake)
        self.standings = Standings(
            services, self._loaded, limit_bytes=limit_bytes, spans=spans, later=later
        )
        self.let_go = 0
        self.again = False
        self._place = place
        self._services = services
        self._limit_bytes = limit_bytes
        self._queue_us = queue_us
        self._spans = spans
        self._later = later
        self._loaded_us: dict[str, int] = {}
        self._log = structlog.get_logger("penstock.serve")

    async def stop(self) -> None:
        """Wait for no load any more, and finish the score logs of what stands in."""
        await self.loads.stop()
        await self.standings.stop()

    async def need(self, name: str) -> None:
        """Have a deployment loaded that rests; nothing for any other.

        Args:
            name: The deployment.

        Raises:
            UnavailableError: It takes longer than the deployment may take for an answer.
        """
        declared = self._place.fleet.resting.get(name)
        if declared is not None:
            fallback = declared.fallback
            await self.loads.wait(name, fallback.deadline_us if fallback else LONGEST_WAIT_US)

    async def stand_in(self, name: str) -> Standing | None:
        """What answers for a deployment that rests; none where nothing can without the model.

        Where all of its answers take the model first, it is being loaded from now on.

        Args:
            name: The deployment.
        """
        declared = self._place.fleet.resting.get(name)
        if declared is None or not needs_no_model(declared):
            return None
        fleet = self._remember(name, declared)
        if not answers_at_once(declared):
            self.loads.begin(name)
        return await self.standings.find(fleet, name)

    async def _loaded(self, name: str, wait_us: int) -> Endpoint:
        """What answers for a deployment, once it is loaded."""
        if name in self._place.fleet.resting:
            await self.loads.wait(name, wait_us)
        door = self._place.doors.get(name)
        if door is None:  # gone again, or no longer served
            raise UnavailableError(f"{name!r} is not loaded. Try again.", retry_after_s=1)
        return door.endpoint

    def _remember(self, name: str, declared: Deployment) -> Fleet:
        """The fleet, in which a deployment that rests has a place for what it does.

        It is there before the load begins: both count in one place then.
        """
        place = self._place
        if name not in place.fleet.memories:
            memory = Memory.new(self._services, declared, self._limit_bytes)
            place.install(place.fleet.remembering({name: memory}), place.doors)
        return place.fleet

    async def _wake(self, name: str) -> None:
        """Load a deployment beside those that answer, and let it answer too."""
        place = self._place
        declared = place.fleet.resting.get(name)
        if declared is None:
            return
        fleet = self._remember(name, declared)
        endpoint, errors = await asyncio.to_thread(
            wake, self._services, fleet, name, limit_bytes=self._limit_bytes
        )
        for lane in endpoint.lanes.values():
            lane.queue_us = self._queue_us
        door = await asyncio.to_thread(open_door, endpoint, self._spans)
        if name not in place.fleet.resting:
            return
        if place.fleet.target is not fleet.target:
            self.again = True
        self._loaded_us[name] = self._services.clock.now_us()
        place.install(place.fleet.having(name, endpoint, errors), {**place.doors, name: door})
        self.standings.drop(name)
        for role, message in errors.items():
            self._log.error("a version could not be loaded", role=role, error=message)
        self.make_room()

    def make_room(self) -> None:
        """Let go of deployments that others need the room of, or that nobody has asked for."""
        place = self._place
        if self.by_need is None or place.is_looking:
            return  # what is being looked at comes first: it would come back
        held = [
            Held(
                name,
                endpoint.size_bytes,
                max(endpoint.used_us, self._loaded_us.get(name, 0)),
                endpoint.busy,
            )
            for name, endpoint in place.fleet.endpoints.items()
        ]
        memory_bytes, idle_us = self.by_need
        now_us = self._services.clock.now_us()
        gone = let_go(held, now_us=now_us, memory_bytes=memory_bytes, idle_us=idle_us)
        if not gone:
            return
        for name in gone:
            endpoint = place.fleet.endpoints[name]
            # Whoever was let in before may still log a score: not before then is the file finished.
            self._later.close(endpoint.writer.log.close, LET_GO_S)
            for lane in endpoint.lanes.values():
                self._later.close(lane.close, LET_GO_S)
            if endpoint.ready is not None:
                self._later.close(endpoint.ready.close, LET_GO_S)
            self._loaded_us.pop(name, None)
        self.let_go += len(gone)
        left = {name: door for name, door in place.doors.items() if name not in gone}
        place.install(place.fleet.without(gone), left)

    def with_woken(
        self, begun: Fleet, fleet: Fleet, doors: Mapping[str, Door]
    ) -> tuple[Fleet, Mapping[str, Door]]:
        """A fleet with what was loaded by need while it was built; that is looked at again.

        What deployments have done meanwhile that rest is remembered too.

        Args:
            begun: The fleet that answered when it was begun.
            fleet: The fleet that was built.
            doors: Its deployments by name.
        """
        place = self._place
        for name, endpoint in place.fleet.endpoints.items():
            if name not in begun.endpoints and name in fleet.resting:
                fleet = fleet.having(name, endpoint, {})
                doors = {**doors, name: place.doors[name]}
                self.again = True
        return fleet.remembering(place.fleet.memories), doors
