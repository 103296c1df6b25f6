"""What answers in the place of a version that is late, fails, or may not be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from penstock.errors import (
    NotLoggedError,
    OverloadedError,
    PenstockError,
    UnavailableError,
    UnknownEntityError,
    UserCodeError,
)

from .lanes import PREVIOUS, answer_within, is_rows_fault, is_stale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.records import Score
    from penstock.spec import Deployment, FallbackStep

    from .ask import Ask, Writer
    from .circuit import Circuit
    from .counts import Cause, Counters
    from .lane import Lane
    from .lanes import Lanes
    from .substitutes import Substitutes

__all__ = ["FallbackChain", "reason_of", "reserve_of"]

RESERVE_SHARE, LONGEST_RESERVE_US = 5, 10_000


def reserve_of(deadline_us: int) -> int:
    """How much of a deadline is left to what falls back: it needs time as well."""
    return min(deadline_us // RESERVE_SHARE, LONGEST_RESERVE_US)


class FallbackChain:
    """The steps that a deployment falls back by, in order. Used from one event loop.

    Args:
        declared: The deployment.
        lanes: Its lanes.
        circuits: Those of the lanes, by the version's label.
        writer: Where scores go.
        counters: What the deployment has done so far.
        substitutes: What answers without a version.
        deadline_us: How long an answer may take in all.

    Attributes:
        reserve_us: How much of that is left to what falls back; 0 where nothing can.
        keeps: Whether a step answers with the last score.
    """

    def __init__(  # noqa: PLR0913 - what a deployment is made of
        self,
        declared: Deployment,
        lanes: Lanes,
        circuits: Mapping[str, Circuit],
        writer: Writer,
        *,
        counters: Counters,
        substitutes: Substitutes,
        deadline_us: int,
    ) -> None:
        self._declared = declared
        self._lanes = lanes
        self._circuits = circuits
        self._writer = writer
        self._counters = counters
        self._substitutes = substitutes
        self._deadline_us = deadline_us
        fallback = declared.fallback
        self._steps: tuple[FallbackStep, ...] = fallback.steps if fallback else ()
        others = len(lanes.versions) > 1 or any(step != PREVIOUS for step in self._steps)
        self.reserve_us = reserve_of(deadline_us) if fallback and others else 0
        self.keeps = "cached" in self._steps

    async def answer(
        self,
        ask: Ask,
        lane: Lane | None,
        why: str,
        cause: Cause,
        error: PenstockError | None = None,
    ) -> Score:
        """Try what falls back, in order; fail where nothing answers.

        Args:
            ask: The row, as it was asked of the champion.
            lane: What should have answered; none for a champion that cannot be loaded.
            why: Why it does not, for the score.
            cause: The same, for the counters.
            error: What to raise where nothing answers.

        Raises:
            NotLoggedError: What answers cannot be logged.
            PenstockError: Nothing answers: ``error``; where there is none ``UnknownEntityError`` if
                a version refused the row, else ``UnavailableError``.
        """
        shut = [] if _lacks_features(ask, lane) else self._shut(lane, cause)
        unknown: UnknownEntityError | None = None
        for step in self._steps:
            try:
                score = await self._step(ask, lane, why, step)
            except UnknownEntityError as refused:
                unknown = unknown or refused
                continue
            if score is not None:
                self._counters.fall_back(step, cause)
                self._counters.answer(score)
                return score
        for resort in shut:
            try:
                score = await self._insist(ask, resort, why)
            except UnknownEntityError as refused:
                unknown = unknown or refused
                continue
            if score is not None:
                if resort is not lane:
                    self._counters.fall_back(PREVIOUS, cause)
                self._counters.answer(score)
                return score
        if error is not None:
            raise error
        if unknown is not None:
            # To try again, as whoever finds a version away is told, would come to the same.
            self._counters.miss("refused")
            raise unknown
        raise UnavailableError(
            f"No answer: {why}, and nothing falls back. Try again, declare a fallback, or run "
            f"'penstock rollback {self._declared.name}'.",
            deployment=self._declared.name,
            retry_after_s=1,
        )

    def before(self, lane: Lane | None) -> Lane | None:
        """The version that answers for a lane; none where no step asks one.

        Args:
            lane: The lane; none for a champion that cannot be loaded.
        """
        return self._lanes.before(lane) if PREVIOUS in self._steps else None

    async def ask_before(self, ask: Ask, before: Lane, why: str, wait_us: int) -> Score | None:
        """What another version answers; none where it may not be asked, fails or is late.

        Args:
            ask: The row, as it was asked of the champion.
            before: The version to ask.
            why: Why it is asked, for the score.
            wait_us: How long it may take.

        Raises:
            UnknownEntityError: It refuses the row, of whose entities nothing is online.
        """
        if not self._lanes.usable(ask, before):
            return None
        now_us = self._writer.clock.now_us()
        if self._declared.stale == "refuse" and is_stale(ask, before, now_us):
            return None
        circuit = self._circuits[before.version.label]
        if not circuit.allows(now_us):
            return None
        score, blamed = await self._try(ask, before, why, wait_us)
        if score is not None and not before.lags:
            circuit.succeeded()
        elif blamed or score is not None:
            circuit.failed(self._writer.clock.now_us())
        return score

    async def _step(
        self, ask: Ask, lane: Lane | None, why: str, step: FallbackStep
    ) -> Score | None:
        """What one step answers; none for nothing."""
        if step != PREVIOUS:
            return self._substitutes.step(ask, step, why)
        before = self.before(lane)
        if before is None or _lacks_features(ask, lane):
            return None
        wait_us = self.reserve_us
        if step == self._steps[-1]:
            wait_us = self._deadline_us
        elif lane is None:  # nobody has been waited for yet
            wait_us = self._deadline_us - self.reserve_us
        return await self.ask_before(ask, before, why, wait_us)

    async def _try(self, ask: Ask, lane: Lane, why: str, wait_us: int) -> tuple[Score | None, bool]:
        """What a version answers, if it does; and where not, whether it is at fault.

        Raises:
            UnknownEntityError: It refuses the row.
        """
        try:
            values = self._lanes.fitted(ask, lane).values
            again = ask.again(values=values, reason=why)
            score = await answer_within(lane, again, wait_us)
        except (NotLoggedError, UnknownEntityError):
            raise  # so it would be with whatever answers; or the row is at fault
        except (TimeoutError, PenstockError) as error:
            kind = getattr(error, "kind", "late")
            self._counters.fail(lane.route, lane.version.manifest.version, kind)
            at_fault = not isinstance(error, OverloadedError) and not is_rows_fault(error)
            return None, at_fault and (lane.away is None or ask.values is not None)
        if again.unknown:
            self._counters.miss("served")
        if lane.lags:
            self._counters.lag(lane.route, lane.version.manifest.version)
        return score, False

    def _shut(self, lane: Lane | None, cause: Cause) -> list[Lane]:
        """The version to ask in spite of its circuit where nothing else answers, if any.

        A circuit spares callers the wait for a version that will not answer; it is no reason to
        answer nothing. A stall of the machine opens that of a good version as well: of two that are
        shut the one is asked whose failures are not confirmed.
        """
        asked = [lane] if lane and cause == "circuit_open" and self._steps else []
        before = self.before(lane)
        if before is not None and self._circuits[before.version.label].is_open:
            asked.insert(0, before)
        return sorted(asked, key=lambda one: self._circuits[one.version.label].is_confirmed)[:1]

    async def _insist(self, ask: Ask, lane: Lane, why: str) -> Score | None:
        """Ask a version in spite of its circuit, for as long as is left of the deadline.

        An answer in time closes the circuit; a failure, or an answer that is slow, is none of the
        tries that prove a version no good.
        """
        now_us = self._writer.clock.now_us()
        wait_us = ask.arrived_us + self._deadline_us - now_us
        stale = self._declared.stale == "refuse" and is_stale(ask, lane, now_us)
        if wait_us <= 0 or stale or not self._lanes.usable(ask, lane):
            return None
        score, _ = await self._try(ask, lane, why, wait_us)
        if score is not None and not lane.lags:
            self._circuits[lane.version.label].succeeded()
        return score


def _lacks_features(ask: Ask, lane: Lane | None) -> bool:
    """Whether the store is away that the row's features are in: other versions miss it too."""
    return lane is not None and lane.away is not None and ask.values is None


def reason_of(error: PenstockError) -> str:
    """Why a fallback answers, as callers and the score are told: without words of user code.

    Those may hold values of features; the log of the process has them. The circuit bounds how
    often.
    """
    if not isinstance(error, UserCodeError):
        return error.message
    structlog.get_logger("penstock.scoring").warning("a version failed", error=error.message)
    return error.plain
