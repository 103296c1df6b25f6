"""Scores of a version that the client names: nothing but that version answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import (
    InputError,
    NotLoggedError,
    OverloadedError,
    PenstockError,
    UnavailableError,
    UnknownEntityError,
)

from .fallback import reason_of
from .lanes import answer_within, is_stale, stale_ages

if TYPE_CHECKING:
    from penstock.records import Score
    from penstock.spec import Deployment

    from .ask import Ask, Writer
    from .at_once import AtOnce
    from .counts import Cause, Counters
    from .kept import KeptScores
    from .lane import Lane
    from .substitutes import Substitutes

__all__ = ["ByVersion"]


class ByVersion:
    """Asks the version that a client names. Used from one event loop.

    What that version has given already counts as its answer, where the deployment answers with
    such scores: at once by its routes, or after a failure by its fallback. No other version and no
    constant answers.

    Args:
        declared: The deployment.
        writer: Where scores go.
        counters: What the deployment has done so far.
        at_once: Scores that are there already.
        substitutes: What answers without a version.
        kept: Where scores are kept to answer again; none where nothing answers with them.
        deadline_us: How long an answer may take in all.
    """

    def __init__(  # noqa: PLR0913 - what a deployment is made of
        self,
        declared: Deployment,
        writer: Writer,
        counters: Counters,
        *,
        at_once: AtOnce,
        substitutes: Substitutes,
        kept: KeptScores | None,
        deadline_us: int,
    ) -> None:
        self._declared = declared
        self._writer = writer
        self._counters = counters
        self._at_once = at_once
        self._substitutes = substitutes
        self._kept = kept
        self._deadline_us = deadline_us

    async def score(self, ask: Ask, lane: Lane, *, is_champion: bool) -> Score:
        """Score one row; see ``Endpoint.score_by``.

        Args:
            ask: The row; features handed in are in that version's order.
            lane: The version's.
            is_champion: Whether it is the champion's.
        """
        if self._at_once.is_on:
            number = lane.version.manifest.version
            there = await self._at_once.answer(ask, number, is_champion=is_champion)
            if there is not None:
                return there
        now_us = self._writer.clock.now_us()
        if is_stale(ask, lane, now_us):
            stale = stale_ages(ask, lane, now_us)
            refuses = self._declared.stale == "refuse"
            self._counters.age("refused" if refuses else "served", [age.view for age in stale])
            if refuses:
                error = stale[0].error(ask.at_us or now_us)
                return self._again(ask, lane, error, "stale", error.message)
        try:
            score = await answer_within(lane, ask, self._deadline_us)
        except PenstockError as error:
            return self._failed(ask, lane, error)
        except TimeoutError:
            return self._late(ask, lane)
        self._counters.answer(score)
        if ask.unknown:
            self._counters.miss("served")
        if self._kept is not None:
            self._kept.keep(ask, score)
        return score

    def _failed(self, ask: Ask, lane: Lane, error: PenstockError) -> Score:
        if isinstance(error, UnknownEntityError):
            self._counters.miss("refused")
            return self._again(ask, lane, error, "unknown_entity", error.message)
        self._count(lane, error.kind)
        if isinstance(error, (InputError, NotLoggedError, OverloadedError)):
            raise error  # the version is not at fault
        return self._again(ask, lane, error, "failed", reason_of(error))

    def _late(self, ask: Ask, lane: Lane) -> Score:
        if lane.away is not None and ask.values is None:
            self._count(lane, lane.away.kind)
            return self._again(ask, lane, lane.away, "failed", lane.away.message)
        self._count(lane, "late")
        why = f"{lane.version.label} was later than {self._deadline_us / 1000:g} ms"
        error = UnavailableError(
            f"{why}. Try again, or name no version, so that a fallback may answer.",
            retry_after_s=1,
        )
        return self._again(ask, lane, error, "late", why)

    def _again(self, ask: Ask, lane: Lane, error: PenstockError, cause: Cause, why: str) -> Score:
        """The last score of the same request by the version, where a fallback answers with it.

        Raises:
            PenstockError: ``error``, where there is none.
        """
        score = self._substitutes.last(ask, why, version=lane.version.manifest.version)
        if score is None:
            raise error from None
        self._counters.fall_back("cached", cause)
        self._counters.answer(score)
        return score

    def _count(self, lane: Lane, kind: str) -> None:
        self._counters.fail(lane.route, lane.version.manifest.version, kind)
