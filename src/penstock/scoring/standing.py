"""Answers for a deployment that is not loaded, with what needs no model.

A request is read by the manifest of the version that would answer, which is a small file. A batch
score that is kept ready, or a score that was given before where a route answers with those, is an
answer at once; nothing is loaded for it. Any other request waits for the load, and where that is
late or fails, the steps of the fallback that need no version answer.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from penstock.errors import NotReadyError, PenstockError, UnavailableError
from penstock.registry import get_version

from .at_once import AtOnce
from .building import lose_of, manifest_of, precomputed_of, writer_of
from .fallback import reserve_of
from .lane import LONGEST_WAIT_US
from .lanes import PREVIOUS
from .payloads import payload_of
from .routes import RouteTable
from .substitutes import CACHED, Substitutes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from penstock.ports import Services
    from penstock.records import Manifest, Score
    from penstock.spec import Deployment

    from .ask import Ask, Writer
    from .endpoint import Endpoint
    from .fleet import Fleet, Memory
    from .ready import PrecomputedScores

    Load: TypeAlias = "Callable[[int], Awaitable[Endpoint]]"

__all__ = ["StandIn", "answers_at_once", "make_stand_in", "needs_no_model"]

AT_ONCE = {"cached", "precomputed"}


class StandIn:
    """Answers for a deployment that is not loaded. Used from one event loop.

    Args:
        declared: The deployment as it is routed now.
        manifest: Of the version that its champion is.
        others: Of the other versions that it has, as far as they can be read, by their number.
        memory: What it has done so far; what is done here is counted there.
        writer: Where scores go. Its own: what a log may store is known of other versions once the
            deployment is loaded.
        ready: The scores of batch runs, where its routes answer with those.
        load: Waits so many microseconds for the deployment to be loaded; returns what answers then.

    Attributes:
        declared: See above.
        manifest: See above.
        manifests: Those of all versions, by their number.
        counters: What the deployment has done.
        writer: See above.
        headers: Names of the headers that its routes ask for.
    """

    def __init__(  # noqa: PLR0913 - what a deployment is made of
        self,
        declared: Deployment,
        manifest: Manifest,
        memory: Memory,
        writer: Writer,
        *,
        others: Mapping[int, Manifest],
        ready: PrecomputedScores | None,
        load: Load,
    ) -> None:
        self.declared = declared
        self.manifest = manifest
        self.manifests = {**others, manifest.version: manifest}
        self.counters = memory.counters
        self.writer = writer
        self._ready = ready
        self._load = load
        self._table = RouteTable(declared)
        self.headers = self._table.headers
        self._substitutes = Substitutes(declared, writer, memory.kept)
        fallback = declared.fallback
        self._steps = fallback.steps if fallback else ()
        deadline_us = fallback.deadline_us if fallback else LONGEST_WAIT_US
        self._wait_us = deadline_us - reserve_of(deadline_us)
        self._at_once = AtOnce(
            declared,
            self._substitutes,
            writer,
            memory.counters,
            ready=ready,
            wait_us=self._wait_us,
        )

    async def score(self, ask: Ask) -> Score:
        """Score one row: with a score that is there, by the model once it is loaded, or instead.

        Args:
            ask: The row; features handed in are in the manifest's order.

        Raises:
            InputError: A value has not the type that a rule of the routes takes.
            UnavailableError: It takes too long to load, and nothing answers instead.
            PenstockError: What the load raises, or the deployment once it is loaded.
        """
        score = await self._there(ask)
        if score is not None:
            return score
        try:
            endpoint = await self._loaded(ask)
        except PenstockError as error:
            return self._instead(ask, error)
        self._check(ask, endpoint)
        return await endpoint.score(ask)

    async def score_by(self, ask: Ask, number: int) -> Score:
        """Score one row with the version that the client names; see ``Endpoint.score_by``.

        Args:
            ask: The row; features handed in are in that version's order.
            number: One of ``manifests``.

        Raises:
            NotReadyError: That version cannot be loaded.
            UnavailableError: It takes too long to load, and it has given no score that may answer.
            PenstockError: What the load raises, or the deployment once it is loaded.
        """
        if self._at_once.is_on:
            is_champion = number == self.manifest.version
            score = await self._at_once.answer(ask, number, is_champion=is_champion)
            if score is not None:
                return score
        label = f"{self.manifest.model}@{number}"
        try:
            endpoint = await self._loaded(ask)
        except PenstockError:
            score = self._substitutes.last(ask, f"{label} is not loaded yet", version=number)
            if score is None:
                raise
            self.counters.fall_back(CACHED, "loading")
            self.counters.answer(score)
            return score
        lane = endpoint.versions.get(number)
        if lane is None:
            raise NotReadyError(
                endpoint.reason or f"{label} cannot be loaded. The log of the process says why.",
                deployment=self.declared.name,
            )
        return await endpoint.score_by(ask, lane)

    def _loaded(self, ask: Ask) -> Awaitable[Endpoint]:
        """The deployment once it is loaded, within the time that a row has left."""
        waited_us = self.writer.clock.now_us() - ask.arrived_us
        return self._load(max(0, self._wait_us - waited_us))

    async def _there(self, ask: Ask) -> Score | None:
        """The score that would answer were the deployment loaded, where that takes no model."""
        if not self._at_once.is_on:
            return None
        ids = self.writer.ids
        if not self._table.is_plain and self._table.choose(ask, ids).name != "champion":
            return None
        return await self._at_once.answer(ask, self.manifest.version, is_champion=True)

    def _instead(self, ask: Ask, error: PenstockError) -> Score:
        """What answers for a model that is not there in time."""
        label = f"{self.manifest.model}@{self.manifest.version}"
        why = f"{label} is not loaded yet"
        for step in self._steps:
            score = self._substitutes.step(ask, step, why)
            if score is not None:
                self.counters.fall_back(step, "loading")
                self.counters.answer(score)
                return score
        raise error

    def _check(self, ask: Ask, endpoint: Endpoint) -> None:
        """Refuse a row that was read for another version than the one that has been loaded."""
        reads = endpoint.reads
        if reads is None or reads.version == self.manifest.version:
            return
        takes = {**self.manifest.keys, **self.manifest.request}
        same = {**reads.keys, **reads.request} == takes
        if same and (ask.values is None or reads.features == self.manifest.features):
            return
        raise UnavailableError(
            f"{reads.model}@{reads.version} has become the champion of {self.declared.name!r} "
            "meanwhile, and takes other features. Try again.",
            retry_after_s=1,
        )

    def close(self) -> None:
        """Finish its score log and what reads batch scores."""
        self.writer.log.close()
        if self._ready is not None:
            self._ready.close()


def needs_no_model(declared: Deployment) -> bool:
    """Whether anything of a deployment can answer without a model."""
    steps = declared.fallback.steps if declared.fallback else ()
    roles = {route.role for route in declared.routes}
    return any(step != PREVIOUS for step in steps) or not roles.isdisjoint(AT_ONCE)


def answers_at_once(declared: Deployment) -> bool:
    """Whether a route of a deployment answers with scores that are there."""
    return any(route.role in AT_ONCE for route in declared.routes)


def make_stand_in(  # noqa: PLR0913 - what a stand-in depends on
    services: Services,
    fleet: Fleet,
    name: str,
    memory: Memory,
    load: Load,
    *,
    limit_bytes: int,
) -> StandIn | None:
    """Make what answers for a deployment that rests. Reads a few small files; any thread may do it.

    Args:
        services: The project's ports.
        fleet: The fleet in which it rests.
        name: The deployment.
        memory: What it has done so far.
        load: Waits so many microseconds until it is loaded; returns what answers then.
        limit_bytes: Size from which a score log begins a new file.

    Returns:
        It; none where nothing has been deployed, so nobody knows what a request says.

    Raises:
        NotFoundError: There is no such version or package.
        StateError: Its manifest is damaged.
    """
    declared, catalogue = fleet.resting[name], fleet.catalogue
    wanted = fleet.target.wanted(declared)
    number = wanted.get("champion", 0)
    if not number or catalogue is None:
        return None
    model = declared.model.name
    if not get_version(services.metadata, model, number).package:
        return None
    manifest = manifest_of(services, model, number)
    others: dict[int, Manifest] = {}
    for other in {*wanted.values()} - {number}:
        with suppress(PenstockError):  # it cannot be loaded either
            others[other] = manifest_of(services, model, other)
    writer = writer_of(services, declared, limit_bytes)
    known = [manifest, *others.values()]
    writer.log.payload = payload_of(services, declared, catalogue, known)
    writer.log.lose = lose_of(declared, memory.counters)
    ready = precomputed_of(services, declared, None)
    return StandIn(declared, manifest, memory, writer, others=others, ready=ready, load=load)
