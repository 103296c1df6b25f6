"""Keeps what is served as the registry says, without a request noticing.

Ten times a second the metadata's revision is looked at, which costs microseconds. When the
aliases or the declarations have changed, the new fleet is loaded, checked and warmed in a thread;
then it takes the old one's place between two turns of the event loop. What cannot be loaded leaves
the old version in place and is reported.

Deployments may be loaded by need instead: then those that rest are known here, and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TYPE_CHECKING

import psutil
import structlog

from penstock.access import Permissions, users
from penstock.errors import NotFoundError, NotReadyError, PenstockError
from penstock.ports import Audit, Delete, Put
from penstock.records import ServingStatus
from penstock.registry import sweep_custom_folders, withdraw
from penstock.scoring import (
    QUEUE_US,
    Breach,
    Fleet,
    Target,
    audited_to,
    build_fleet,
    look_at_ages,
    read_target,
)

from .serve_door import open_door
from .serve_feature_door import FeatureDoor, look_at_doors, open_doors, write_samples
from .serve_guard import Guard
from .serve_later import Later
from .serve_waking import Waking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from penstock.ports import Services, Spans
    from penstock.scoring import Endpoint
    from penstock.spec import Deployment

    from .serve_door import Door
    from .serve_waking import ByNeed

__all__ = ["Keeper"]

POLL_S = 0.1
RETRY_S = 10.0
RETIRE_S = 60.0
LOAD_US = 60_000_000  # who asks for a load waits for it, whatever the deployment promises
AGES_S = 1.0
RETRY_DOOR_S = 0.5


class Keeper:
    """The fleet of this process and everything that follows from it.

    Args:
        services: The project's ports.
        address: Where this process answers.
        limit_bytes: Size from which a score log begins a new file.
        by_need: What deployments that are loaded by need may take; none to load all.
        queue_us: Longest wait of a row for its model's turn; one that would wait longer is refused.

    Attributes:
        doors: The deployments by name; replaced as a whole.
        resting: Those that are loaded by need, and are not, by name; replaced as a whole.
        waking: Has those loaded that rest.
        fleet: What is loaded, and what rests; replaced as a whole.
        features: The feature services by name; replaced as a whole.
        ports: The project's ports.
        guard: Who may call.
        ready: Whether it serves: the first fleet has been loaded, and the end has not come.
        unloaded: Deployments that this process was told not to serve, with what to say of each.
        share: Has all processes of the address do what this one was told, itself too: to serve a
            deployment no more where there is a reason, else again; none for one that is alone.
    """

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        services: Services,
        *,
        address: str,
        limit_bytes: int,
        by_need: ByNeed | None = None,
        queue_us: int = QUEUE_US,
        spans: Spans | None = None,
    ) -> None:
        self._spans = spans
        self._later = Later()
        self.doors: Mapping[str, Door] = {}
        self.resting: Mapping[str, Deployment] = {}
        self.fleet = Fleet()
        self.waking = Waking(
            self,
            services,
            by_need,
            limit_bytes=limit_bytes,
            queue_us=queue_us,
            spans=spans,
            later=self._later,
        )
        self.features: Mapping[str, FeatureDoor] = {}
        self.ports = services
        self.guard = Guard(services)
        self.ready = False
        self.unloaded: Mapping[str, str] = {}
        self.share: Callable[[str, str], Awaitable[None]] | None = None
        self._looking = asyncio.Lock()
        self._sampling = threading.Lock()
        self._services = services
        self._address = address
        self._limit_bytes = limit_bytes
        self._queue_us = queue_us
        self._told: Fleet | None = None  # the one that the status in the metadata describes
        self._revision = self._guarded = self._let_in_to = -1
        self._audited = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._log = structlog.get_logger("penstock.serve")

    async def start(self) -> None:
        """Load everything and begin to watch.

        Raises:
            PenstockError: The metadata cannot be read.
        """
        await asyncio.to_thread(self._sweep)
        await self._let_in()
        await self._look(force=True)
        self.ready = True
        watches = (self._watch(), self._watch_door(), self._watch_champions())
        self._tasks = [asyncio.create_task(watch) for watch in watches]

    async def stop(self) -> None:
        """Stop watching, finish the score logs, and take this process's status away."""
        self.ready = False
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.waking.stop()
        self._later.finish()
        self.fleet.close()
        for door in self.features.values():
            door.reads.close()
        with contextlib.suppress(PenstockError):  # what is checked is a sample anyway
            self._write_samples(last=True)
        with contextlib.suppress(PenstockError):  # a stale status is swept by the next start
            self._services.metadata.write(Delete(self._status()))

    async def _watch(self) -> None:
        waited_s = aged_s = 0.0
        while True:
            await asyncio.sleep(POLL_S)
            waited_s += POLL_S
            aged_s += POLL_S
            retry = bool(self.fleet.errors) and waited_s >= RETRY_S
            if retry:
                waited_s = 0.0
            # The old fleet answers whatever happens here; the next look may succeed.
            try:
                await self._look(force=retry or self.waking.again)
                if aged_s >= AGES_S:
                    aged_s = 0.0
                    await asyncio.to_thread(look_at_ages, self._services, self.fleet)
                    await asyncio.to_thread(look_at_doors, self._services, self.features.values())
                    await asyncio.to_thread(self._write_samples)
                    self.waking.make_room()
            except Exception as error:  # noqa: BLE001 - see above
                self._log.warning("the registry could not be followed", error=str(error))
                await asyncio.sleep(1.0)

    async def _watch_door(self) -> None:
        """Follow who may do what, apart from the fleet: a grant ends while a model loads, too."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._let_in()
            except Exception as error:  # noqa: BLE001 - as in _watch
                self._log.warning("who may call could not be followed", error=str(error))
                await asyncio.sleep(RETRY_DOOR_S)

    async def _watch_champions(self) -> None:
        """Withdraw champions that are no good, apart from the fleet: while a model loads, too."""
        while True:
            await asyncio.sleep(POLL_S)
            for name, door in self.doors.items():
                breach, door.endpoint.breach = door.endpoint.breach, None
                if breach is not None:
                    await self._return(name, door.endpoint, breach)

    async def _return(self, name: str, endpoint: Endpoint, breach: Breach) -> None:
        """Let the version before the champion answer again; whoever is first does it."""
        model, now = endpoint.declared.model.name, self.fleet.target
        reason = f"{name}: {breach.reason}"
        try:
            await asyncio.to_thread(
                withdraw,
                self._services,
                model,
                breach.version,
                expected=now.aliases[model].revision,
                reason=reason,
            )
            await self._look(force=False)
        except Exception as error:  # noqa: BLE001 - what falls back answers; it is tried again
            self._log.warning(
                "a champion could not be withdrawn", version=breach.version, error=str(error)
            )
            return
        self._log.error(
            "a champion was withdrawn", model=model, version=breach.version, reason=reason
        )

    async def _let_in(self) -> None:
        metadata = self._services.metadata
        revision = await asyncio.to_thread(metadata.revision)
        if revision == self._guarded:
            return
        # As below: heartbeats change nothing here. Users and grants are in the audit, too.
        audited = await asyncio.to_thread(audited_to, metadata, max(self._let_in_to, 0))
        if audited != self._let_in_to:
            identities = await asyncio.to_thread(users, metadata)
            permissions = await asyncio.to_thread(Permissions.load, metadata)
            self.guard.refresh(identities, permissions)
        self._guarded, self._let_in_to = revision, audited

    async def load(self, name: str, *, actor: str) -> None:
        """Serve a deployment again, or look again at what it should be served with.

        Args:
            name: The deployment.
            actor: Who wants it.

        Raises:
            NotFoundError: There is no such deployment.
            NotReadyError: Its version cannot be loaded; the message says why.
            UnavailableError: It takes longer than a minute; the load goes on.
        """
        self._known(name)
        await self._hold(name, "serving.load", actor, "")
        await self.load_resting(name)
        for role, message in self.fleet.errors.items():
            if role.partition("/")[0] == name:
                raise NotReadyError(f"{role} cannot be loaded: {message}", deployment=name)

    async def unload(self, name: str, *, actor: str) -> None:
        """Serve a deployment no more at this address, until it is loaded or all is restarted.

        Requests under way are answered.

        Args:
            name: The deployment.
            actor: Who wants it.

        Raises:
            NotFoundError: There is no such deployment.
        """
        self._known(name)
        why = (
            f"{name!r} was unloaded here by {actor}. Load it with "
            f"POST /v2/repository/models/{name}/load, or restart online scoring."
        )
        await self._hold(name, "serving.unload", actor, why)

    async def load_resting(self, name: str) -> None:
        """Load a deployment by need, for whoever waits for nothing but that.

        Raises:
            UnavailableError: It takes longer than a minute; the load goes on.
            PenstockError: What the load raises.
        """
        if name in self.resting:
            await self.waking.loads.wait(name, LOAD_US)

    async def serve_without(self, unloaded: Mapping[str, str]) -> None:
        """Serve all but the unloaded, each with what the registry says now.

        Args:
            unloaded: What to say of each, by name.
        """
        self.unloaded = unloaded
        await self._look(force=True)

    def install(self, fleet: Fleet, doors: Mapping[str, Door]) -> None:
        """Put a fleet in place that differs in what is loaded alone: nobody is told of that.

        Args:
            fleet: The fleet.
            doors: Its deployments by name.
        """
        if self._told is self.fleet:
            self._told = fleet
        self.fleet, self.doors, self.resting = fleet, doors, fleet.resting

    @property
    def is_looking(self) -> bool:
        """Whether a new fleet is being made of what is loaded now."""
        return self._looking.locked()

    def route_revision(self, name: str) -> int:
        """Revision of the changes to a deployment's routes that answer here; 0 for none."""
        return self.fleet.routes.get(name, 0)

    def _known(self, name: str) -> None:
        known = [*self.doors, *self.resting, *self.unloaded]
        if name not in known:
            hint = "Declare it and run 'penstock apply'."
            raise NotFoundError.of("deployment", name, known, hint=hint)

    async def _hold(self, name: str, action: str, actor: str, why: str) -> None:
        """Serve a deployment no more where there is a reason, else again; audited first."""
        audit = Audit(actor=actor, action=action, subject=f"deployment:{name}",
                      difference={"process": os.getpid(), "address": self._address})  # fmt: skip
        await asyncio.to_thread(self._services.metadata.write, audit=audit)
        if self.share is not None:
            await self.share(name, why)
            return
        left = {other: one for other, one in self.unloaded.items() if other != name}
        await self.serve_without({**left, name: why} if why else left)

    async def _look(self, *, force: bool) -> None:
        # The watch and who loads or unloads take turns.
        async with self._looking:
            await self._look_now(force=force)

    async def _look_now(self, *, force: bool) -> None:
        metadata = self._services.metadata
        revision = await asyncio.to_thread(metadata.revision)
        if revision == self._revision and not force:
            return
        # Heartbeats and the like are written all the time, and change nothing here: what does is
        # in the audit.
        audited = await asyncio.to_thread(audited_to, metadata, self._audited)
        if audited == self._audited and self._told is self.fleet and not force:
            self._revision = revision
            return
        self.waking.again = False
        target = await asyncio.to_thread(read_target, metadata, self.fleet.target)
        if target != self.fleet.target or force:
            begun = self.fleet
            fleet, doors = await asyncio.to_thread(self._build, begun, target)
            features = await asyncio.to_thread(open_doors, self._services, self.features)
            self._swap(*self.waking.with_woken(begun, fleet, doors), features)
        if self._told is not self.fleet:
            # Apart from the swap: a write that fails is tried again, though nothing changed since.
            told = self.fleet
            await asyncio.to_thread(metadata.write, Put(self._status()))
            self._told = told
        # Only now: a look that failed half-way is repeated.
        self._revision, self._audited = revision, audited

    def _build(self, begun: Fleet, target: Target) -> tuple[Fleet, dict[str, Door]]:
        fleet = build_fleet(
            self._services,
            begun,
            target,
            limit_bytes=self._limit_bytes,
            without=self.unloaded,
            only=None if self.waking.by_need is None else begun.endpoints,
        )
        for lane in fleet.lanes.values():
            lane.queue_us = self._queue_us
        known = self.doors
        doors: dict[str, Door] = {}
        for name, endpoint in fleet.endpoints.items():
            before = known.get(name)
            same = before is not None and before.endpoint is endpoint
            doors[name] = before if before and same else open_door(endpoint, self._spans)
        return fleet, doors

    def _swap(
        self, fleet: Fleet, doors: Mapping[str, Door], features: Mapping[str, FeatureDoor]
    ) -> None:
        """Put the new fleet in place. No await: no request sees half of it."""
        before = self.fleet
        self.fleet, self.doors, self.resting = fleet, doors, fleet.resting
        gone, self.features = self.features, features
        kept = {id(lane) for lane in fleet.lanes.values()}
        for name, door in gone.items():
            if door is not features.get(name):
                self._later.close(door.reads.close, RETIRE_S)
        for lane in before.lanes.values():
            if id(lane) not in kept:
                # Requests under way may still turn to it as their fallback.
                self._later.close(lane.close, RETIRE_S)
        reads = {id(one.ready) for one in fleet.endpoints.values()}
        for name, endpoint in before.endpoints.items():
            if endpoint.ready is not None and id(endpoint.ready) not in reads:
                self._later.close(endpoint.ready.close, RETIRE_S)
            if name not in fleet.endpoints and name not in fleet.resting:
                self._later.close(endpoint.writer.log.close, RETIRE_S)
        self.waking.standings.keep(fleet.resting)
        for role, message in fleet.errors.items():
            self._log.error("a version could not be loaded", role=role, error=message)
        if fleet.versions != before.versions:
            self._log.info("serving", versions=fleet.versions)

    def _write_samples(self, *, last: bool = False) -> None:
        process = f"{self._address}/{os.getpid()}"
        # What the watch has begun to write is written before the last that there is to say.
        with self._sampling:
            write_samples(self._services, self.features.values(), process, last=last)

    def _status(self) -> ServingStatus:
        return ServingStatus(
            process_id=os.getpid(),
            address=self._address,
            versions=self.fleet.versions,
            revision=self.fleet.revision,
            errors=self.fleet.errors,
            unloaded=tuple(self.unloaded),
            routes=self.fleet.routes,
            at=self._services.clock.now(),
        )

    def _sweep(self) -> None:
        """Remove what processes that were killed have left behind."""
        sweep_custom_folders()
        for status in self._services.metadata.find(ServingStatus):
            if not psutil.pid_exists(status.process_id):
                self._services.metadata.write(Delete(status))
