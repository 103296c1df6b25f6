"""A deployment as it is served: its routes, its circuits, its shadows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import (
    InputError,
    NotLoggedError,
    NotReadyError,
    OverloadedError,
    PenstockError,
    UnknownEntityError,
)

from .at_once import AtOnce
from .by_version import ByVersion
from .circuit import Circuit
from .fallback import FallbackChain, reason_of
from .kept import KeptScores
from .lane import LONGEST_WAIT_US, NEVER_SLOW_US
from .lanes import PREVIOUS, Lanes, answer_within, is_rows_fault, is_stale, stale_ages
from .routes import RouteTable
from .shadows import Shadows
from .substitutes import Substitutes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.records import Manifest, Score
    from penstock.spec import Deployment

    from .ask import Ask, Waiting, Writer
    from .counts import Counters
    from .lane import Lane
    from .lanes import Absent
    from .ready import PrecomputedScores
    from .served import ServedVersion

__all__ = ["Breach", "Endpoint"]


class Breach(NamedTuple):
    """A champion that is no good.

    Attributes:
        version: Its number.
        reason: What it did.
    """

    version: int
    reason: str


class Endpoint:
    """Answers for one deployment. Used from one event loop.

    Args:
        declared: The deployment.
        lanes: The lanes by role: ``champion``, challengers, shadows, ``previous``.
        writer: Where scores go.
        counters: What it has done so far; carried over when versions change.
        circuits: Those of the lanes, by the version's label; carried over likewise.
        reason: Why there is no champion, where there is none.
        kept: The scores given last; carried over likewise.
        ready: The scores of batch runs, where its routes answer with those.
        absent: The champion that cannot be loaded, where that is why there is none and requests can
            be read: what needs no champion answers then.

    Attributes:
        absent: See above.
        headers: Names of the headers that its routes ask for.
        reads: By which requests are read; none where nobody knows what they say.
        breach: That the champion is no good, once it is known; whoever withdraws it takes it away.
    """

    def __init__(  # noqa: PLR0913 - what a deployment is made of
        self,
        declared: Deployment,
        lanes: Mapping[str, Lane],
        writer: Writer,
        counters: Counters,
        circuits: Mapping[str, Circuit],
        *,
        reason: str = "",
        kept: KeptScores | None = None,
        ready: PrecomputedScores | None = None,
        absent: Absent | None = None,
    ) -> None:
        self.ready = ready
        self.absent = absent
        self.kept = kept or KeptScores()
        self.declared = declared
        self.lanes = lanes
        self.writer = writer
        self.counters = counters
        # A version that was away begins anew: somebody has brought it back.
        labels = {lane.version.label for lane in lanes.values()}
        self.circuits = {label: circuits.get(label) or Circuit() for label in sorted(labels)}
        self.reason = reason
        self.breach: Breach | None = None
        self._table = RouteTable(declared)
        self.headers = self._table.headers
        champion = lanes.get("champion")
        self.reads = champion.version.manifest if champion else absent and absent.manifest
        self._lanes = Lanes(lanes, self.reads)
        self._shadows = Shadows(self._lanes, counters)
        fallback = declared.fallback
        self._deadline_us = fallback.deadline_us if fallback else LONGEST_WAIT_US
        self._substitutes = Substitutes(declared, writer, self.kept)
        self._fallback = FallbackChain(
            declared,
            self._lanes,
            self.circuits,
            writer,
            counters=counters,
            substitutes=self._substitutes,
            deadline_us=self._deadline_us,
        )
        self._wait_us = self._deadline_us - self._fallback.reserve_us
        self._at_once = AtOnce(
            declared, self._substitutes, writer, counters, ready=ready, wait_us=self._wait_us
        )
        self._keeps = bool(self._at_once.again_us) or self._fallback.keeps
        self._by_version = ByVersion(
            declared,
            writer,
            counters,
            at_once=self._at_once,
            substitutes=self._substitutes,
            kept=self.kept if self._keeps else None,
            deadline_us=self._deadline_us,
        )
        self._returns = declared.on_breach == "return" and not any(
            route.version for route in declared.routes if route.role == "champion"
        )
        slow_us = fallback.slow_us if fallback else None
        for lane in lanes.values():
            lane.deadline_us = self._deadline_us
            lane.slow_us = slow_us or NEVER_SLOW_US
            lane.refuses_unknown = declared.missing == "refuse"

    @property
    def champion(self) -> ServedVersion | None:
        """The version that answers by default; none before the first deployment."""
        lane = self._lanes.champion
        return lane.version if lane else None

    @property
    def versions(self) -> dict[int, Lane]:
        """The lanes that may answer, by the number of their version; shadows may not."""
        return self._lanes.versions

    @property
    def manifests(self) -> dict[int, Manifest]:
        """The manifests of the versions that it has, by their number."""
        lanes = [lane.version.manifest for lane in self.lanes.values()]
        return {one.version: one for one in (*lanes, *filter(None, (self.reads,)))}

    @property
    def size_bytes(self) -> int:
        """About how much memory its versions take."""
        found = {lane.version.label: lane.version for lane in self.lanes.values()}
        return sum(version.size_bytes for version in found.values())

    @property
    def used_us(self) -> int:
        """When it answered last, with whatever score; 0 where it has not."""
        return self.counters.last_us

    @property
    def busy(self) -> bool:
        """Whether a row waits or is being scored."""
        return any(lane.busy for lane in self.lanes.values())

    @property
    def is_quick(self) -> bool:
        """Whether rows may be given to a lane at once: the champion computes in the event loop."""
        champion = self._lanes.champion
        return not (champion is None or champion.slow or self._at_once.is_on)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the entities of each route, by its name; 0 for one that leads to no version."""
        routes = self.declared.named_routes
        found = {
            name: one.share if name in self.lanes else 0.0
            for name, one in routes.items()
            if one.role == "challenger"
        }
        return {"champion": 1.0 - sum(found.values()), **found}

    @property
    def no_champion(self) -> str:
        """What to say while there is no champion."""
        return self.reason or (
            f"Nothing has been deployed on {self.declared.name!r} yet. Run 'penstock train "
            f"{self.declared.model.name}', then 'penstock deploy {self.declared.name}'."
        )

    async def score(self, ask: Ask, lane: Lane | None = None) -> Score:
        """Score one row.

        Args:
            ask: The row; features handed in are in the champion's order.
            lane: What ``lane_of`` chose for it, where that has been asked.

        Raises:
            NotReadyError: Nothing has been deployed, or it cannot be loaded and nothing falls back.
            InputError: The model has no finite prediction for the row, or no probability.
            UnknownEntityError: Nothing is online of its entities, the deployment refuses those, and
                nothing falls back.
            StaleError: Its features are older than allowed, the deployment refuses those, and
                nothing falls back.
            OverloadedError: Too many rows wait; another version would only be the next to be late.
            NotLoggedError: The score log cannot be written, so nothing may answer.
            UnavailableError: The version failed or was late, and so was every fallback.
        """
        lane = lane or self.lane_of(ask)
        if self._at_once.is_on:
            is_champion = lane is self._lanes.champion
            there = await self._at_once.answer(ask, self._version(lane), is_champion=is_champion)
            if there is not None:
                return there
        return await (self._asked(ask, lane) if lane else self._without_champion(ask))

    async def _without_champion(self, ask: Ask) -> Score:
        """What falls back where the champion cannot be loaded."""
        error = NotReadyError(self.no_champion, deployment=self.declared.name)
        why = f"{self.declared.model.name}@{self._version(None)} cannot be loaded"
        return await self._fallback.answer(ask, None, why, "load_failed", error)

    def _version(self, lane: Lane | None) -> int:
        """The version of a lane; for none that of the champion that cannot be loaded."""
        if lane is not None:
            return lane.version.manifest.version
        return self.absent.version if self.absent else 0

    async def _asked(self, ask: Ask, lane: Lane) -> Score:
        """Ask a version, and what falls back where it fails, is late, or may not be asked."""
        circuit = self.circuits[lane.version.label]
        now_us = self.writer.clock.now_us()
        if not circuit.allows(now_us):
            why = f"circuit of {lane.version.label} is open"
            return await self._fallback.answer(ask, lane, why, "circuit_open")
        if is_stale(ask, lane, now_us):
            if self.declared.stale == "refuse":
                return await self._refuse(ask, lane, now_us)
            self.counters.age("served", [age.view for age in stale_ages(ask, lane, now_us)])
        try:
            score = await answer_within(lane, self._lanes.fitted(ask, lane), self._wait_us)
        except (TimeoutError, PenstockError) as error:
            return await self.instead(ask, lane, error)
        self.answered(ask, lane, score)
        return score

    def takes_at_once(self, ask: Ask, lane: Lane) -> bool:
        """Whether a row may be given to a lane at once, of an endpoint that ``is_quick``.

        Nothing but the lane is to be asked then, and nobody has to watch it: its version computes
        in the event loop, its circuit is closed, its features are fresh. Whoever gives it the row,
        by ``give``, calls ``answered`` with its score, or ``instead`` with what went wrong: only
        then is there an answer of the deployment.

        Args:
            ask: The row; features handed in are in the champion's order.
            lane: What ``lane_of`` chose for it.
        """
        if lane.slow or self.circuits[lane.version.label].is_open:
            return False
        return ask.values is not None or not is_stale(ask, lane, ask.arrived_us)

    def give(self, ask: Ask, lane: Lane, waiting: Waiting) -> None:
        """Give a row to a lane that takes it at once."""
        if lane is not self._lanes.champion:
            ask = self._lanes.fitted(ask, lane)
        lane.take(ask, waiting)

    def answered(self, ask: Ask, lane: Lane, score: Score) -> None:
        """Take note that a lane has answered a row; the shadows score it then."""
        if lane.lags:
            self._lagged(lane)
        else:
            self.circuits[lane.version.label].succeeded()
        self.counters.answer(score)
        if ask.unknown:
            self.counters.miss("served")
        if self._keeps:
            self.kept.keep(ask, score)
        if self._lanes.shadows:
            self._shadows.score(ask)

    async def instead(self, ask: Ask, lane: Lane, error: TimeoutError | PenstockError) -> Score:
        """What answers a row that a lane has failed.

        Args:
            ask: The row, as it was asked of the deployment.
            lane: The lane.
            error: What went wrong.

        Raises:
            PenstockError: As ``score`` raises it.
        """
        if isinstance(error, TimeoutError):
            return await self._late(ask, lane)
        if isinstance(error, UnknownEntityError):
            # What is not online is no fault of the version's, so its circuit stays.
            self.counters.miss("refused")
            return await self._fallback.answer(ask, lane, error.message, "unknown_entity", error)
        if isinstance(error, InputError):
            return await self._doubt(ask, lane, error)
        if isinstance(error, (OverloadedError, NotLoggedError)):
            # The version is not at fault, and what falls back would meet the same.
            self._count_failure(lane, error.kind)
            raise error
        why = reason_of(error)
        self._breached(lane, error.kind, why)
        return await self._fallback.answer(ask, lane, why, "failed", error)

    async def _late(self, ask: Ask, lane: Lane) -> Score:
        """Answer for a version that is late; it is not at fault while the features are away."""
        away = lane.away if ask.values is None else None
        if away is not None:
            self._count_failure(lane, away.kind)
            return await self._fallback.answer(ask, lane, away.message, "failed", away)
        why = f"{lane.version.label} was later than {self._wait_us / 1000:g} ms"
        self._breached(lane, "late", why)
        return await self._fallback.answer(ask, lane, why, "late")

    async def score_by(self, ask: Ask, lane: Lane) -> Score:
        """Score one row with the version that the client names: nothing else answers for it.

        What that version gave before counts as its answer where the routes, or after a failure the
        fallback, answer with such scores.

        Args:
            ask: The row; features handed in are in that version's order.
            lane: One of ``versions``.

        Raises:
            InputError: The model has no finite prediction for the row, or no probability.
            UnknownEntityError: Nothing is online of its entities, and the deployment refuses those.
            StaleError: Its features are older than allowed, and the deployment refuses those.
            UnavailableError: The version failed or was late.
        """
        is_champion = lane is self._lanes.champion
        return await self._by_version.score(ask, lane, is_champion=is_champion)

    async def _refuse(self, ask: Ask, lane: Lane, now_us: int) -> Score:
        """Do not answer from stale features; the version is not at fault, so its circuit stays."""
        stale = stale_ages(ask, lane, now_us)
        self.counters.age("refused", [age.view for age in stale])
        error = stale[0].error(ask.at_us or now_us)
        return await self._fallback.answer(ask, lane, error.message, "stale", error)

    async def _doubt(self, ask: Ask, lane: Lane, error: InputError) -> Score:
        """Find out who is at fault for a row without a prediction: the row, or the version.

        Where the version before has one for the same row, it is the version.
        """
        previous = self._fallback.before(lane)
        if previous is None or is_rows_fault(error):
            self._count_failure(lane, error.kind)
            raise error
        try:
            score = await self._fallback.ask_before(ask, previous, error.message, self._deadline_us)
        except UnknownEntityError:
            score = None
        if score is None:
            self._count_failure(lane, error.kind)
            raise error
        self._breached(lane, error.kind, error.message)
        self.counters.fall_back("previous", "failed")
        self.counters.answer(score)
        return score

    def _breached(self, lane: Lane, kind: str, why: str) -> None:
        """Remember that a version failed or was late."""
        self._count_failure(lane, kind)
        self._blame(lane, why)

    def _lagged(self, lane: Lane) -> None:
        """Remember that a version took longer than it may over what it has answered."""
        self.counters.lag(lane.route, lane.version.manifest.version)
        self._blame(lane, f"{lane.version.label} took longer than {lane.slow_us / 1000:g} ms")

    def _blame(self, lane: Lane, why: str) -> None:
        """Hold it against a version; a champion that goes on so is no good."""
        circuit = self.circuits[lane.version.label]
        circuit.failed(self.writer.clock.now_us())
        if not (circuit.is_confirmed and self._returns and lane is self._lanes.champion):
            return
        previous = self.lanes.get(PREVIOUS)
        if previous is None or not self.circuits[previous.version.label].is_open:
            self.breach = Breach(lane.version.manifest.version, why)

    def _count_failure(self, lane: Lane, kind: str) -> None:
        self.counters.fail(lane.route, lane.version.manifest.version, kind)

    def lane_of(self, ask: Ask) -> Lane | None:
        """The lane that the routes choose for a row; for one without a key it is drawn.

        None for what would be the champion's, while that cannot be loaded.

        Args:
            ask: The row; features handed in are in the champion's order. Its ``reason`` is set.

        Raises:
            NotReadyError: Nothing has been deployed.
            InputError: A value has not the type that a rule of the routes takes.
            UserCodeError: A function in a rule failed.
        """
        champion = self._lanes.champion
        if champion is None and self.absent is None:
            raise NotReadyError(self.no_champion, deployment=self.declared.name)
        if self._table.is_plain:
            return champion
        chosen = self._table.choose(ask, self.writer.ids)
        lane = self.lanes.get(chosen.name)
        if lane is None:
            return champion  # it leads to no version yet
        # A challenger that needs what was not handed in leaves the row to the champion.
        if not self._lanes.usable(ask, lane):
            return champion
        ask.reason = chosen.why
        return lane
