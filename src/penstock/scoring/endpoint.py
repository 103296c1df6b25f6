"""A deployment as it is served: its routes, its fallback, its shadows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from penstock.errors import (
    InputError,
    NotReadyError,
    OverloadedError,
    PenstockError,
    UnavailableError,
    UserCodeError,
)
from penstock.records import Score

from .circuit import Circuit
from .kept import KeptScores
from .lane import LONGEST_WAIT_US, expire
from .routes import RouteTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.spec import Deployment, FallbackStep

    from .ask import Ask, Writer
    from .counts import Cause, Counters
    from .lane import Lane
    from .served import ServedVersion

__all__ = ["PREVIOUS", "Breach", "Endpoint"]

PREVIOUS = "previous"
RESERVE_SHARE, LONGEST_RESERVE_US = 5, 10_000


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

    Attributes:
        headers: Names of the headers that its routes ask for.
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
    ) -> None:
        self.kept = kept or KeptScores()
        self.declared = declared
        self.lanes = lanes
        self.writer = writer
        self.counters = counters
        # A version that was away begins anew: somebody has brought it back.
        labels = {lane.version.label for lane in lanes.values()}
        self.circuits = {label: circuits.get(label) or Circuit() for label in sorted(labels)}
        self.reason = reason
        self._table = RouteTable(declared)
        self._fallback = declared.fallback
        self.breach: Breach | None = None
        self._deadline_us = self._fallback.deadline_us if self._fallback else LONGEST_WAIT_US
        # What falls back needs time as well, and the client's deadline is one.
        reserve_us = min(self._deadline_us // RESERVE_SHARE, LONGEST_RESERVE_US)
        self._reserve_us = reserve_us if self._fallback else 0
        self._wait_us = self._deadline_us - self._reserve_us
        self.headers = self._table.headers
        self._steps: tuple[FallbackStep, ...] = self._fallback.steps if self._fallback else ()
        ages = [route.max_age_us for route in declared.routes if route.role == "cached"]
        self._again_us = ages[0] if ages else 0
        self._keeps = bool(ages) or "cached" in self._steps
        self._shadows = [lane for role, lane in lanes.items() if role.startswith("shadow")]
        champion = lanes.get("champion")
        self._orders = {
            lane.version.label: _order(champion.version, lane.version) if champion else None
            for lane in lanes.values()
        }
        self._askable = {
            lane.version.label
            for lane in lanes.values()
            if champion and lane.version.takes.items() <= champion.version.takes.items()
        }
        self._returns = declared.on_breach == "return" and not any(
            route.version for route in declared.routes if route.role == "champion"
        )
        for lane in lanes.values():
            lane.deadline_us = self._deadline_us

    @property
    def champion(self) -> ServedVersion | None:
        """The version that answers by default; none before the first deployment."""
        lane = self.lanes.get("champion")
        return lane.version if lane else None

    @property
    def versions(self) -> dict[int, Lane]:
        """The lanes that may answer, by the number of their version; shadows may not."""
        answering = [lane for role, lane in self.lanes.items() if not role.startswith("shadow")]
        # Where a version has two roles, the first declared speaks for it.
        return {lane.version.manifest.version: lane for lane in reversed(answering)}

    @property
    def shares(self) -> dict[str, float]:
        """Share of the entities of each route that answers, by its name."""
        routes = self.declared.named_routes
        found = {name: one.share for name, one in routes.items() if one.role == "challenger"}
        return {"champion": 1.0 - sum(found.values()), **found}

    @property
    def no_champion(self) -> str:
        """What to say while there is no champion."""
        return self.reason or (
            f"Nothing has been deployed on {self.declared.name!r} yet. Run 'penstock train "
            f"{self.declared.model.name}', then 'penstock deploy {self.declared.name}'."
        )

    async def score(self, ask: Ask) -> Score:
        """Score one row.

        Args:
            ask: The row; features handed in are in the champion's order.

        Raises:
            NotReadyError: Nothing has been deployed.
            InputError: The model has no finite prediction for the row.
            StaleError: Its features are older than allowed, the deployment refuses those, and
                nothing falls back.
            OverloadedError: Too many rows wait; another version would only be the next to be late.
            UnavailableError: The version failed or was late, and so was every fallback.
        """
        lane = self._lane(ask)
        again = self._again(ask, lane) if self._again_us else None
        return again or await self._asked(ask, lane)

    async def _asked(self, ask: Ask, lane: Lane) -> Score:
        """Ask a version, and what falls back where it fails, is late, or may not be asked."""
        circuit = self.circuits[lane.version.label]
        now_us = self.writer.clock.now_us()
        if not circuit.allows(now_us):
            why = f"circuit of {lane.version.label} is open"
            return await self._fall_back(ask, lane, why, "circuit_open")
        if _is_stale(ask, lane, now_us):
            if self.declared.stale == "refuse":
                return await self._refuse(ask, lane, now_us)
            self.counters.stale["served"] += 1
        try:
            score = await self._within(lane, self._for(ask, lane), self._wait_us)
        except TimeoutError:
            why = f"{lane.version.label} was later than {self._wait_us / 1000:g} ms"
            self._breached(lane, "late", why)
            return await self._fall_back(ask, lane, why, "late")
        except InputError as error:
            return await self._doubt(ask, lane, error)
        except OverloadedError as error:
            self._count_failure(lane, error.kind)
            raise  # there are too many; the version is not at fault
        except PenstockError as error:
            why = _reason(error)
            self._breached(lane, error.kind, why)
            return await self._fall_back(ask, lane, why, "failed", error)
        circuit.succeeded()
        self.counters.answer(score)
        if self._keeps:
            self.kept.keep(ask, score)
        if self._shadows:
            self._shadow(ask)
        return score

    async def score_by(self, ask: Ask, lane: Lane) -> Score:
        """Score one row with the version that the client names: nothing else answers for it.

        Args:
            ask: The row; features handed in are in that version's order.
            lane: One of ``versions``.

        Raises:
            InputError: The model has no finite prediction for the row.
            StaleError: Its features are older than allowed, and the deployment refuses those.
            UnavailableError: The version failed or was late.
        """
        now_us = self.writer.clock.now_us()
        if self.declared.stale == "refuse" and _is_stale(ask, lane, now_us):
            moment_us = ask.at_us or now_us
            raise next(age for age in lane.version.ages if age.is_stale(moment_us)).error(moment_us)
        try:
            score = await self._within(lane, ask, self._deadline_us)
        except PenstockError as error:
            self._count_failure(lane, error.kind)
            raise
        except TimeoutError:
            self._count_failure(lane, "late")
            raise UnavailableError(
                f"{lane.version.label} was later than {self._deadline_us / 1000:g} ms. Try again, "
                "or name no version, so that a fallback may answer.",
                retry_after_s=1,
            ) from None
        self.counters.answer(score)
        return score

    async def _refuse(self, ask: Ask, lane: Lane, now_us: int) -> Score:
        """Do not answer from stale features; the version is not at fault, so its circuit stays."""
        self.counters.stale["refused"] += 1
        moment_us = ask.at_us or now_us
        stale = [age for age in lane.version.ages if age.is_stale(moment_us)]
        error = stale[0].error(moment_us)
        return await self._fall_back(ask, lane, error.message, "stale", error)

    async def _doubt(self, ask: Ask, lane: Lane, error: InputError) -> Score:
        """Find out who is at fault for a row without a prediction: the row, or the version.

        Where the version before has one for the same row, it is the version.
        """
        previous = self._before(lane)
        if previous is None or "no_value" not in error.facts:
            self._count_failure(lane, error.kind)
            raise error
        score = await self._ask_previous(ask, previous, error.message, self._deadline_us)
        if score is None:
            self._count_failure(lane, error.kind)
            raise error
        self._breached(lane, error.kind, error.message)
        self.counters.fall_back("previous", "failed")
        self.counters.answer(score)
        return score

    def _breached(self, lane: Lane, kind: str, why: str) -> None:
        """Remember that a version failed or was late; a champion that goes on so is no good."""
        circuit = self.circuits[lane.version.label]
        circuit.failed(self.writer.clock.now_us())
        self._count_failure(lane, kind)
        if not (circuit.is_confirmed and self._returns and lane is self.lanes["champion"]):
            return
        previous = self.lanes.get(PREVIOUS)
        if previous is None or not self.circuits[previous.version.label].is_open:
            self.breach = Breach(lane.version.manifest.version, why)

    def _before(self, lane: Lane) -> Lane | None:
        """What answers for a lane, if any version: the champion for a challenger, else previous."""
        champion = self.lanes.get("champion")
        if PREVIOUS not in self._steps:
            return None
        previous = self.lanes.get(PREVIOUS) if lane is champion else champion
        return None if previous is lane else previous

    def _count_failure(self, lane: Lane, kind: str) -> None:
        self.counters.fail(lane.route, lane.version.manifest.version, kind)

    def _lane(self, ask: Ask) -> Lane:
        champion = self.lanes.get("champion")
        if champion is None:
            raise NotReadyError(self.no_champion, deployment=self.declared.name)
        if self._table.is_plain:
            return champion
        chosen = self._table.choose(ask, self.writer.ids)
        lane = self.lanes.get(chosen.name)
        if lane is None:
            return champion  # it leads to no version yet
        # A challenger that needs what was not handed in leaves the row to the champion.
        if not self._usable(ask, lane):
            return champion
        ask.reason = chosen.why
        return lane

    def _usable(self, ask: Ask, lane: Lane) -> bool:
        """Whether a request made for the champion says what the lane's version needs."""
        label = lane.version.label
        return label in self._askable if ask.values is None else self._orders[label] is not None

    def _for(self, ask: Ask, lane: Lane) -> Ask:
        """The row as the lane's version wants it."""
        order = self._orders[lane.version.label]
        if ask.values is None or order is None or lane is self.lanes["champion"]:
            return ask
        values = ask.values
        return ask.again(values=tuple([values[place] for place in order]), reason=ask.reason)

    async def _within(self, lane: Lane, ask: Ask, wait_us: int) -> Score:
        """Ask a lane; ``TimeoutError`` when it is late.

        A version that computes in the event loop is either done in time or has held up the clock
        as well, so only those in threads are watched.
        """
        future = lane.submit(ask)
        if not lane.slow:
            return await future
        loop = asyncio.get_running_loop()
        timer = loop.call_later(wait_us / 1e6, expire, future)
        try:
            return await future
        finally:
            timer.cancel()

    async def _fall_back(
        self, ask: Ask, lane: Lane, why: str, cause: Cause, error: PenstockError | None = None
    ) -> Score:
        """Try what falls back, in order; fail where nothing answers."""
        for step in self._steps:
            score = await self._step(ask, lane, why, step)
            if score is not None:
                self.counters.fall_back(step, cause)
                self.counters.answer(score)
                return score
        if error is not None:
            raise error
        raise UnavailableError(
            f"No answer: {why}, and nothing falls back. Try again, declare a fallback, or run "
            f"'penstock rollback {self.declared.name}'.",
            deployment=self.declared.name,
            retry_after_s=1,
        )

    async def _step(self, ask: Ask, lane: Lane, why: str, step: FallbackStep) -> Score | None:
        """What one step of the fallback answers; none for nothing."""
        fallback = self.declared.fallback
        if fallback is None:
            return None
        if step == "constant":
            return (
                None if fallback.value is None else self._constant(ask, lane, fallback.value, why)
            )
        if step == "cached":
            now_us = self.writer.clock.now_us()
            found = self.kept.find(ask, now_us=now_us, max_age_us=fallback.max_age_us)
            return None if found is None else self._repeat(ask, found, f"{why}; ", now_us)
        previous = self._before(lane)
        if previous is None:
            return None
        wait_us = self._deadline_us if step == self._steps[-1] else self._reserve_us
        return await self._ask_previous(ask, previous, why, wait_us)

    def _again(self, ask: Ask, lane: Lane) -> Score | None:
        """The last score of the same request by the same version, while it is young enough."""
        now_us = self.writer.clock.now_us()
        found = self.kept.find(
            ask, now_us=now_us, max_age_us=self._again_us, version=lane.version.manifest.version
        )
        if found is None:
            return None
        score = self._repeat(ask, found, "", now_us)
        self.counters.answer(score)
        return score

    def _repeat(self, ask: Ask, score: Score, why: str, now_us: int) -> Score:
        """Answer with a score that was given before, under an id of its own."""
        age_us = now_us - score.scored_at_us
        again: Score = msgspec.structs.replace(
            score,
            prediction_id=self.writer.ids.new(),
            route="cached",
            scored_at_us=now_us,
            duration_us=now_us - ask.arrived_us,
            reason=f"{why}score {score.prediction_id} of {age_us / 1e6:.3g} s before",
            request_id=ask.request_id,
        )
        self.writer.log.append([again])
        return again

    async def _ask_previous(self, ask: Ask, previous: Lane, why: str, wait_us: int) -> Score | None:
        if not self._usable(ask, previous):
            return None
        now_us = self.writer.clock.now_us()
        if self.declared.stale == "refuse" and _is_stale(ask, previous, now_us):
            return None
        values = self._for(ask, previous).values
        circuit = self.circuits[previous.version.label]
        if not circuit.allows(now_us):
            return None
        try:
            wanted = ask.again(values=values, reason=why)
            score = await self._within(previous, wanted, wait_us)
        except (TimeoutError, PenstockError) as error:
            if not isinstance(error, OverloadedError):
                circuit.failed(self.writer.clock.now_us())
            self._count_failure(previous, getattr(error, "kind", "late"))
            return None
        circuit.succeeded()
        return score

    def _constant(self, ask: Ask, lane: Lane, value: float, why: str) -> Score:
        now_us = self.writer.clock.now_us()
        score = Score(
            prediction_id=self.writer.ids.new(),
            deployment=self.declared.name,
            model=lane.version.manifest.model,
            version=0,
            route="fallback",
            engine="constant",
            entity="" if ask.key is None else str(ask.key),
            at_us=ask.at_us or now_us,
            features=ask.values or (),
            prediction=value,
            scored_at_us=now_us,
            duration_us=now_us - ask.arrived_us,
            origin="online" if ask.values is None else "request",
            reason=why,
            request_id=ask.request_id,
            given=ask.given if ask.values is None else {},
        )
        self.writer.log.append([score])
        return score

    def _shadow(self, ask: Ask) -> None:
        """Let the shadows score the row too; nobody waits for them."""
        for lane in self._shadows:
            if not self._usable(ask, lane):
                self.counters.shadows_dropped += 1
                continue
            values = self._for(ask, lane).values
            lane.submit(ask.again(values=values)).add_done_callback(self._shadowed)

    def _shadowed(self, future: asyncio.Future[Score]) -> None:
        if future.cancelled() or future.exception() is not None:
            self.counters.shadows_dropped += 1


def _reason(error: PenstockError) -> str:
    """Why a fallback answers, as callers and the score are told: without words of user code.

    Those may hold values of features; the log of the process has them. The circuit bounds how
    often.
    """
    if not isinstance(error, UserCodeError):
        return error.message
    structlog.get_logger("penstock.scoring").warning("a version failed", error=error.message)
    return error.plain


def _is_stale(ask: Ask, lane: Lane, now_us: int) -> bool:
    """Whether features are to be looked up that are older than their views allow."""
    return ask.values is None and (ask.at_us or now_us) > lane.version.fresh_until_us


def _order(champion: ServedVersion, other: ServedVersion) -> list[int] | None:
    """Places of a version's features among the champion's; none when some are missing there."""
    place = {name: index for index, name in enumerate(champion.features)}
    if any(name not in place for name in other.features):
        return None
    return [place[name] for name in other.features]
